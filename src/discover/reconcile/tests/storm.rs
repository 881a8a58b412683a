//! Any sequence of scans and tenants: what must hold after every step.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::super::super::found::{Found, Sight};
use super::super::{LocalVolume, Seen, VolumeName};
use super::world::*;
use crate::volume::{CleanReason, HealthReason};

/// The sources of the storm, some of which lie within others.
fn sources() -> Vec<Seen> {
    vec![
        mounted(1),
        directory(1, "/a"),
        directory(1, "/a/b"),
        directory(1, "/c"),
        mounted(2),
        full(mounted(3)),
        device(4),
        device(5),
        partition(6, &device(5)),
        directory(4, "/on-the-device"),
    ]
}

const PATHS: [&str; 5] = ["fast/v1", "fast/v2", "fast/v3", "slow/v1", "slow/v2"];

#[derive(Debug, Clone)]
enum Step {
    /// This is at each path now.
    Scan(Vec<Option<usize>>),
    /// Looking at a path failed this time.
    Blink(usize),
    Claim(usize),
    Release(usize),
    Wipe(usize),
    /// The pool leaves the configuration, or comes back.
    Pool(bool),
}

fn step() -> impl Strategy<Value = Step> {
    let sight = prop::option::weighted(0.7, 0..sources().len());
    prop_oneof![
        4 => prop::collection::vec(sight, PATHS.len()).prop_map(Step::Scan),
        1 => (0..PATHS.len()).prop_map(Step::Blink),
        3 => any::<usize>().prop_map(Step::Claim),
        2 => any::<usize>().prop_map(Step::Release),
        2 => any::<usize>().prop_map(Step::Wipe),
        1 => any::<bool>().prop_map(Step::Pool),
    ]
}

struct Storm {
    host: Host,
    there: Vec<(&'static str, Sight)>,
}

impl Storm {
    fn take(&mut self, step: Step) {
        match step {
            Step::Scan(at) => {
                let at = PATHS.iter().zip(at).filter_map(|(path, at)| Some((*path, at?)));
                let sight =
                    |(path, at): (_, usize)| (path, Sight::Source(Box::new(sources()[at].clone())));
                self.there = at.map(sight).collect();
            }
            Step::Blink(path) => {
                let failed = Sight::Failed { reason: HealthReason::ReadError, message: "x".into() };
                self.there.retain(|(other, _)| *other != PATHS[path]);
                self.there.push((PATHS[path], failed));
            }
            Step::Claim(which) => self.change(which, |volume| {
                let claim = crate::volume::fixture::claim(&format!("pvc-{}", volume.name));
                volume
                    .claimed(claim, crate::volume::fixture::delete())
                    .map(|spec| volume.spec = spec)
                    .ok();
            }),
            Step::Release(which) => self.change(which, |volume| {
                volume.released(volume.spec.tenancy).map(|spec| volume.spec = spec).ok();
            }),
            Step::Wipe(which) => self.change(which, |volume| {
                let (tenancy, now) = (volume.spec.tenancy, jiff::Timestamp::UNIX_EPOCH);
                let Some(order) = &volume.spec.clean else { return };
                let status = volume.cleaned(tenancy, order, CleanReason::Wiped, now);
                volume.status = status.unwrap_or_else(|| volume.status.clone());
            }),
            Step::Pool(here) => {
                let name = "slow".parse().unwrap();
                let pool = Host::new().pools.remove(&name).unwrap();
                if here {
                    self.host.pools.insert(name, pool);
                } else {
                    self.host.pools.remove(&name);
                }
            }
        }
    }

    fn change(&mut self, which: usize, change: impl FnOnce(&mut LocalVolume)) {
        let count = self.host.recorded.len();
        if let Some(index) = which.checked_rem(count) {
            change(&mut self.host.recorded[index]);
        }
    }

    fn found(&self) -> Found {
        let configured = |path: &str| {
            let pool = path.split('/').next().unwrap().parse().unwrap();
            self.host.pools.contains_key(&pool)
        };
        sights_found(self.there.iter().filter(|(path, _)| configured(path)).cloned())
    }
}

fn overlap(one: &Seen, other: &Seen) -> bool {
    let (one, other) = (&one.facts, &other.facts);
    let nested = one.root.starts_with(&other.root) || other.root.starts_with(&one.root);
    let parted = one.place.disk == other.place.on || other.place.disk == one.place.on;
    (one.device == other.device && nested) || parted
}

fn source_of(volume: &LocalVolume) -> Seen {
    let identity = volume.status.fingerprint.identity();
    sources().into_iter().find(|seen| seen.facts.fingerprint.identity() == identity).unwrap()
}

fn check(storm: &Storm, found: &Found, before: &BTreeSet<VolumeName>) -> Result<(), TestCaseError> {
    let offered: Vec<_> = storm.host.recorded.iter().filter(|v| v.is_claimable()).collect();
    for volume in &offered {
        let at = found.candidates.iter().find(|candidate| *candidate.path == *volume.status.path);
        let is_there = matches!(at.map(|at| &at.sight), Some(Sight::Source(seen))
            if seen.facts.fingerprint.identity() == volume.status.fingerprint.identity());
        prop_assert!(is_there, "{} is offered and not there", volume.name);
    }
    let fresh = offered.iter().filter(|volume| !before.contains(&volume.name));
    for plain in fresh.filter(|volume| !source_of(volume).facts.place.attached) {
        let path = &plain.status.path;
        let stood = |volume: &&LocalVolume| {
            let attached = source_of(volume).facts.place.attached;
            (attached && volume.status.path == *path)
                || volume.status.other_paths.contains(path.as_str())
        };
        let stood = storm.host.recorded.iter().find(stood);
        prop_assert!(stood.is_none(), "{} is offered beneath a lost mount", plain.name);
    }
    for (index, one) in offered.iter().enumerate() {
        // Whether it is seen or not: a mount that is lost on the host may be in use in a pod.
        let held = storm.host.recorded.iter().filter(|v| v.spec.claim.is_some());
        for other in offered[index + 1..].iter().copied().chain(held) {
            let (seen, overlaps) = (source_of(one), source_of(other));
            prop_assert!(!overlap(&seen, &overlaps), "{} and {} overlap", one.name, other.name);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Also that discovery comes to rest on what does not change, that no name is given twice and that nothing held is
    /// removed: `Host::settle` and `Host::write` see to it.
    #[test]
    fn no_sequence_of_scans_offers_one_source_twice_or_loses_a_held_volume(
        steps in prop::collection::vec(step(), 1..25)
    ) {
        let mut storm = Storm { host: Host::new(), there: Vec::new() };
        for step in steps {
            let held: Vec<_> = storm.host.recorded.iter().filter(|v| v.spec.claim.is_some()).map(|v| v.name.clone()).collect();
            let before: BTreeSet<_> =
                storm.host.recorded.iter().map(|volume| volume.name.clone()).collect();
            let is_scan = matches!(step, Step::Scan(_) | Step::Blink(_) | Step::Pool(_));
            storm.take(step);
            if is_scan {
                let found = storm.found();
                storm.host.settle(&found);
                check(&storm, &found, &before)?;
                for name in held {
                    prop_assert!(storm.host.recorded.iter().any(|volume| volume.name == name));
                }
            }
        }
    }
}
