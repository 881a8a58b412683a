//! Inode flags and projects that are the administrator's.

use std::fs;
use std::process::Command;

use berth::volume::Phase;

use crate::support::{self, Berth, Host, MIB};

/// The looks of a volume's root that the administrator chose are what a wipe puts back, and not what is usual.
#[test]
fn flags_and_a_project_that_the_administrator_set_are_put_back() {
    let mut host = Host::new();
    let device = host.device(400 * MIB);
    support::make_filesystem("xfs", &device);
    let pool = host.pool("fast");
    support::mount(&["-t", "xfs", device.to_str().unwrap()], &pool);
    let volume = pool.join("v1");
    fs::create_dir(&volume).unwrap();
    let io = |command: &str| {
        support::run(Command::new("xfs_io").args(["-c", command]).arg(&volume));
    };
    for command in ["chproj 7", "chattr +P", "chattr +A", "extsize 65536"] {
        io(command);
    }
    let stat = || {
        let output = Command::new("xfs_io").args(["-c", "stat"]).arg(&volume).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let told = text.lines().filter(|line| line.starts_with("fsxattr."));
        told.map(str::to_owned).collect::<Vec<_>>()
    };
    let before = stat();
    assert!(before.iter().any(|line| line.contains("projid = 7")), "{before:?}");
    let config = format!("pools: {{fast: {{path: {}, accept: [directory]}}}}", pool.display());
    let berth = Berth::start(&host, &config);
    berth.wait_phase("v1", Phase::Available);
    let id = berth.create("pvc-1", "fast", 1).unwrap().volume_id;
    for command in ["chattr -PA", "chproj 0", "extsize 0", "chattr +dS"] {
        io(command);
    }
    assert_ne!(stat(), before);

    berth.delete(&id).unwrap();

    berth.wait_phase("v1", Phase::Available);
    assert_eq!(stat(), before);
}
