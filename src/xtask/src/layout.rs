//! `cargo xtask layout`: writes `src/server/layout.ld`, by which the linker puts the functions of
//! `countersign` that run side by side.
//!
//! The kernel maps a program's file 64 kB at a time. What a start runs is a quarter of the code, and
//! spread over all of it, so that nearly all of it would be resident. Valgrind sees which functions
//! run: first those of a start and of rest, then those of calls, of a proposal and of its approval.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

/// What runs beside `countersign`, which itself runs under valgrind.
const BESIDE: &[&str] = &["bench", "countersign-executor", "countersign-playground"];

/// Where `cargo build --release` put the programs; where the script goes.
pub fn write(release: &Path, script: &Path) -> Result<()> {
    let stage = Stage::new(release)?;
    let start = stage.seen("start")?;
    let calls = stage.seen("calls")?;
    ensure!(
        start.len() > 1_000,
        "only {} functions were seen in a start",
        start.len()
    );
    let twins = twins(&stage.server)?;
    let start = patterns(&start, &twins);
    let calls: Vec<String> = patterns(&calls, &twins)
        .difference(&start)
        .cloned()
        .collect();
    let mut text = String::from(
        "/* Functions that run, made by `cargo xtask layout` (see there for why); not to be edited. A name that\n   \
         nothing has any more does nothing, and a function that is not named stands with the others. */\n\
         SECTIONS\n{\n  .text.run :\n  {\n    *(.text.startup .text.startup.*)\n    /* In a start and at rest. */\n",
    );
    for name in &start {
        line(&mut text, name)?;
    }
    text.push_str("    /* In calls, a proposal and its approval. */\n");
    for name in &calls {
        line(&mut text, name)?;
    }
    text.push_str("  }\n}\nINSERT BEFORE .text;\n");
    std::fs::write(script, text).with_context(|| format!("cannot write {}", script.display()))?;
    eprintln!(
        "{}: {} functions of a start, {} more of calls",
        script.display(),
        start.len(),
        calls.len()
    );
    Ok(())
}

/// The compiler puts what it takes for unlikely, such as the growth of a list, into sections of
/// another name.
fn line(text: &mut String, name: &str) -> std::fmt::Result {
    writeln!(text, "    *(.text.{name} .text.unlikely.{name})")
}

/// With all names that the code of these functions has: its section bears one of them.
fn patterns(seen: &BTreeSet<String>, twins: &HashMap<String, Vec<String>>) -> BTreeSet<String> {
    let all = seen.iter().flat_map(|name| {
        let twins = twins.get(name).into_iter().flatten();
        std::iter::once(name).chain(twins)
    });
    all.map(|name| pattern(name)).collect()
}

/// The names of each function whose code serves several: equal functions are made one.
fn twins(program: &Path) -> Result<HashMap<String, Vec<String>>> {
    let output = Command::new("nm").arg(program).output().context("nm")?;
    ensure!(output.status.success(), "nm cannot read the program");
    let text = String::from_utf8(output.stdout)?;
    let mut by_address: HashMap<&str, Vec<&str>> = HashMap::new();
    for line in text.lines() {
        if let [address, kind, name] = line.split_whitespace().collect::<Vec<_>>()[..]
            && matches!(kind, "t" | "T" | "w" | "W")
        {
            by_address.entry(address).or_default().push(name);
        }
    }
    let several = by_address.into_values().filter(|names| names.len() > 1);
    Ok(several
        .flat_map(|names| {
            let all: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            names
                .into_iter()
                .map(move |name| (name.to_owned(), all.clone()))
        })
        .collect())
}

/// A folder with the programs as they are built, and a `countersign` that is a script.
struct Stage {
    folder: PathBuf,
    /// The program that runs under valgrind.
    server: PathBuf,
}

impl Stage {
    fn new(release: &Path) -> Result<Self> {
        let server = release.join("countersign");
        let folder = release.join("layout");
        if folder.exists() {
            std::fs::remove_dir_all(&folder)?;
        }
        std::fs::create_dir_all(&folder)?;
        for program in BESIDE {
            // A hard link: each program looks for the others beside itself.
            std::fs::hard_link(release.join(program), folder.join(program))
                .with_context(|| format!("cannot link {program}"))?;
        }
        let script = format!(
            "#!/bin/sh\nexec valgrind --quiet --tool=callgrind --demangle=no \
             --callgrind-out-file='{}' '{}' \"$@\"\n",
            folder.join("seen").display(),
            server.display(),
        );
        let wrapper = folder.join("countersign");
        std::fs::write(&wrapper, script)?;
        let made = Command::new("chmod").arg("+x").arg(&wrapper).status()?;
        ensure!(made.success(), "cannot make {} run", wrapper.display());
        Ok(Self { folder, server })
    }

    /// The functions of the server that run while the bench plays `part`.
    fn seen(&self, part: &str) -> Result<BTreeSet<String>> {
        eprintln!("==> {part}, under valgrind");
        let status = Command::new(self.folder.join("bench")).arg(part).status()?;
        if !status.success() {
            bail!("the bench's `{part}` failed; is valgrind installed (Debian package valgrind)?");
        }
        let file = self.folder.join("seen");
        let profile = std::fs::read_to_string(&file)
            .with_context(|| format!("valgrind wrote no {}", file.display()))?;
        std::fs::remove_file(&file)?;
        Ok(functions(&profile, &self.server.display().to_string()))
    }
}

/// The functions of one program in a profile of callgrind. Its format gives each name once, with a
/// number: `ob=(3) /path/of/program`, `fn=(17) name`, later only `fn=(17)`; what is called stands in
/// `cob=` and `cfn=`, which share the numbers.
fn functions(profile: &str, program: &str) -> BTreeSet<String> {
    let mut objects = Vec::new();
    let mut names = Vec::new();
    let mut object = None;
    let mut found = BTreeSet::new();
    for line in profile.lines() {
        let Some((key, value)) = line.split_once('=') else {
            continue;
        };
        match key {
            "ob" | "cob" => {
                let number = numbered(value, &mut objects);
                if key == "ob" {
                    object = number;
                }
            }
            "fn" | "cfn" => {
                let number = numbered(value, &mut names);
                let of_program = object.and_then(|object| objects.get(object));
                if key == "fn" && of_program.is_some_and(|object: &String| object == program) {
                    found.extend(number);
                }
            }
            _ => {}
        }
    }
    let name = |number: usize| {
        let name = names.get(number)?;
        // A function that calls itself is `name'2`.
        let name = name.split('\'').next()?;
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
        (!name.is_empty() && !name.starts_with("0x") && name.chars().all(plain))
            .then(|| name.to_owned())
    };
    found.into_iter().filter_map(name).collect()
}

/// The number in `(17) name`; the name, where it stands there, is kept.
fn numbered(value: &str, names: &mut Vec<String>) -> Option<usize> {
    let (number, name) = value.strip_prefix('(')?.split_once(')')?;
    let number: usize = number.parse().ok()?;
    if let Some(name) = name.strip_prefix(' ') {
        if names.len() <= number {
            names.resize(number + 1, String::new());
        }
        names[number] = name.trim().to_owned();
    }
    Some(number)
}

/// The name with `*` for what differs between builds: in Rust's names (v0 mangling) the mark of a
/// crate (`Cs…_`) and the places of repeated parts (`B…_`), which move with it; in all of them what
/// the link-time optimizer appends.
fn pattern(name: &str) -> String {
    let name = name.split(".llvm.").next().unwrap_or(name);
    if !name.starts_with("_R") {
        return name.to_owned() + "*";
    }
    let mut text = String::new();
    let mut rest = name;
    while let Some(first) = rest.chars().next() {
        let mark = ["Cs", "B"].into_iter().find_map(|mark| {
            let after = rest.strip_prefix(mark)?;
            let end = after.find('_')?;
            let base62 = after[..end].chars().all(|c| c.is_ascii_alphanumeric());
            (base62 && end <= if mark == "B" { 3 } else { 13 }).then_some((mark, &after[end..]))
        });
        match mark {
            Some((mark, after)) => {
                text.push_str(mark);
                text.push('*');
                rest = after;
            }
            None => {
                text.push(first);
                rest = &rest[first.len_utf8()..];
            }
        }
    }
    text + "*"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_between_builds_is_left_open() {
        assert_eq!(
            pattern("_RNvMNtCs5YTcqEkJ2Ck_5tokio7runtimeB4_4park.llvm.1234"),
            "_RNvMNtCs*_5tokio7runtimeB*_4park*"
        );
        assert_eq!(pattern("sqlite3VdbeExec"), "sqlite3VdbeExec*");
    }

    #[test]
    fn only_what_ran_in_the_program_is_named() {
        let profile = "\
ob=(1) /lib/libc.so.6
fn=(1) memcpy
16 5
ob=(2) /x/countersign
fn=(2) main
16 5
cfn=(3) _RNvCs1_1a1b
calls=1 0
16 9
fn=(3)
16 5
cob=(1)
cfn=(4) malloc
calls=1 0
16 9
fn=(5) walk'2
16 1
fn=(6) 0x0000000000003430
";
        let found = functions(profile, "/x/countersign");
        let found: Vec<&str> = found.iter().map(String::as_str).collect();
        assert_eq!(found, ["_RNvCs1_1a1b", "main", "walk"]);
    }
}
