use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::pool::{Accept, FsType, Pool};
use crate::volume::{CleanMethod, Mode, NewVolumes};

fn read(text: &str) -> Result<Migration, String> {
    parse(text, Path::new("map.yaml")).map_err(|error| error.to_string())
}

fn pool(text: &str) -> Pool {
    read(text).unwrap().pools.into_values().next().unwrap()
}

fn said(migration: &Migration, key: &str) -> String {
    migration.report.iter().find(|line| line.key == key).unwrap().to_string()
}

/// The ConfigMap as the provisioner's chart writes it.
const CONFIG_MAP: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata:
  name: local-static-provisioner-config
data:
  nodeLabelsForPV: |
    - topology.kubernetes.io/zone
  useJobForCleaning: "yes"
  setPVOwnerRef: "true"
  storageClassMap: |
    fast-disks:
       hostDir:  /mnt/fast-disks
       mountDir: /mnt/fast-disks
       blockCleanerCommand:
         - "/scripts/shred.sh"
         - "2"
       volumeMode: Filesystem
       fsType: xfs
       namePattern: "nvme*,sd[a-f]"

    raw:
       hostDir:  /mnt/raw
       mountDir: /raw
       volumeMode: Block
"#;

#[test]
fn a_config_map_becomes_pools_that_offer_and_wipe_as_its_classes_did() {
    let migration = read(CONFIG_MAP).unwrap();

    let pool = |name: &str| &migration.pools[&name.parse().unwrap()];
    let fast = pool("fast-disks");
    assert_eq!((fast.path.as_path(), fast.mode), (Path::new("/mnt/fast-disks"), Mode::Filesystem));
    assert_eq!(fast.accept, Accept { mount: true, directory: false, device: true });
    assert_eq!(fast.new_volumes, NewVolumes::RequireEmpty);
    assert_eq!(fast.globs, ["nvme*", "sd[a-f]"]);
    assert!(fast.entries.is_match("sdb") && !fast.entries.is_match("sdg"));
    assert_eq!(fast.fs_type, FsType::Xfs);
    assert_eq!(fast.clean.method, CleanMethod::Delete);
    let devices = fast.clean_devices.as_ref().unwrap();
    assert_eq!(devices.method, CleanMethod::Shred { passes: 2 });
    let raw = pool("raw");
    assert_eq!((raw.mode, &raw.clean.method), (Mode::Block, &CleanMethod::Discard));
    assert_eq!(raw.accept, Accept { mount: false, directory: false, device: true });
}

#[test]
fn of_each_key_it_is_said_what_it_becomes() {
    let migration = read(CONFIG_MAP).unwrap();

    let class = "storageClassMap.fast-disks";
    for (key, what) in [
        ("", "has to say provisioner: berth.dev and parameters: {pool: fast-disks}"),
        (".hostDir", "path: /mnt/fast-disks"),
        (".mountDir", "not needed"),
        (".volumeMode", "mode: Filesystem, accept: [mount, device]"),
        (".fsType", "fsType: xfs"),
        (".namePattern", r#"match: ["nvme*", "sd[a-f]"]"#),
        (".blockCleanerCommand", "cleanDevices: {method: shred, passes: 2}"),
    ] {
        let line = said(&migration, &format!("{class}{key}"));
        assert!(line.contains(what) && !line.contains("WARNING"), "{line}");
    }
    for key in ["storageClassMap.raw.mountDir", "nodeLabelsForPV", "setPVOwnerRef"] {
        let line = said(&migration, key);
        assert!(line.starts_with(&format!("{key}: WARNING: ")), "{line}");
    }
    assert!(!said(&migration, "useJobForCleaning").contains("WARNING"));
}

#[test]
fn the_classes_may_stand_alone_or_in_the_data_of_a_config_map_in_any_kind_of_string() {
    let alone = pool("fast: {hostDir: /mnt/fast}\n");
    for text in [
        "storageClassMap: |\n  fast: {hostDir: /mnt/fast}\n",
        "storageClassMap: |-2\n    fast: {hostDir: /mnt/fast}\n",
        "useAlphaAPI: \"false\"\nstorageClassMap: \"fast:\\n  hostDir: /mnt/fast\\n\"\n",
        "kind: ConfigMap\ndata: {storageClassMap: 'fast: {hostDir: /mnt/fast}'}\n",
    ] {
        let pool = pool(text);
        assert_eq!((pool.name, pool.path), (alone.name.clone(), alone.path.clone()), "{text}");
    }
}

#[test]
fn every_script_that_the_provisioner_ships_has_a_built_in_way() {
    let shred = |passes| CleanMethod::Shred { passes };
    for (command, mode, method) in [
        ("[/scripts/quick_reset.sh]", "Filesystem", CleanMethod::Delete),
        ("[/scripts/quick_reset.sh]", "Block", CleanMethod::Discard),
        ("[/scripts/shred.sh]", "Block", shred(3)),
        ("[/scripts/shred.sh, '7']", "Filesystem", shred(7)),
        ("[/scripts/shred.sh, '0']", "Block", CleanMethod::Zero),
        ("[/scripts/dd_zero.sh]", "Block", CleanMethod::Zero),
        ("[/scripts/dd_zero.sh, '2']", "Filesystem", CleanMethod::Zero),
        ("[/scripts/blkdiscard.sh]", "Block", CleanMethod::Discard),
        ("[/scripts/fsclean.sh]", "Filesystem", CleanMethod::Delete),
    ] {
        let pool = pool(&format!(
            "a: {{hostDir: /a, volumeMode: {mode}, blockCleanerCommand: {command}}}"
        ));
        let devices = pool.clean_devices.as_ref().unwrap_or(&pool.clean);
        assert_eq!(devices.method, method, "{command} of a {mode} class");
        if mode == "Filesystem" {
            assert_eq!(pool.clean.method, CleanMethod::Delete, "directories are always emptied");
        }
    }
}

#[test]
fn a_program_of_ones_own_is_run_on_devices_and_what_is_different_is_said() {
    let text = "a: {hostDir: /a, blockCleanerCommand: [/opt/wipe, --all]}";
    let migration = read(text).unwrap();

    let pool = migration.pools.values().next().unwrap();
    let command = vec!["/opt/wipe".to_owned(), "--all".to_owned()];
    let devices = &pool.clean_devices.as_ref().unwrap().method;
    assert_eq!(*devices, CleanMethod::Command { command, timeout: 600 });
    assert!(said(&migration, "a.blockCleanerCommand").contains("WARNING: cleanDevices: "));
    assert!(said(&migration, "a.blockCleanerCommand").contains("BERTH_PATH"));
}

#[test]
fn a_pattern_means_what_it_meant_to_the_provisioner() {
    for (pattern, matches, others) in [
        ("", &["anything"][..], &[][..]),
        ("sd?,nvme*,", &["sda", "nvme0n1"], &["sdaa", ""]),
        ("{a}", &["{a}"], &["a"]),
        ("[^a]x", &["bx"], &["ax"]),
        ("[{}]", &["{", "}"], &["a"]),
        (r"\*", &["*"], &["a"]),
    ] {
        let pool = pool(&format!("a: {{hostDir: /a, namePattern: '{pattern}'}}"));
        for name in matches {
            assert!(pool.entries.is_match(name), "{pattern} does not match {name}");
        }
        for name in others {
            assert!(!pool.entries.is_match(name), "{pattern} matches {name}");
        }
    }
}

/// A file that is wrong, and what is said of it.
const WRONG: &[(&str, &str)] = &[
    ("{}", "map.yaml:1:1: there is no class, and so no pool; name at least one"),
    ("a:\n  hostDir: mnt\n", "map.yaml:2:12: a.hostDir: \"mnt\" is not an absolute path"),
    (
        "a:\n  hostDir: /a\n  volumeMode: block\n",
        "map.yaml:3:15: a.volumeMode: \"block\" is not Filesystem or Block",
    ),
    (
        "a:\n  hostDir: /a\n  fsType: btrfs\n",
        "map.yaml:3:11: a.fsType: \"btrfs\" is not ext4 or xfs, which are what Berth makes",
    ),
    (
        "a:\n  hostDir: /a\n  namePattern: 'x,[a'\n",
        "map.yaml:3:16: a.namePattern: \"[a\" is not a pattern of names",
    ),
    (
        "a:\n  hostDir: /a\n  namePattern: ','\n",
        "map.yaml:3:16: a.namePattern: \",\" matches no entry",
    ),
    (
        "a:\n  hostDir: /a\n  accessMode: RWX\n",
        "map.yaml:3:15: a.accessMode: \"RWX\" is not one of ReadWriteOnce, ReadWriteOncePod, ReadOnlyMany, ReadWriteMany",
    ),
    (
        "a:\n  hostDir: /a\n  blockCleanerCommand: []\n",
        "map.yaml:3:24: a.blockCleanerCommand: it is empty; leave it out for the provisioner's default",
    ),
    (
        "a:\n  hostDir: /a\n  blockCleanerCommand: [/scripts/shred.sh, many]\n",
        "map.yaml:3:24: a.blockCleanerCommand: \"many\" is not a number of passes",
    ),
    (
        "a:\n  hostDir: /a\n  blockCleanerCommand: [/scripts/shred.sh, 33]\n",
        "map.yaml:3:24: a.blockCleanerCommand: 33 passes are not from 0 to 32",
    ),
    (
        "a:\n  hostDir: /a\n  volumeMode: Block\n  blockCleanerCommand: [/scripts/fsclean.sh]\n",
        "map.yaml:4:24: a.blockCleanerCommand: fsclean.sh empties directories, and a Block class has none",
    ),
    (
        "a:\n  hostDir: /a\n  blockCleanerCommand: [wipe]\n",
        "map.yaml:3:24: a.blockCleanerCommand: it must start with the absolute path of a program; no shell is involved",
    ),
    (
        "a.b:\n  hostDir: /a\n",
        "map.yaml:2:3: a.b: pool name \"a.b\" is not valid: it has a dot; use lower-case letters, digits and '-'; name the class in pools.yaml instead",
    ),
    (
        "a: {hostDir: /mnt}\nb: {hostDir: /mnt/b}\n",
        "map.yaml:2:4: b.hostDir: /mnt/b and /mnt of pool a overlap; give each pool a directory of its own",
    ),
    (
        "kind: ConfigMap\ndata:\n  storageClassMap: |\n    a:\n      hostDir: /a\n\n      fsType: zfs\n",
        "map.yaml:7:15: storageClassMap.a.fsType: \"zfs\" is not ext4 or xfs, which are what Berth makes",
    ),
    (
        "storageClassMap: 'a: {hostDir: b}'\n",
        "map.yaml:1:18: storageClassMap.a.hostDir: \"b\" is not an absolute path",
    ),
    (
        "useAlphaAPI: 'perhaps'\nstorageClassMap: 'a: {hostDir: /a}'\n",
        "map.yaml:1:14: useAlphaAPI: \"perhaps\" is neither true nor false",
    ),
    ("minResyncPeriod: 5m\n", "map.yaml:1:1: storageClassMap: it is missing"),
    (
        "kind: Secret\ndata: {storageClassMap: ''}\n",
        "map.yaml:1:7: kind: \"Secret\" is no ConfigMap",
    ),
    (
        "storageClassMap:\n  a: {hostDir: /a}\n",
        "map.yaml:2:3: storageClassMap: it is text: write `storageClassMap: |` and the classes beneath it, or give the classes alone",
    ),
    (
        "a: /mnt\n",
        "map.yaml:1:4: a: it has keys of its own: write for example {hostDir: /mnt/fast}",
    ),
    (
        "a:\n  hostDir: /a\n  blockCleanerCommand: wipe\n",
        "map.yaml:3:24: a.blockCleanerCommand: it is a list: write it in brackets, for example [/scripts/shred.sh, \"3\"]",
    ),
    (
        "kind: ConfigMap\ndata:\n  storageClassMap: fast\n",
        "map.yaml:3:20: storageClassMap: it has keys of its own: write for example fast: {hostDir: /mnt/fast}",
    ),
    ("", "map.yaml:1:1: there is no class, and so no pool; name at least one"),
    ("a: {hostDir: \"/m\\0nt\"}\n", "map.yaml:1:14: a.hostDir: \"/m\\0nt\" has a NUL character"),
];

#[test]
fn a_wrong_value_is_refused_with_file_line_column_and_key() {
    for (text, said) in WRONG {
        assert_eq!(read(text).unwrap_err(), *said);
    }
}

#[test]
fn a_key_that_the_provisioner_does_not_have_is_refused_though_it_would_overlook_it() {
    let text = "storageClassMap: |\n  a:\n    hostDir: /a\n    fstype: ext4\n";
    assert!(read(text).unwrap_err().starts_with(
        "map.yaml:4:5: storageClassMap.a.fstype: there is no such key here; there are hostDir, "
    ));
    let text = "labelForPV: '{}'\nstorageClassMap: 'a: {hostDir: /a}'\n";
    let said = read(text).unwrap_err();
    assert!(said.starts_with("map.yaml:1:13: labelForPV: the static provisioner has no such key"));
    assert!(said.contains(", labelsForPV, "));
}

/// A class, as text and as what is to come of it.
fn class() -> impl Strategy<Value = (String, Option<Mode>, Option<FsType>)> {
    let mode = prop_oneof![
        Just((String::new(), Some(Mode::Filesystem))),
        Just(("volumeMode: Block\n".to_owned(), Some(Mode::Block))),
        Just(("volumeMode: Filesystem\n".to_owned(), Some(Mode::Filesystem))),
        Just(("volumeMode: File\n".to_owned(), None)),
    ];
    let fs_type = prop_oneof![
        Just((String::new(), Some(FsType::Ext4))),
        Just(("fsType: xfs\n".to_owned(), Some(FsType::Xfs))),
        Just(("fsType: ''\n".to_owned(), Some(FsType::Ext4))),
        Just(("fsType: ntfs\n".to_owned(), None)),
    ];
    (mode, fs_type).prop_map(|((mode, is), (fs_type, of))| (format!("{mode}{fs_type}"), is, of))
}

fn indented(text: &str, by: usize) -> String {
    let lines: Vec<_> = text.lines().map(|line| format!("{:by$}{line}\n", "")).collect();
    lines.concat()
}

proptest! {
    #[test]
    fn a_file_is_taken_whole_or_every_wrong_value_of_it_is_told_in_its_place(
        classes in prop::collection::btree_map("[a-z]{1,4}", class(), 1..4),
        indent in 1_usize..6,
    ) {
        let inner: Vec<_> = classes
            .iter()
            .map(|(name, (text, ..))| {
                format!("{name}:\n{}", indented(&format!("hostDir: /mnt/{name}\n{text}"), indent))
            })
            .collect();
        let text = format!("# comment\nstorageClassMap: |\n{}", indented(&inner.concat(), indent));
        let wrong = text.lines().filter(|line| line.ends_with("File") || line.ends_with("ntfs"));
        let wrong = wrong.count();

        match parse(&text, Path::new("map.yaml")) {
            Ok(Migration { pools, .. }) => {
                prop_assert_eq!(wrong, 0);
                let became: BTreeMap<_, _> =
                    pools.values().map(|pool| (pool.name.to_string(), pool)).collect();
                for (name, (_, mode, fs_type)) in &classes {
                    prop_assert_eq!((Some(became[name].mode), Some(became[name].fs_type)), (*mode, *fs_type));
                }
            }
            Err(ConfigError::Invalid { problems, .. }) => {
                prop_assert_eq!(problems.len(), wrong);
                for Problem { line, column, key, .. } in problems {
                    let line = text.lines().nth(usize::try_from(line.unwrap()).unwrap() - 1).unwrap();
                    let value = &line[usize::try_from(column).unwrap() - 1..];
                    let expected = if key.ends_with("fsType") { "ntfs" } else { "File" };
                    prop_assert_eq!(value, expected);
                }
            }
            Err(error) => prop_assert!(false, "{}", error),
        }
    }

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,200}") {
        let _ = read(&text);
    }

    #[test]
    fn any_text_like_a_file_of_the_provisioner_is_read_or_refused(
        text in "(kind: ConfigMap\ndata:\n)?( {0,2}storageClassMap: [|'\"]?-?\n)?( {0,4}[a-z]{1,3}:\n( {0,6}(hostDir|namePattern|volumeMode|fsType|selector|blockCleanerCommand): [\\[{'\"]?[/a-z0-9*,: \\\\é]{0,12}[\\]}'\"]?\n){0,5}){0,3}"
    ) {
        let _ = read(&text);
    }
}
