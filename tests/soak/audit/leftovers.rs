//! What nobody needs any more and is still there: directories, files, processes.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::{Expected, table};
use crate::site::{EXTRA, VISITORS};
use crate::tenant::{Is, TARGETS, staging, target};

/// Notes all of it.
pub fn check(expected: &Expected<'_>, found: &mut Vec<String>) {
    let host = &expected.host;
    let kubelet = host.join("kubelet");
    let mut due = BTreeSet::new();
    for tenant in &expected.tenants {
        let Some(id) = &tenant.id else { continue };
        due.extend((tenant.staged != Is::No).then(|| staging(&kubelet, id)));
        let targets = (0..TARGETS).filter(|number| tenant.targets[*number] == Is::Yes);
        due.extend(targets.map(|number| target(&kubelet, id, number)));
    }
    let pods: Vec<_> = (0..TARGETS).map(|number| kubelet.join(format!("pod-{number}"))).collect();
    let mut there: BTreeSet<_> = entries(&kubelet).into_iter().collect();
    for pod in pods {
        there.remove(&pod);
        there.extend(entries(&pod));
    }
    compare("the kubelet's directory", &there, &due, found);

    let state = BTreeSet::from([host.join("state/inventory.redb"), host.join("state/wipes")]);
    let there: BTreeSet<_> = entries(&host.join("state")).into_iter().collect();
    found.extend(there.difference(&state).map(|path| format!("{} is left", path.display())));
    let locks = entries(&host.join("state/wipes"));
    found.extend(locks.iter().map(|path| format!("{} is left", path.display())));

    let socket = BTreeSet::from([host.join("run/csi.sock")]);
    compare("run", &entries(&host.join("run")).into_iter().collect(), &socket, found);

    let mut due: BTreeSet<_> = expected.sites.iter().map(|site| site.path.clone()).collect();
    let extra = host.join("pools").join(EXTRA.0);
    due.extend((0..EXTRA.1).map(|number| extra.join(format!("v{number}"))));
    let pools: BTreeSet<_> = due.iter().map(|path| path.parent().unwrap().to_owned()).collect();
    let pools = pools.into_iter().chain([host.join("pools").join(VISITORS)]);
    let there = pools.flat_map(|pool| entries(&pool)).collect();
    compare("the pools", &there, &due, found);
    check_processes(expected, found);
}

/// No process stays behind a server that has ended, and none beneath one that rests.
fn check_processes(expected: &Expected<'_>, found: &mut Vec<String>) {
    let own = fs::read_link("/proc/thread-self/ns/mnt").unwrap();
    for process in entries(Path::new("/proc")) {
        let number = process.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok());
        let Some(number) = number.filter(|number| *number != expected.server) else { continue };
        let is_ours = fs::read_link(process.join("ns/mnt")).is_ok_and(|mnt| mnt == own);
        let stat = fs::read_to_string(process.join("stat")).unwrap_or_default();
        let parent =
            stat.rsplit_once(')').and_then(|(_, rest)| rest.split(' ').nth(2)?.parse().ok());
        if is_ours || parent == Some(expected.server) {
            found.push(format!("a process is left: {stat}"));
        }
        // What is mounted here is seen nowhere else.
        let points = (!is_ours).then(|| table::points(&process)).flatten().unwrap_or_default();
        let leaked = points.iter().any(|point| point.starts_with(&expected.host));
        if leaked && number != std::process::id() {
            found.push(format!("process {number} sees mounts of the host"));
        }
    }
}

fn compare(
    what: &str,
    there: &BTreeSet<PathBuf>,
    due: &BTreeSet<PathBuf>,
    found: &mut Vec<String>,
) {
    found.extend(there.difference(due).map(|path| format!("{what}: {} is left", path.display())));
    found.extend(due.difference(there).map(|path| format!("{what}: {} is gone", path.display())));
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}
