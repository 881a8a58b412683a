use proptest::prelude::*;

use super::*;
use crate::pool::FsType;
use crate::volume::{Bytes, CleanMethod, Mode, NewVolumes};

fn read(text: &str) -> Result<Pools, String> {
    parse(text, Path::new("pools.yaml")).map_err(|error| error.to_string())
}

#[test]
fn a_pool_needs_only_a_path_and_is_careful_by_default() {
    let pools = read("pools: {fast: {path: /mnt/fast/./}}").unwrap();

    let pool = &pools[&"fast".parse().unwrap()];
    assert_eq!(pool.path, Path::new("/mnt/fast"));
    assert_eq!(pool.mode, Mode::Filesystem);
    assert!(pool.accept.mount && !pool.accept.directory && !pool.accept.device);
    assert_eq!(pool.new_volumes, NewVolumes::RequireEmpty);
    assert_eq!(pool.clean.method, CleanMethod::Delete);
    assert!(pool.entries.is_match("anything"));
}

#[test]
fn every_key_is_read() {
    let pools = read(
        "
pools:
  disks:
    path: /dev/disk/berth
    mode: Filesystem
    match: ['nvme*', 'sd?']
    accept: [device]
    newVolumes: clean
    clean: {method: shred, passes: 7, verify: true}
    fsType: xfs
    mountOptions: [nosuid, nodev]
  raw:
    path: /srv/raw
    mode: Block
    clean: {method: command, command: [/usr/sbin/wipe, --all], timeout: 90m}
  mixed:
    path: /srv/mixed
    accept: [mount, device]
    cleanDevices: {method: shred, passes: 2}
  shared:
    path: /srv/shared
    accept: [directory, mount]
    capacity: 10Gi
    newVolumes: accept
",
    )
    .unwrap();

    let pool = |name: &str| &pools[&name.parse().unwrap()];
    assert_eq!(pool("disks").clean.method, CleanMethod::Shred { passes: 7 });
    assert!(pool("disks").clean.verify);
    assert_eq!(pool("disks").fs_type, FsType::Xfs);
    assert!(pool("disks").entries.is_match("sda") && !pool("disks").entries.is_match("vda"));
    let command = vec!["/usr/sbin/wipe".to_owned(), "--all".to_owned()];
    assert_eq!(pool("raw").clean.method, CleanMethod::Command { command, timeout: 5400 });
    assert!(pool("raw").accept.device);
    assert_eq!(pool("mixed").clean.method, CleanMethod::Delete);
    let devices = pool("mixed").clean_devices.as_ref().unwrap();
    assert_eq!(devices.method, CleanMethod::Shred { passes: 2 });
    assert_eq!(pool("shared").capacity, Some(Bytes(10 << 30)));
}

/// A file that is wrong, and what is said of it.
const WRONG: &[(&str, &str)] = &[
    ("pools: {}", "pools.yaml:1:8: pools: there is no pool; name at least one"),
    (
        "pools:\n  fast:\n    path: mnt\n",
        "pools.yaml:3:11: pools.fast.path: \"mnt\" is not an absolute path",
    ),
    (
        "pools:\n  fast:\n    path: /mnt/../etc\n",
        "pools.yaml:3:11: pools.fast.path: \"/mnt/../etc\" has '..' in it",
    ),
    (
        "pools:\n  fast:\n    path: /\n",
        "pools.yaml:3:11: pools.fast.path: the root directory cannot be a pool",
    ),
    (
        "pools:\n  a: {path: /mnt/disks}\n  b: {path: /mnt/disks/ssd}\n",
        "pools.yaml:3:13: pools.b.path: /mnt/disks/ssd and /mnt/disks of pool a overlap; give each pool a directory of its own",
    ),
    (
        "pools:\n  fast:\n    path: /mnt\n    match: [a/b]\n",
        "pools.yaml:4:13: pools.fast.match: \"a/b\" has a '/', which no entry's name has",
    ),
    (
        "pools:\n  fast:\n    path: /mnt\n    mode: Block\n    accept: [mount]\n",
        "pools.yaml:5:13: pools.fast.accept: a Block pool has only devices; accept [device] or leave it out",
    ),
    (
        "pools:\n  fast:\n    path: /mnt\n    clean: {method: zero}\n",
        "pools.yaml:4:21: pools.fast.clean.method: directories are wiped by delete, reformat, command or none; discard, zero and shred need accept: [device], or stand in cleanDevices",
    ),
    (
        "pools:\n  fast:\n    path: /mnt\n    accept: [device]\n    cleanDevices: {method: zero}\n",
        "pools.yaml:5:19: pools.fast.cleanDevices: a pool has two ways to wipe only where it accepts directories and devices, both; say clean",
    ),
    (
        "pools:\n  fast:\n    path: /mnt\n    accept: [mount, device]\n    cleanDevices: {method: zero, passes: 2}\n",
        "pools.yaml:5:42: pools.fast.cleanDevices.passes: only shred has passes",
    ),
    (
        "pools:\n  raw:\n    path: /mnt\n    mode: Block\n    clean: {method: delete}\n",
        "pools.yaml:5:21: pools.raw.clean.method: a Block pool is wiped by discard, zero, shred, command or none",
    ),
    (
        "pools:\n  fast:\n    path: /mnt\n    newVolumes: clean\n    clean: {method: none}\n",
        "pools.yaml:5:21: pools.fast.clean.method: newVolumes: clean needs a way to wipe; newVolumes: accept offers what volumes hold",
    ),
    (
        "pools:\n  fast:\n    path: /mnt\n    accept: [mount, device]\n    newVolumes: clean\n    cleanDevices: {method: none}\n",
        "pools.yaml:6:28: pools.fast.cleanDevices.method: newVolumes: clean needs a way to wipe; newVolumes: accept offers what volumes hold",
    ),
    (
        "pools:\n  fast:\n    path: /mnt\n    accept: [directory, device]\n    clean: {method: reformat}\n    cleanDevices: {method: zero}\n",
        "pools.yaml:5:21: pools.fast.clean.method: a plain directory has no file system of its own to make anew; use delete, command or none",
    ),
    (
        "pools:\n  raw:\n    path: /mnt\n    mode: Block\n    clean: {method: shred, passes: 33}\n",
        "pools.yaml:5:36: pools.raw.clean.passes: 33 is not from 1 to 32",
    ),
    (
        "pools:\n  fast:\n    path: /mnt\n    clean: {method: delete, passes: 3}\n",
        "pools.yaml:4:37: pools.fast.clean.passes: only shred has passes",
    ),
    (
        "pools:\n  fast:\n    path: /mnt\n    clean: {method: command, command: [wipe]}\n",
        "pools.yaml:4:39: pools.fast.clean.command: it must start with the absolute path of a program; no shell is involved",
    ),
    (
        "pools:\n  fast:\n    path: /mnt\n    clean: {method: command, command: [/bin/wipe], timeout: 5}\n",
        "pools.yaml:4:61: pools.fast.clean.timeout: \"5\" is not a time of at most 30 days; write for example 30s, 10m or 2h",
    ),
    (
        "pools:\n  fast:\n    path: /mnt\n    clean: {method: command, command: [/bin/wipe], timeout: 99999999999999h}\n",
        "pools.yaml:4:61: pools.fast.clean.timeout: \"99999999999999h\" is not a time of at most 30 days; write for example 30s, 10m or 2h",
    ),
    (
        "pools:\n  fast:\n    path: /mnt\n    capacity: -5\n",
        "pools.yaml:4:15: pools.fast.capacity: \"-5\" is not a number of bytes: write for example 500Mi, 10Gi, 2T or 1073741824",
    ),
    (
        "pools:\n  fast:\n    path: /mnt\n    capacity: 1.5\n",
        "pools.yaml:4:15: pools.fast.capacity: \"1.5\" is not a number of bytes: write for example 500Mi, 10Gi, 2T or 1073741824",
    ),
    (
        "pools:\n  fast:\n    path: /mnt\n    accept: [device]\n    capacity: 1Gi\n",
        "pools.yaml:5:15: pools.fast.capacity: a device has the size that it has; only directories are given one",
    ),
    (
        "pools:\n  fast:\n    path: /mnt\n    accept: [directory]\n    clean: {method: reformat}\n",
        "pools.yaml:5:21: pools.fast.clean.method: a plain directory has no file system of its own to make anew; use delete, command or none",
    ),
    (
        "pools:\n  fast:\n    path: /mnt\n    accept: [mount, mount]\n",
        "pools.yaml:4:13: pools.fast.accept: a kind is there twice; take one out",
    ),
    (
        "pools:\n  fast:\n    path: \"/m\\0nt\"\n",
        "pools.yaml:3:11: pools.fast.path: \"/m\\0nt\" has a NUL character",
    ),
    (
        "pools:\n  fast:\n    path: /mnt\n    capacity: 10GB\n",
        "pools.yaml:4:15: pools.fast.capacity: \"10GB\" is not a number of bytes: write for example 500Mi, 10Gi, 2T or 1073741824",
    ),
    (
        "pools:\n  fast:\n    path: /mnt\n    accept: [device]\n    fsType: btrfs\n",
        "pools.yaml:5:13: pools.fast.fsType: \"btrfs\" is not ext4 or xfs",
    ),
    (
        "pools:\n  fast:\n    path: /mnt\n    mountOptions: [suid]\n",
        "pools.yaml:4:20: pools.fast.mountOptions: \"suid\" is not nosuid, nodev or noexec",
    ),
    (
        "pools:\n  Fast_Disks: {path: /mnt}\n",
        "pools.yaml:2:15: pools.Fast_Disks: pool name \"Fast_Disks\" is not valid: each part must start and end with a lower-case letter or a digit",
    ),
];

#[test]
fn a_wrong_value_is_refused_with_file_line_column_and_key() {
    for (text, said) in WRONG {
        assert_eq!(read(text).unwrap_err(), *said);
    }
}

/// A file of the wrong shape, and what is said of it.
const MISSHAPEN: &[(&str, &str)] = &[
    (
        "pools:\n  fast:\n    path: /mnt\n    pth: /mnt\n",
        "4:5: pools.fast.pth: there is no such key here; there are path, mode, match, accept, newVolumes, clean, cleanDevices, capacity, fsType, mountOptions",
    ),
    ("pools:\n  fast:\n    mode: Block\n", "3:5: pools.fast: the key path is missing"),
    (
        "pools:\n  fast:\n    path: /mnt\n    mode: block\n",
        "4:11: pools.fast.mode: \"block\" is none of Filesystem, Block",
    ),
    (
        "pools:\n  fast:\n    path: /a\n    path: /b\n",
        "4:5: pools.fast.path: it is there a second time; take one out",
    ),
    (
        "pools:\n  fast: {path: /a}\n  fast: {path: /b}\n",
        "3:3: pools.fast: it is there a second time; take one out",
    ),
    (
        "pools:\n  fast:\n    path: [/a]\n",
        "3:11: pools.fast.path: it is text: write it without brackets or keys",
    ),
    ("pools:\n  fast:\n    path: ~\n", "3:11: pools.fast.path: it has no value"),
    (
        "pools:\n  fast:\n    path: /a\n    clean: {method: burn}\n",
        "4:21: pools.fast.clean.method: \"burn\" is none of delete, reformat, none, discard, zero, shred, command",
    ),
    (
        "pools:\n  fast:\n    path: /a\n    clean: delete\n",
        "4:12: pools.fast.clean: it has keys of its own: write for example {method: delete}",
    ),
    (
        "pools:\n  fast:\n    path: /a\n    cleanDevices: zero\n",
        "4:19: pools.fast.cleanDevices: it has keys of its own: write for example {method: discard}",
    ),
    (
        "pools:\n  fast: /a\n",
        "2:9: pools.fast: it has keys of its own: write for example {path: /mnt/fast}",
    ),
    (
        "pools: [fast]\n",
        "1:8: pools: it has a key for each pool: write for example {fast: {path: /mnt/fast}}",
    ),
    (
        "pools:\n  fast:\n    path: /a\n    accept: mount\n",
        "4:13: pools.fast.accept: it is a list: write it in brackets, for example [mount, directory]",
    ),
    (
        "pools:\n  fast:\n    path: /a\n    clean: {method: delete, verify: often}\n",
        "4:37: pools.fast.clean.verify: it is true or false",
    ),
    (
        "pools:\n  fast:\n    path: /a\n    mode: Block\n    clean: {method: shred, passes: -1}\n",
        "5:36: pools.fast.clean.passes: it is a whole number",
    ),
    (
        "pools:\n  fast:\n    path: /a\n    capacity: [1]\n",
        "4:5: pools.fast.capacity: it is a number of bytes, for example 500Mi, 10Gi, 2T or 1073741824",
    ),
    (
        "pools: {fast: {path: /a}}\n---\npools: {}\n",
        "3:1: a second document begins here; a file of pools has only one",
    ),
    ("fast\n", "1:1: it has keys of its own: write for example pools: {fast: {path: /mnt/fast}}"),
    ("pool: {}\n", "1:1: pool: there is no such key here; there are pools"),
    ("pools: {", "1:8: pools: unclosed bracket '{'"),
    ("", "1:1: the file ends here; write for example pools: {fast: {path: /mnt/fast}}"),
];

#[test]
fn a_file_of_the_wrong_shape_is_refused_where_it_is_wrong_in_words_for_its_author() {
    for (text, said) in MISSHAPEN {
        assert_eq!(read(text).unwrap_err(), format!("pools.yaml:{said}"), "{text}");
    }
}

#[test]
fn a_byte_that_is_no_utf_8_is_told_with_its_place() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pools.yaml");
    std::fs::write(&file, b"pools:\n  f\xc3\xbcr: {path: /a\xff}\n").unwrap();

    let error = load(&file).unwrap_err();

    let said = "2:17: the byte 0xff is no UTF-8; save the file as UTF-8";
    assert_eq!(error.to_string(), format!("{}:{said}", file.display()));
}

#[test]
fn several_wrong_values_are_told_together_in_the_order_of_the_file() {
    let said = read("pools:\n  b: {path: b}\n  a: {path: a, capacity: x}\n").unwrap_err();

    let lines: Vec<_> = said.lines().map(|line| line.split(": ").nth(1).unwrap()).collect();
    assert_eq!(lines, ["pools.b.path", "pools.a.path", "pools.a.capacity"]);
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = load(Path::new("/nowhere/pools.yaml")).unwrap_err();

    assert_eq!(error.to_string(), "/nowhere/pools.yaml cannot be read");
}

#[test]
fn a_file_without_an_end_is_not_read_to_its_end() {
    let error = load(Path::new("/dev/zero")).unwrap_err();

    assert_eq!(error.to_string(), "/dev/zero is larger than 1 MiB and so is no file of pools");
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,200}") {
        let _ = read(&text);
    }

    #[test]
    fn any_text_like_a_file_of_pools_is_read_or_refused(
        text in "(pools:\n)?(  [a-z]{1,3}:\n(    (path|mode|match|accept|newVolumes|clean|cleanDevices|capacity|fsType|mountOptions): [\\[{]?[/a-z0-9*,: ]{0,12}[\\]}]?\n){0,5}){0,3}"
    ) {
        let _ = read(&text);
    }

    /// Every key, with values that are right more often than not: what is read is what the text says.
    #[test]
    fn a_pool_of_every_key_is_read_as_written_or_refused(
        new_volumes in "requireEmpty|clean|accept|[a-z]{0,6}",
        options in "\\[((nosuid|nodev|noexec|suid)(, (nosuid|nodev|noexec))?)?\\]",
        method in "delete|reformat|none|discard|zero|shred|command|burn",
        passes in "(, passes: -?[0-9]{1,4})?",
        command in "(, command: \\[(/bin/wipe|wipe|)(, [a-z-]{1,4}){0,2}\\])?",
        timeout in "(, timeout: '?-?[0-9]{0,6}[smhd]{0,2}'?)?",
        verify in "(, verify: (true|false|1))?",
        accept in "mount|directory|device|device, mount",
    ) {
        let text = format!(
            "pools:\n  fast:\n    path: /mnt/fast\n    accept: [{accept}]\n    newVolumes: {new_volumes}\n    \
             mountOptions: {options}\n    clean: {{method: {method}{passes}{command}{timeout}{verify}}}\n"
        );

        match read(&text) {
            Ok(pools) => {
                let pool = &pools[&"fast".parse().unwrap()];
                prop_assert_eq!(pool.clean.method.name(), &method, "{}", text);
                let read_back = match &*verify {
                    "" => pool.clean.method.is_read_back(),
                    said => said.ends_with("true"),
                };
                prop_assert_eq!(pool.clean.verify, read_back);
                prop_assert!(!options.contains("[suid"), "{}", text);
                match &pool.clean.method {
                    CleanMethod::Shred { passes } => prop_assert!((1..=32).contains(passes)),
                    CleanMethod::Command { command, timeout } => {
                        prop_assert!(command[0].starts_with('/') && *timeout > 0, "{}", text);
                    }
                    _ => prop_assert!(passes.is_empty() && command.is_empty() && timeout.is_empty()),
                }
            }
            Err(said) => {
                let placed = said.lines().all(|line| line.starts_with("pools.yaml:"));
                prop_assert!(placed && said.contains("pools.fast."), "{}\n{}", text, said);
            }
        }
    }
}
