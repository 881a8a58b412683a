//! Checks of mount tables; see [`crate::hostile`].
#![allow(clippy::missing_panics_doc, reason = "that is what a check is for")]

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::{Mount, MountTable};

/// A mount table: a line is a mount and never a gap, what was read is read again as it was, and every question ends.
pub fn mountinfo(data: &[u8]) {
    let Ok(table) = MountTable::parse(data) else { return };
    let lines = data.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count();
    assert_eq!(table.iter().count(), lines, "a line is a gap");
    let printed: Vec<u8> = table.iter().flat_map(printed).collect();
    assert_eq!(MountTable::parse(&printed), Ok(table.clone()), "another table is read back");
    for mount in table.iter() {
        assert!(table.by_id(mount.id).is_some_and(|found| found.id == mount.id));
        let point = &mount.mount_point;
        assert!(table.at(point).is_some_and(|top| top.mount_point == *point));
        assert!(table.showing(mount.device, &mount.root).any(|shown| shown == mount));
        assert!(table.on(mount.device).count() <= lines);
        let _ = (table.ground_of(mount), table.ground(point), table.around(point));
        let beneath = mount.path_in_filesystem(&point.join("x"));
        assert!(beneath.is_none_or(|beneath| beneath.starts_with(&mount.root)));
        let _ = mount.is_read_only();
    }
    assert!(
        table.around(Path::new("")).is_none_or(|mount| mount.mount_point.as_os_str().is_empty())
    );
}

fn printed(mount: &Mount) -> Vec<u8> {
    let escaped = |text: &std::ffi::OsStr| -> Vec<u8> {
        let one = |byte: &u8| match byte {
            b' ' | b'\t' | b'\n' | b'\\' => format!("\\{byte:03o}").into_bytes(),
            other => vec![*other],
        };
        text.as_bytes().iter().flat_map(one).collect()
    };
    let mut line = format!("{} {} {} ", mount.id, mount.parent, mount.device).into_bytes();
    for path in [&mount.root, &mount.mount_point] {
        line.extend(escaped(path.as_os_str()));
        line.push(b' ');
    }
    line.extend(escaped(&mount.options));
    line.push(b' ');
    if !mount.propagation.is_empty() {
        line.extend(mount.propagation.as_bytes());
        line.push(b' ');
    }
    line.extend(b"- ");
    for text in [&mount.fs_type, &mount.source] {
        line.extend(escaped(text));
        line.push(b' ');
    }
    line.extend(escaped(&mount.super_options));
    line.push(b'\n');
    line
}
