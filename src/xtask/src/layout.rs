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
    let names = names(&stage.server)?;
    let start = patterns(&start, &names);
    ensure!(
        start.len() > 1_000,
        "only {} functions were seen in a start",
        start.len()
    );
    let calls: Vec<String> = patterns(&calls, &names)
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

/// Of what was seen that which is the program's own, with all names that its code has: its section
/// bears one of them.
fn patterns(seen: &BTreeSet<String>, names: &HashMap<String, Vec<String>>) -> BTreeSet<String> {
    let own = seen.iter().filter_map(|name| names.get(name));
    own.flatten().map(|name| pattern(name)).collect()
}

/// For each function of the program all names of its code: equal functions are made one.
fn names(program: &Path) -> Result<HashMap<String, Vec<String>>> {
    let output = Command::new("nm").arg(program).output().context("nm")?;
    ensure!(output.status.success(), "nm cannot read the program");
    let text = String::from_utf8(output.stdout)?;
    let mut by_address: HashMap<&str, Vec<String>> = HashMap::new();
    for line in text.lines() {
        if let [address, kind, name] = line.split_whitespace().collect::<Vec<_>>()[..]
            && matches!(kind, "t" | "T" | "w" | "W")
        {
            by_address.entry(address).or_default().push(name.to_owned());
        }
    }
    let all = by_address.into_values();
    Ok(all
        .flat_map(|names| {
            names
                .clone()
                .into_iter()
                .map(move |name| (name, names.clone()))
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
        Ok(functions(&profile))
    }
}

/// The functions in a profile of callgrind. Its format gives each name once, with a number:
/// `fn=(17) name`, later only `fn=(17)`; what is called stands in `cfn=`, which shares the numbers. Which
/// program a function is of it does not say for sections of other names than `.text`.
fn functions(profile: &str) -> BTreeSet<String> {
    let mut names: HashMap<&str, &str> = HashMap::new();
    let mut ran = BTreeSet::new();
    for line in profile.lines() {
        let Some((key @ ("fn" | "cfn"), value)) = line.split_once('=') else {
            continue;
        };
        let Some((number, name)) = value.split_once(')') else {
            continue;
        };
        if let Some(name) = name.strip_prefix(' ') {
            names.insert(number, name);
        }
        if key == "fn" {
            ran.insert(number);
        }
    }
    let named = ran.iter().filter_map(|number| names.get(number));
    // A function that calls itself is `name'2`.
    named
        .filter_map(|name| name.split('\'').next())
        .map(str::to_owned)
        .collect()
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
    fn what_ran_is_named_and_what_was_only_called_from_there_is_not() {
        let profile = "\
ob=(1) /lib/libc.so.6
fn=(1) memcpy
16 5
cfn=(3) _RNvCs1_1a1b
calls=1 0
16 9
fn=(3)
16 5
cfn=(4) malloc
calls=1 0
16 9
fn=(5) walk'2
16 1
";
        let found = functions(profile);
        let found: Vec<&str> = found.iter().map(String::as_str).collect();
        assert_eq!(found, ["_RNvCs1_1a1b", "memcpy", "walk"]);
    }
}
