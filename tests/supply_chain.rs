//! Where what Berth is built from comes from, what of it is in the image, and that the image is the same wherever it is built.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test panics where something is not as it must be"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Runs a program in the project's directory, with the cargo that runs this.
fn run(program: &str, arguments: &[&str]) -> Output {
    let output = Command::new(program)
        .current_dir(root())
        .env("CARGO", env!("CARGO"))
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// Every file of the project of one of these names or extensions.
fn files(wanted: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![root().to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let is_wanted = |part: Option<&std::ffi::OsStr>| {
                part.and_then(|part| part.to_str()).is_some_and(|part| wanted.contains(&part))
            };
            if path.is_dir() {
                if !is_one_of(&path, &["target", ".git"]) {
                    open.push(path);
                }
            } else if is_wanted(path.file_name()) || is_wanted(path.extension()) {
                found.push(path);
            }
        }
    }
    assert!(!found.is_empty(), "none of {wanted:?} is here");
    found
}

fn is_one_of(path: &Path, names: &[&str]) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| names.contains(&name))
}

/// The crates of a `Cargo.lock`: name and version to where it comes from and its checksum.
fn locked(path: &Path) -> BTreeMap<(String, String), (Option<String>, Option<String>)> {
    let text = fs::read_to_string(path).unwrap();
    let value = |crate_: &str, key: &str| {
        let start = format!("{key} = \"");
        let line = crate_.lines().find_map(|line| line.strip_prefix(start.as_str()))?;
        Some(line.trim_end_matches('"').to_owned())
    };
    text.split("[[package]]")
        .skip(1)
        .map(|one| {
            let name = (value(one, "name").unwrap(), value(one, "version").unwrap());
            (name, (value(one, "source"), value(one, "checksum")))
        })
        .collect()
}

#[test]
fn every_dependency_has_a_licence_that_we_accept() {
    let policy = fs::read_to_string(root().join("deny.toml")).unwrap();
    let allowed = policy.split_once("allow = [").unwrap().1.split_once(']').unwrap().0;
    let accepted: BTreeSet<_> = allowed
        .lines()
        .filter_map(|line| line.trim().strip_prefix('"')?.split('"').next())
        .collect();
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--locked", "--offline"])
        // Only what is built here, and so is certain to have been downloaded.
        .args(["--filter-platform", "x86_64-unknown-linux-gnu", "--manifest-path"])
        .arg(root().join("Cargo.toml"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut refused = BTreeSet::new();
    for package in metadata["packages"].as_array().unwrap() {
        let licence = package["license"].as_str().unwrap_or_default().replace('/', " OR ");
        let choices = licence.split(" AND ").all(|part| {
            part.trim_matches(['(', ')'])
                .split(" OR ")
                .any(|one| accepted.contains(one.trim_matches(['(', ')', ' '])))
        });
        if !choices {
            refused.insert(format!("{}: {licence:?}", package["name"]));
        }
        let source = package["source"].as_str();
        if source.is_some_and(|source| !source.starts_with("registry+")) {
            refused.insert(format!("{}: not from the registry: {source:?}", package["name"]));
        }
    }
    assert!(refused.is_empty(), "licences or sources that are not accepted: {refused:#?}");
}

#[test]
fn every_crate_is_of_the_registry_and_named_by_its_checksum() {
    let registry = "registry+https://github.com/rust-lang/crates.io-index";
    let mut wrong = Vec::new();
    for lock in files(&["Cargo.lock"]) {
        for (name, (source, checksum)) in locked(&lock) {
            let is_ours = source.is_none() && checksum.is_none();
            let is_theirs = source.as_deref() == Some(registry) && checksum.is_some();
            if !is_theirs && (!is_ours || !name.0.starts_with("berth")) {
                wrong.push(format!("{}: {name:?} is from {source:?}", lock.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What a `go.mod` asks for, and what it takes in its place: name and version.
fn modules(text: &str) -> BTreeSet<(String, String)> {
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with("//"));
    let mut replaced = BTreeMap::new();
    let mut required = BTreeSet::new();
    for line in lines {
        let line = line.trim_start_matches("require ").trim_start_matches("replace ");
        let pair = |text: &str| {
            let mut words = text.split_whitespace().map(str::to_owned);
            Some((words.next()?, words.next().filter(|version| version.starts_with('v'))?))
        };
        if let Some((old, new)) = line.split_once(" => ") {
            let old = old.split_whitespace().next().unwrap().to_owned();
            replaced.insert(old, pair(new).expect("a replacement is a module, not a directory"));
        } else {
            required.extend(pair(line));
        }
    }
    let taken = |(name, version)| replaced.get(&name).cloned().unwrap_or((name, version));
    required.into_iter().map(taken).collect()
}

#[test]
fn every_go_module_is_named_by_its_checksum() {
    let mut wrong = Vec::new();
    for file in files(&["go.mod"]) {
        let sums = fs::read_to_string(file.with_file_name("go.sum")).unwrap_or_default();
        for (name, version) in modules(&fs::read_to_string(&file).unwrap()) {
            if !sums.contains(&format!("{name} {version}")) {
                wrong.push(format!("{}: {name} {version} has no checksum", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_script_fetches_anything_but_by_a_package_manager() {
    let fetchers = ["curl ", "wget ", "git clone http", "docker pull", "git+https", "pip install"];
    let mut wrong = Vec::new();
    let scripts = files(&["Makefile", "run", "build", "need", "sh", "lib.sh", "up", "e2e"]);
    for script in scripts {
        let text = fs::read_to_string(&script).unwrap_or_default();
        let found = text
            .lines()
            .filter(|line| !line.trim_start().starts_with('#'))
            .filter(|line| fetchers.iter().any(|fetcher| line.contains(fetcher)));
        wrong.extend(found.map(|line| format!("{}: {}", script.display(), line.trim())));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn unsafe_code_is_allowed_in_one_place_of_the_whole_project() {
    let allowed = |path: &PathBuf| {
        let text = fs::read_to_string(path).unwrap();
        let word = concat!("(unsafe", "_code");
        text.contains(word)
    };
    let places: Vec<_> = files(&["rs"]).into_iter().filter(allowed).collect();

    assert_eq!(places, [root().join("src/host/mod.rs")]);
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    assert!(manifest.contains("unsafe_code = \"deny\""));
}

#[test]
fn the_bill_of_materials_has_every_crate_of_the_binary_with_its_checksum_and_none_of_the_tests() {
    let bill: Value = serde_json::from_slice(&run("tools/sbom", &[]).stdout).unwrap();

    let locked = locked(&root().join("Cargo.lock"));
    let mut named = BTreeSet::new();
    for component in bill["components"].as_array().unwrap() {
        let text = |key: &str| component[key].as_str().unwrap().to_owned();
        let Some(of_crate) = text("purl").strip_prefix("pkg:cargo/").map(str::to_owned) else {
            continue;
        };
        assert_eq!(of_crate, format!("{}@{}", text("name"), text("version")));
        let (_, checksum) = &locked[&(text("name"), text("version"))];
        assert_eq!(component["hashes"][0]["content"].as_str(), checksum.as_deref(), "{of_crate}");
        assert!(component["licenses"][0]["expression"].is_string(), "{of_crate}");
        named.insert(text("name"));
    }
    for linked in ["tonic", "redb", "rustix", "kube", "libc"] {
        assert!(named.contains(linked), "{linked} is linked into the binary");
    }
    for of_tests in ["proptest", "tempfile", "protox", "serde_derive", "syn"] {
        assert!(!named.contains(of_tests), "{of_tests} is no part of the binary");
    }
    let root = &bill["metadata"]["component"]["bom-ref"];
    let dependencies = bill["dependencies"].as_array().unwrap();
    let own = dependencies.iter().find(|one| &one["ref"] == root).unwrap();
    assert!(own["dependsOn"].as_array().unwrap().len() > 20);
}

#[test]
fn an_image_of_the_same_files_is_the_same_to_the_last_byte() {
    let work = tempfile::tempdir().unwrap();
    let mut images = Vec::new();
    for (name, order) in [("one", ["a", "b", "c"]), ("two", ["c", "b", "a"])] {
        let layer = work.path().join(name);
        fs::create_dir_all(layer.join("etc")).unwrap();
        for file in order {
            fs::write(layer.join("etc").join(file), file).unwrap();
        }
        let image = work.path().join(format!("{name}.tar"));
        let entry = [image.to_str().unwrap(), "x/y:z", layer.to_str().unwrap(), "/bin/x"];
        run("tools/image", &entry);
        images.push(fs::read(&image).unwrap());
    }

    assert_eq!(images[0], images[1]);
}
