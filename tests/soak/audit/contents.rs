//! What is on the disks and in the directories, read whole.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use super::Tenancy;
use crate::payload::Payload;
use crate::site::{Kind, Site, ext4_uuid};
use crate::support::{mount, unmount};
use crate::tenant::{Is, staging};

/// What differs from what the tenant wrote.
pub fn of_tenant(host: &Path, held: &Tenancy<'_>) -> Vec<String> {
    let payload = &held.tenant.payload;
    match held.site.kind {
        Kind::Directory | Kind::Bind | Kind::Link | Kind::Raw => {
            payload.differences(&held.site.source)
        }
        Kind::Tmpfs | Kind::Ext4 => payload.differences(&held.site.path),
        Kind::Device if held.tenant.staged == Is::Yes => {
            payload.differences(&staging(&host.join("kubelet"), held.id))
        }
        // Nothing was ever written: it may not have a file system yet.
        Kind::Device if ext4_uuid(&held.site.source).is_none() => match payload {
            Payload::Files(files) if files.is_empty() => Vec::new(),
            _ => vec![format!("{} has no file system any more", held.site.path.display())],
        },
        Kind::Device => {
            let place = host.join("outside/audit");
            fs::create_dir_all(&place).unwrap();
            mount(&["-t", "ext4", "-o", "ro", held.site.source.to_str().unwrap()], &place);
            let differences = payload.differences(&place);
            unmount(&place);
            differences
        }
    }
}

/// What a tenant that was given this volume now would find.
pub fn of_free(site: &Site) -> Vec<String> {
    match site.kind {
        Kind::Raw => Payload::none(true).differences(&site.source),
        Kind::Device => of_blank(&site.source),
        Kind::Ext4 if ext4_uuid(&site.source) != site.uuid => {
            vec![format!("{} has another UUID", site.path.display())]
        }
        Kind::Link | Kind::Bind | Kind::Directory => of_directory(&site.source),
        Kind::Tmpfs | Kind::Ext4 => of_directory(&site.path),
    }
}

fn of_directory(place: &Path) -> Vec<String> {
    let mut found = Payload::none(false).differences(place);
    let facts = fs::metadata(place).unwrap();
    if (facts.mode() & 0o7777, facts.uid(), facts.gid()) != (0o755, 0, 0) {
        let (mode, uid) = (facts.mode(), facts.uid());
        found.push(format!("the root of {} is left with {mode:o}, {uid}", place.display()));
    }
    if fs::read_dir(place.join("lost+found")).is_ok_and(|entries| entries.count() > 0) {
        found.push(format!("{} holds something in lost+found", place.display()));
    }
    found
}

/// Asks blkid(8), which has a search for signatures of its own.
fn of_blank(device: &Path) -> Vec<String> {
    let output = Command::new("blkid").arg("-p").arg(device).output().unwrap();
    let found = String::from_utf8_lossy(&output.stdout).into_owned();
    // 2 is its word for nothing.
    if output.status.code() == Some(2) { Vec::new() } else { vec![found] }
}
