//! What is delivered fits together: the image, the manifests and the programs. The image cannot be
//! built here, so its file is held against all that relies on it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use countersign_control_plane::documents;
use countersign_tests::stack::process::binary;
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

/// The instructions of the Dockerfile, in order: word and the rest.
fn dockerfile() -> Vec<(String, String)> {
    read("deploy/Dockerfile")
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| line.split_once(' ').unwrap())
        .map(|(word, rest)| (word.to_owned(), rest.trim().to_owned()))
        .collect()
}

fn all<'a>(instructions: &'a [(String, String)], word: &str) -> Vec<&'a str> {
    let of = instructions.iter().filter(|(one, _)| one == word);
    of.map(|(_, rest)| rest.as_str()).collect()
}

/// All documents under deploy/kustomize.
fn manifests() -> Vec<Value> {
    let mut found = Vec::new();
    for folder in ["base", "opt-in", "collector"] {
        for entry in std::fs::read_dir(root().join("deploy/kustomize").join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if name.ends_with(".yaml") && name != "kustomization.yaml" {
                found.extend(documents(&std::fs::read_to_string(&path).unwrap()).unwrap());
            }
        }
    }
    found
}

/// The pods that the manifests make.
fn pod_specs(manifests: &[Value]) -> Vec<&Value> {
    let specs: Vec<&Value> = manifests
        .iter()
        .filter_map(|object| match object["kind"].as_str().unwrap() {
            "Deployment" => Some(&object["spec"]["template"]["spec"]),
            "CronJob" => Some(&object["spec"]["jobTemplate"]["spec"]["template"]["spec"]),
            _ => None,
        })
        .collect();
    assert_eq!(specs.len(), 3, "server, executor, collector");
    specs
}

fn words(list: &Value) -> Vec<&str> {
    list.as_array()
        .unwrap()
        .iter()
        .map(|word| word.as_str().unwrap())
        .collect()
}

#[test]
fn the_image_holds_what_the_manifests_start() {
    let image = dockerfile();
    let cargo = read("Cargo.toml");
    let value = |key: &str| {
        let line = cargo.lines().find_map(|line| line.strip_prefix(key));
        line.unwrap().trim_matches([' ', '=', '"']).to_owned()
    };
    let stages = all(&image, "FROM");
    let release = "bookworm";
    let built_with = format!("rust:{}-{release} AS build", value("rust-version"));
    assert_eq!(stages, [built_with, format!("debian:{release}-slim")]);
    let build = all(&image, "RUN")[0];
    assert!(build.contains("--release --locked"));

    let copied: BTreeSet<&str> = all(&image, "COPY")
        .into_iter()
        .filter_map(|files| files.strip_suffix(" /usr/local/bin/"))
        .flat_map(|files| files.split(' '))
        .filter_map(|file| file.strip_prefix("/build/target/release/"))
        .collect();
    let manifests = manifests();
    for spec in pod_specs(&manifests) {
        let container = &spec["containers"][0];
        assert_eq!(
            container["image"],
            format!("countersign:{}", value("version"))
        );
        let command = words(&container["command"]);
        assert!(copied.contains(command[0]), "{command:?}");
        // The program understands it: it complains about what is missing here, not about words.
        let run = Command::new(binary(command[0]).unwrap())
            .args(&command[1..])
            .env_clear()
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let complaint = String::from_utf8_lossy(&run.stderr);
        assert_eq!(run.status.code(), Some(1), "{command:?}: {complaint}");
        let missing = ["/etc/countersign/config/", "no service account is mounted"];
        assert!(
            missing.iter().any(|what| complaint.contains(what)),
            "{complaint}"
        );
    }
    // The packages that are built give the programs that are copied.
    let packages = BTreeMap::from([
        ("countersign", "-p countersign-server"),
        ("countersign-executor", "-p countersign-executor"),
    ]);
    assert_eq!(copied, packages.keys().copied().collect());
    assert!(packages.values().all(|package| build.contains(package)));
    assert!(
        read("docs/operating.md").contains("docker build -f deploy/Dockerfile -t countersign:")
    );
}

#[test]
fn nobody_is_root_and_the_root_is_read_only() {
    let image = dockerfile();
    let manifests = manifests();
    for spec in pod_specs(&manifests) {
        let context = &spec["securityContext"];
        let user = format!("{}:{}", context["runAsUser"], context["runAsGroup"]);
        assert_eq!(all(&image, "USER"), [user.as_str()]);
        assert_eq!(context["runAsNonRoot"], true);
        assert_ne!(context["runAsUser"], 0);
        assert_eq!(
            context["fsGroup"], context["runAsGroup"],
            "it reads its volumes"
        );
        let own = &spec["containers"][0]["securityContext"];
        assert_eq!(own["readOnlyRootFilesystem"], true);
        assert_eq!(own["allowPrivilegeEscalation"], false);
    }
}

#[test]
fn ports_and_files_are_those_of_the_configurations() {
    let image = dockerfile();
    let manifests = manifests();
    let mut exposed: BTreeSet<&str> = all(&image, "EXPOSE")[0].split(' ').collect();
    for object in manifests
        .iter()
        .filter(|object| object["kind"] == "Deployment")
    {
        let spec = &object["spec"]["template"]["spec"];
        let container = &spec["containers"][0];
        let command = words(&container["command"]);
        let mount = |path: &str| {
            let mounts = container["volumeMounts"].as_array().unwrap().iter();
            let mut over = mounts.filter(|mount| {
                path.starts_with(&format!("{}/", mount["mountPath"].as_str().unwrap()))
            });
            over.next()
                .unwrap_or_else(|| panic!("nothing is mounted over {path}"))
        };
        let config_map = |mount: &Value| {
            let volumes = spec["volumes"].as_array().unwrap();
            let volume = volumes
                .iter()
                .find(|volume| volume["name"] == mount["name"]);
            let name = volume.unwrap()["configMap"]["name"].clone();
            let found = manifests
                .iter()
                .find(|object| object["kind"] == "ConfigMap" && object["metadata"]["name"] == name);
            found.unwrap_or_else(|| panic!("no ConfigMap {name}"))
        };
        let at = command.iter().position(|word| *word == "--config").unwrap();
        let path = command[at + 1];
        let file = path.rsplit('/').next().unwrap();
        let text = config_map(mount(path))["data"][file].as_str().unwrap();

        let port = container["ports"][0]["containerPort"].to_string();
        assert!(
            text.contains(&format!("listen = \"0.0.0.0:{port}\"")),
            "{text}"
        );
        assert!(text.contains("[log]\nformat = \"json\""), "{text}");
        assert!(exposed.remove(port.as_str()), "{port} is not exposed");
        let quoted = text.split('"').skip(1).step_by(2);
        let paths: Vec<&str> = quoted.filter(|text| text.starts_with('/')).collect();
        assert!(paths.len() >= 5, "{text}");
        for path in paths
            .into_iter()
            .filter(|path| !path.contains("former-keys"))
        {
            let mount = mount(path);
            let writable = mount["readOnly"] != true;
            assert_eq!(
                writable,
                path.starts_with("/var/lib/countersign/"),
                "{path}"
            );
            if path.contains("/rules/") {
                let file = path.rsplit('/').next().unwrap();
                assert!(config_map(mount)["data"][file].is_string(), "{path}");
            }
        }
    }
    assert!(exposed.is_empty(), "nobody listens on {exposed:?}");
}

/// Release builds are linked with the list (decision 9), and no test makes one.
#[test]
fn the_linker_takes_the_list_of_functions_that_run_and_puts_them_side_by_side() {
    let mangling = ["-C", "symbol-mangling-version=v0"];
    let asked = format!("rustflags = [\"{}\", \"{}\"]", mangling[0], mangling[1]);
    assert!(read(".cargo/config.toml").contains(&asked), "{asked}");
    let list = root().join("src/server/layout.ld").canonicalize().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (source, program) = (folder.path().join("main.rs"), folder.path().join("main"));
    std::fs::write(&source, "fn main() { println!(\"runs\"); }\n").unwrap();
    let linked = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
        .args(["--edition", "2024"])
        .args(mangling)
        .arg(format!("-Clink-arg=-T{}", list.display()))
        .arg(&source)
        .arg("-o")
        .arg(&program)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&linked.stderr);
    assert!(linked.status.success(), "{told}");
    let ran = Command::new(&program).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&ran.stdout), "runs\n");
    // The standard library's start is in every Rust program, and on the list.
    let names = Command::new("nm").arg("-n").arg(&program).output().unwrap();
    let names = String::from_utf8(names.stdout).unwrap();
    let place = |name: &str| {
        let line = names.lines().position(|line| line.contains(name));
        line.unwrap_or_else(|| panic!("no {name} in the program"))
    };
    let listed = place("3std2rt19lang_start_internal");
    assert!(listed < place(" _start"), "the list comes before the rest");
}
