use std::fs;

use tempfile::TempDir;

use super::*;

/// What comes of a `pools.yaml` and a file of the provisioner.
fn load(config: &str, map: &str) -> Result<Loaded, String> {
    let directory = TempDir::new().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        Some(path)
    };
    let sources =
        Sources { config: file("pools.yaml", config), storage_class_map: file("map.yaml", map) };
    let name = directory.path().display().to_string();
    sources.load().map_err(|error| error.to_string().replace(&format!("{name}/"), ""))
}

#[test]
fn the_pools_of_both_files_are_offered() {
    let loaded = load("pools: {a: {path: /mnt/a}}", "b: {hostDir: /mnt/b}").unwrap();

    let names: Vec<_> = loaded.pools.keys().map(ToString::to_string).collect();
    assert_eq!(names, ["a", "b"]);
    assert!(loaded.report.iter().any(|line| line.key == "b.hostDir"));
}

#[test]
fn a_pool_or_a_directory_that_is_in_both_files_is_refused() {
    assert_eq!(
        load("pools: {a: {path: /mnt/a}}", "a: {hostDir: /mnt/b}").unwrap_err(),
        "map.yaml:a: there is such a pool in the other file (--config), too"
    );
    assert_eq!(
        load("pools: {a: {path: /mnt}}", "b: {hostDir: /mnt/b}").unwrap_err(),
        "map.yaml:b: /mnt/b and /mnt of pool a overlap; give each pool a directory of its own"
    );
}

#[test]
fn a_file_that_is_wrong_is_named() {
    let wrong = load("pools: {}", "a: {hostDir: /a}").unwrap_err();
    assert!(wrong.starts_with("pools.yaml:1:8: "), "{wrong}");
    let sources = Sources { config: None, storage_class_map: Some("/nowhere/map".into()) };
    assert_eq!(sources.load().unwrap_err().to_string(), "/nowhere/map cannot be read");
}
