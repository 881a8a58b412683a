//! Which parts of which file systems and devices are offered already, so that nothing within them is offered again.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::Seen;
use crate::host::DeviceNumber;

/// What is taken. A device is the root of everything on it.
#[derive(Debug, Default)]
pub(super) struct Places {
    taken: BTreeMap<(DeviceNumber, PathBuf), String>,
    /// Disks of which a partition is taken.
    disks: BTreeMap<DeviceNumber, String>,
}

impl Places {
    /// Takes the place of `seen`, which `path` leads to.
    pub(super) fn take(&mut self, seen: &Seen, path: &str) {
        let facts = &seen.facts;
        self.taken.entry((facts.device, facts.root.clone())).or_insert_with(|| path.to_owned());
        if let Some(disk) = facts.disk {
            self.disks.entry(disk).or_insert_with(|| path.to_owned());
        }
    }

    /// The path to something taken that `seen` contains, lies within, or is.
    pub(super) fn overlapping(&self, seen: &Seen) -> Option<&str> {
        let facts = &seen.facts;
        let mut around = facts.root.ancestors().map(|root| (facts.device, root.to_owned()));
        let around = around.find_map(|place| self.taken.get(&place));
        // Paths are ordered by their components, so what lies within follows at once.
        let within = self.taken.range((facts.device, facts.root.clone())..).next();
        let within = within
            .filter(|((device, root), _)| *device == facts.device && root.starts_with(&facts.root));
        let disk = facts.disk.and_then(|disk| self.taken.get(&(disk, PathBuf::from("/"))));
        let partition = self.disks.get(&facts.device);
        around.or(within.map(|(_, path)| path)).or(disk).or(partition).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::world::{device, directory};
    use super::*;

    fn taken(sources: &[Seen]) -> Places {
        let mut places = Places::default();
        for seen in sources {
            places.take(seen, "taken");
        }
        places
    }

    #[test]
    fn what_contains_lies_within_or_is_the_same_overlaps_and_what_lies_beside_does_not() {
        let places = taken(&[directory(1, "/a/b"), directory(1, "/a-c")]);

        for (root, overlaps) in [
            ("/", true),
            ("/a", true),
            ("/a/b", true),
            ("/a/b/c", true),
            ("/a/bc", false),
            ("/b", false),
        ] {
            assert_eq!(places.overlapping(&directory(1, root)).is_some(), overlaps, "{root}");
            assert_eq!(places.overlapping(&directory(2, root)), None, "{root}");
        }
    }

    #[test]
    fn a_device_overlaps_what_is_mounted_from_it() {
        assert!(taken(&[device(1)]).overlapping(&directory(1, "/a")).is_some());
        assert!(taken(&[directory(1, "/a")]).overlapping(&device(1)).is_some());
    }

    #[test]
    fn a_disk_overlaps_its_partitions_and_they_not_each_other() {
        let partition = |number, disk: &Seen| {
            let mut seen = device(number);
            seen.facts.disk = Some(disk.facts.device);
            seen
        };
        let disk = device(1);
        let (first, second) = (partition(2, &disk), partition(3, &disk));

        assert!(taken(std::slice::from_ref(&disk)).overlapping(&first).is_some());
        assert!(taken(std::slice::from_ref(&first)).overlapping(&disk).is_some());
        assert_eq!(taken(&[first]).overlapping(&second), None);
    }
}
