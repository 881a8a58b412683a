//! What holds for the tree as a whole: which way the arrows point, where the kernel may be called, how long a file may
//! be, that every link in the documents leads somewhere and that every dependency's licence is one we accept.
#![expect(clippy::unwrap_used, reason = "a test panics where something is not as it must be")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file beneath `directory` whose name ends in `extension`, with its text.
fn files(directory: &str, extension: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut open = vec![root().join(directory)];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|e| e == extension) {
                let name = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
                found.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

/// The folder of `src/` that a file belongs to; the file's own name for those at the top.
fn module(name: &str) -> &str {
    let beneath = name.strip_prefix("src/").unwrap();
    beneath.split(['/', '.']).next().unwrap()
}

/// Lines of code: without comments, and without what follows `#[cfg(test)] mod tests {`.
fn code(text: &str) -> impl Iterator<Item = &str> {
    let end = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
    text[..end].lines().filter(|line| !line.trim_start().starts_with("//"))
}

/// Which other modules each module of `src/` may use. Whoever is missing here knows nobody.
const ARROWS: &[(&str, &[&str])] = &[
    ("pool", &["volume"]),
    ("observe", &["volume", "inventory"]),
    ("source", &["host", "volume"]),
    ("inventory", &["volume"]),
    ("claim", &["inventory", "pool", "volume"]),
    ("cluster", &["claim", "inventory", "volume"]),
    ("health", &["host", "source", "volume"]),
    ("kubelet", &["host"]),
    ("discover", &["health", "host", "inventory", "observe", "pool", "source", "volume"]),
    ("publish", &["host", "inventory", "pool", "source", "volume"]),
    ("clean", &["host", "inventory", "observe", "pool", "source", "volume"]),
    (
        "csi",
        &[
            "claim",
            "discover",
            "health",
            "host",
            "inventory",
            "observe",
            "pool",
            "publish",
            "source",
            "volume",
        ],
    ),
    ("cli", &["csi", "inventory", "kubelet", "pool", "volume", "observe"]),
    (
        "roles",
        &[
            "claim",
            "clean",
            "cli",
            "cluster",
            "csi",
            "discover",
            "health",
            "host",
            "inventory",
            "kubelet",
            "observe",
            "pool",
            "publish",
            "volume",
        ],
    ),
    ("main", &["cli", "roles"]),
    // Only tests and the fuzz targets have it.
    ("hostile", &["csi", "host", "inventory", "kubelet", "pool", "publish", "volume"]),
];

/// What any module may use: it knows nobody and does nothing.
const EVERYBODYS: &[&str] = &["causes"];

/// The modules that code names: `crate::volume::…` and each of `crate::{claim, host::mount, …}`.
fn used(code: &str) -> BTreeSet<String> {
    let name = |text: &str| -> String {
        text.trim_start().chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect()
    };
    let mut used = BTreeSet::new();
    for part in code.split("crate::").skip(1) {
        let Some(group) = part.strip_prefix('{') else {
            used.insert(name(part));
            continue;
        };
        let mut depth = 0;
        let mut start = true;
        for (position, character) in group.char_indices() {
            match character {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => start = true,
                c if start && !c.is_whitespace() => {
                    used.insert(name(&group[position..]));
                    start = false;
                }
                _ => {}
            }
        }
    }
    // Macros and types at the root are no modules.
    used.remove("");
    used
}

#[test]
fn a_group_of_names_is_seen_through() {
    let used = used("use crate::{claim, host::{self, mount}, source}; crate::volume::Bytes(1)");

    assert_eq!(used.into_iter().collect::<Vec<_>>(), ["claim", "host", "source", "volume"]);
}

#[test]
fn arrows_between_the_modules_point_one_way() {
    let mut wrong = Vec::new();
    for (name, text) in files("src", "rs") {
        let from = module(&name);
        // The model drives all of them.
        if matches!(from, "lib" | "model")
            || name.ends_with("/hostile.rs")
            || name.contains("/tests")
            || name.ends_with("contract.rs")
        {
            continue;
        }
        let allowed =
            ARROWS.iter().find(|(module, _)| *module == from).map_or(&[][..], |(_, to)| to);
        for to in used(&code(&text).collect::<Vec<_>>().join(" ")) {
            let allowed = allowed.contains(&to.as_str()) || EVERYBODYS.contains(&to.as_str());
            if to != from && !allowed {
                wrong.push(format!("{name}: {from} -> {to}"));
            }
        }
    }
    assert!(wrong.is_empty(), "arrows that are not in the table:\n{}", wrong.join("\n"));
}

#[test]
fn only_the_host_module_calls_the_kernel_or_is_unsafe() {
    let mut wrong = Vec::new();
    for (name, text) in files("src", "rs") {
        if module(&name) == "host" {
            continue;
        }
        for line in code(&text) {
            for call in ["unsafe ", "rustix::", "nix::", "sys_mount::", "libc::"] {
                let elsewhere = call == "nix::" && line.contains("unix::");
                if line.contains(call) && !elsewhere {
                    wrong.push(format!("{name}: {}", line.trim()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "the kernel is called outside src/host:\n{}", wrong.join("\n"));
}

#[test]
fn only_the_inventory_and_the_roles_speak_to_kubernetes() {
    let mut wrong = Vec::new();
    for (name, text) in files("src", "rs") {
        if matches!(module(&name), "inventory" | "cluster" | "roles") {
            continue;
        }
        for line in code(&text) {
            if line.contains("kube::") || line.contains("k8s_openapi::") {
                wrong.push(format!("{name}: {}", line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "Kubernetes is known elsewhere:\n{}", wrong.join("\n"));
}

#[test]
fn only_the_grpc_edges_know_status_codes() {
    let mut wrong = Vec::new();
    for (name, text) in files("src", "rs") {
        if matches!(module(&name), "csi" | "cli" | "kubelet") {
            continue;
        }
        wrong.extend(
            code(&text).filter(|l| l.contains("tonic::")).map(|l| format!("{name}: {}", l.trim())),
        );
    }
    assert!(
        wrong.is_empty(),
        "gRPC statuses are made outside src/csi and src/kubelet:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn every_file_is_read_in_one_sitting() {
    let sources = [files("src", "rs"), files("tests", "rs")].concat();
    let long: Vec<_> = sources
        .iter()
        .filter(|(_, text)| text.lines().count() > 400)
        .map(|(name, text)| format!("{name}: {} lines", text.lines().count()))
        .collect();
    assert!(long.is_empty(), "files over 400 lines:\n{}", long.join("\n"));
}

/// The lines of a file that only tests run.
fn tests_of<'a>(name: &str, text: &'a str) -> &'a str {
    if name.starts_with("tests/") || name.ends_with("/tests.rs") || name.contains("/tests/") {
        return text;
    }
    text.find("#[cfg(test)]\nmod tests {").map_or("", |begin| &text[begin..])
}

/// The functions that a test waits with. They ask again and again, and pause between.
const WAITS: [&str; 2] = ["until", "wait_for"];

/// The lines that sleep elsewhere than in one of [`WAITS`] or right beneath the question of a loop.
fn fixed_waits(text: &str) -> Vec<&str> {
    let (mut function, mut before) = ("", "");
    let mut found = Vec::new();
    for line in text.lines() {
        if let Some((_, after)) = line.split_once("fn ") {
            function = after.split(['(', '<']).next().unwrap_or_default();
        }
        let sleeps = line.contains("sleep(") || line.contains("sleep_until(");
        if sleeps && !WAITS.contains(&function) && !before.trim_start().starts_with("while ") {
            found.push(line.trim());
        }
        before = line;
    }
    found
}

#[test]
fn a_fixed_wait_is_seen_and_a_pause_between_two_looks_is_not() {
    let wait = concat!("fn a_test() {\n    tokio::time::sle", "ep(SECOND).await;\n}\n");
    let pause =
        concat!("async fn until(done: F) {\n    while !done() { sle", "ep(PAUSE).await; }\n}\n");

    assert_eq!(fixed_waits(&format!("{pause}{wait}")).len(), 1);
    let asks = wait.replace("    tokio", "    while !done() {\n        tokio");
    assert_eq!([fixed_waits(pause), fixed_waits(&asks)], [vec![""; 0], vec![]]);
}

#[test]
fn no_test_waits_for_a_fixed_time() {
    let mut asleep = Vec::new();
    for (name, text) in [files("src", "rs"), files("tests", "rs")].concat() {
        // This file only speaks of it.
        if name != "tests/repository.rs" {
            let found = fixed_waits(tests_of(&name, &text)).into_iter();
            asleep.extend(found.map(|line| format!("{name}: {line}")));
        }
    }
    assert!(asleep.is_empty(), "wait for a condition instead:\n{}", asleep.join("\n"));
}

#[test]
fn every_link_in_the_documents_leads_to_a_file() {
    let mut broken = Vec::new();
    let mut documents = files("docs", "md");
    for name in ["README.md", "CHANGELOG.md", "csi-sanity/README.md"] {
        documents.push((name.to_owned(), fs::read_to_string(root().join(name)).unwrap()));
    }
    for (name, text) in documents {
        let folder = root().join(&name).parent().unwrap().to_owned();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap();
            let outside = file.contains("://") || file.starts_with("mailto:");
            if !outside && !file.is_empty() && !folder.join(file).exists() {
                broken.push(format!("{name}: {target}"));
            }
        }
    }
    assert!(broken.is_empty(), "links that lead nowhere:\n{}", broken.join("\n"));
}

/// The keys of a record: the public fields of the model's structures, as they are written.
fn keys(text: &str) -> impl Iterator<Item = String> {
    let fields = text.lines().filter_map(|line| line.strip_prefix("    pub ")?.split_once(':'));
    fields.filter(|(name, _)| !name.contains([' ', '('])).map(|(name, _)| {
        let mut words = name.split('_');
        let first = words.next().unwrap_or_default().to_owned();
        words.fold(first, |key, word| key + &word[..1].to_uppercase() + &word[1..])
    })
}

#[test]
fn every_key_and_every_reason_of_a_record_is_explained() {
    let page = fs::read_to_string(root().join("docs/inventory.md")).unwrap();
    let read = |name: &str| fs::read_to_string(root().join("src/volume").join(name)).unwrap();
    let conditions = read("condition.rs");
    let reasons = conditions.split("=> \"").skip(1).filter_map(|rest| rest.split('"').next());
    let words: Vec<_> =
        keys(&read("mod.rs")).chain(keys(&conditions)).chain(reasons.map(str::to_owned)).collect();
    assert!(words.contains(&"cleanFor".to_owned()) && words.contains(&"FoundEmpty".to_owned()));

    let missing: Vec<_> = words.iter().filter(|w| !page.contains(&format!("`{w}`"))).collect();

    assert!(missing.is_empty(), "docs/inventory.md does not explain {missing:?}");
}

/// Every text of the project, whatever it is for.
fn everything() -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut open = vec![root().to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
            if matches!(name.as_str(), "target" | ".git") {
            } else if path.is_dir() {
                open.push(path);
            } else if let Ok(text) = fs::read_to_string(&path) {
                found.push((name, text));
            }
        }
    }
    found
}

#[test]
fn the_project_names_nothing_of_the_machine_it_was_written_on() {
    let places = [concat!("/wo", "rk/"), concat!("/root/", "wt"), concat!("/tmp/", "wt")];
    let all = everything();
    for name in ["README.md", "Makefile", ".ci/run", "tools/need", "csi-sanity/sanity_test.go"] {
        assert!(all.iter().any(|(seen, _)| seen == name), "{name} is not looked at");
    }
    let mut found = Vec::new();
    for (name, text) in all {
        let named = text.lines().filter(|line| places.iter().any(|place| line.contains(place)));
        found.extend(named.map(|line| format!("{name}: {}", line.trim())));
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}
