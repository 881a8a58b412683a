//! Which parts of which file systems and devices are offered already, so that nothing within them is offered again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::volume::Place;

/// What is taken, and the path by which. A device is the root of everything on it.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// By each name of what it lies on, and the path there.
    taken: BTreeMap<String, BTreeMap<PathBuf, String>>,
    /// By each name of a disk of which a partition, or a part of one, is taken.
    disks: BTreeMap<String, String>,
}

impl Places {
    /// Takes `place`, which `path` leads to.
    pub(super) fn take(&mut self, place: &Place, path: &str) {
        for name in place.on.iter() {
            let on = self.taken.entry(name.to_owned()).or_default();
            on.entry(PathBuf::from(&place.root)).or_insert_with(|| path.to_owned());
        }
        for disk in place.disk.iter() {
            self.disks.entry(disk.to_owned()).or_insert_with(|| path.to_owned());
        }
    }

    /// The path to something taken that `place` contains, lies within, or is.
    pub(super) fn overlapping(&self, place: &Place) -> Option<&str> {
        let root = Path::new(&place.root);
        let nested = place.on.iter().find_map(|name| self.nested(name, root));
        let partition = place.on.iter().find_map(|name| self.disks.get(name));
        let disk = place.disk.iter().find_map(|name| self.taken.get(name)?.values().next());
        nested.or(partition).or(disk).map(String::as_str)
    }

    /// The path to something taken on `name` that contains `root`, or lies within.
    fn nested(&self, name: &str, root: &Path) -> Option<&String> {
        let taken = self.taken.get(name)?;
        let around = root.ancestors().find_map(|root| taken.get(root));
        // Paths are ordered by their components, so what lies within follows at once.
        let mut next = taken.range(root.to_owned()..);
        let within = next.next().filter(|(taken, _)| taken.starts_with(root));
        around.or(within.map(|(_, path)| path))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Seen;
    use super::super::tests::world::{device, directory, partition};
    use super::*;

    fn taken(sources: &[Seen]) -> Places {
        let mut places = Places::default();
        for seen in sources {
            places.take(&seen.facts.place, "taken");
        }
        places
    }

    fn overlapping(places: &Places, seen: &Seen) -> bool {
        places.overlapping(&seen.facts.place).is_some()
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
            assert_eq!(overlapping(&places, &directory(1, root)), overlaps, "{root}");
            assert!(!overlapping(&places, &directory(2, root)), "{root}");
        }
    }

    #[test]
    fn a_device_overlaps_what_is_mounted_from_it() {
        assert!(overlapping(&taken(&[device(1)]), &directory(1, "/a")));
        assert!(overlapping(&taken(&[directory(1, "/a")]), &device(1)));
    }

    #[test]
    fn a_disk_overlaps_its_partitions_and_they_not_each_other() {
        let disk = device(1);
        let (first, second) = (partition(2, &disk), partition(3, &disk));

        assert!(overlapping(&taken(std::slice::from_ref(&disk)), &first));
        assert!(overlapping(&taken(std::slice::from_ref(&first)), &disk));
        assert!(!overlapping(&taken(&[first]), &second));
    }

    #[test]
    fn a_disk_overlaps_what_is_mounted_from_its_partitions() {
        let disk = device(1);
        let mut mounted = directory(2, "/a");
        mounted.facts.place.disk.clone_from(&disk.facts.place.on);

        assert!(overlapping(&taken(std::slice::from_ref(&disk)), &mounted));
        assert!(overlapping(&taken(&[mounted]), &disk));
    }
}
