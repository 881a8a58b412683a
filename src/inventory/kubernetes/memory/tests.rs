use std::collections::BTreeMap;

use futures_util::{FutureExt, StreamExt};
use proptest::prelude::*;

use super::*;
use crate::volume::fixture::{claimed_by, named};
use crate::volume::{Bytes, LocalVolume};

/// The object of the volume of this number, at this version.
fn entry(number: usize, version: u64) -> Entry {
    Entry::of_volume(&named(&format!("v{number}"), Bytes(version)), version)
}

fn name(number: usize) -> VolumeName {
    entry(number, 0).name
}

/// Memory that was listed while there was nothing.
fn empty() -> Arc<Memory> {
    let memory = Memory::new();
    memory.listed(Vec::new(), Version(1));
    Arc::new(memory)
}

fn version_of(memory: &Memory, number: usize) -> Option<u64> {
    memory.get(&name(number)).map(|entry| entry.version.0)
}

/// What a watcher is told now, without waiting.
fn told(events: &mut (impl Stream<Item = Event> + Unpin)) -> Option<String> {
    let event = events.next().now_or_never()?;
    Some(match event? {
        Event::Reset(all) => {
            let all: Vec<_> = all.iter().map(|recorded| recorded.version.0).collect();
            format!("reset {all:?}")
        }
        Event::Applied(recorded) => format!("applied {}", recorded.version.0),
        Event::Removed(_, version) => format!("removed {}", version.0),
    })
}

#[test]
fn an_answer_is_read_at_once_and_told_by_the_watch_alone() {
    let memory = empty();
    let mut events = watch(Arc::clone(&memory));
    assert_eq!(told(&mut events).as_deref(), Some("reset []"));

    memory.answered(entry(1, 5));
    assert_eq!(version_of(&memory, 1), Some(5));
    assert_eq!(told(&mut events), None);
    memory.applied(entry(1, 4));
    memory.applied(entry(1, 5));

    assert_eq!(told(&mut events).as_deref(), Some("applied 4"));
    assert_eq!(told(&mut events).as_deref(), Some("applied 5"));
    assert_eq!(version_of(&memory, 1), Some(5));
}

#[test]
fn an_answer_that_comes_late_changes_nothing() {
    let memory = empty();
    memory.applied(entry(1, 5));
    memory.removed(&name(1), Version(6));

    memory.answered(entry(1, 5));

    assert_eq!(version_of(&memory, 1), None);
}

#[test]
fn what_was_removed_does_not_come_back_by_late_news_of_it() {
    let memory = empty();
    memory.answered(entry(1, 5));
    memory.missed(&name(1), Version(5));
    assert_eq!(version_of(&memory, 1), None);

    memory.applied(entry(1, 4));
    assert_eq!(version_of(&memory, 1), None);
    memory.applied(entry(1, 5));
    assert_eq!(version_of(&memory, 1), None);
    memory.removed(&name(1), Version(6));

    memory.applied(entry(1, 7));
    assert_eq!(version_of(&memory, 1), Some(7));
}

#[test]
fn a_watch_begins_once_what_was_answered_before_it_has_been_told() {
    let memory = empty();
    memory.applied(entry(1, 2));
    memory.answered(entry(2, 5));
    memory.missed(&name(1), Version(2));
    let mut events = watch(Arc::clone(&memory));

    assert_eq!(told(&mut events), None);
    memory.applied(entry(2, 5));
    assert_eq!(told(&mut events), None, "the removal has not been told");
    memory.removed(&name(1), Version(6));

    assert_eq!(told(&mut events).as_deref(), Some("reset [5]"));
    assert_eq!(told(&mut events), None);
}

#[test]
fn a_list_begins_every_watch_anew_and_keeps_what_was_answered_after_it() {
    let memory = empty();
    memory.applied(entry(1, 2));
    let mut events = watch(Arc::clone(&memory));
    told(&mut events);
    memory.answered(entry(3, 9));

    memory.listed(vec![entry(2, 6)], Version(8));

    assert_eq!(version_of(&memory, 1), None);
    assert_eq!(version_of(&memory, 3), Some(9));
    memory.applied(entry(3, 9));
    assert_eq!(told(&mut events).as_deref(), Some("reset [6, 9]"));
}

#[test]
fn an_api_server_that_was_restored_to_an_older_state_is_believed() {
    let memory = empty();
    memory.applied(entry(1, 50));
    memory.answered(entry(2, 60));

    memory.listed(vec![entry(1, 20)], Version(30));

    assert_eq!(version_of(&memory, 1), Some(20));
    assert_eq!(version_of(&memory, 2), None);
    assert_eq!(memory.at(), Version(30));
}

#[test]
fn a_watcher_that_is_behind_by_more_than_the_news_kept_is_told_everything_anew() {
    let memory = empty();
    let mut events = watch(Arc::clone(&memory));
    told(&mut events);

    for version in 2..1200 {
        memory.applied(entry(1, version));
    }

    assert_eq!(told(&mut events).as_deref(), Some("reset [1199]"));
}

#[test]
fn a_bookmark_settles_what_no_watch_will_bring() {
    let memory = empty();
    memory.answered(entry(1, 5));
    let mut events = watch(Arc::clone(&memory));
    assert_eq!(told(&mut events), None);

    memory.reached(Version(5));

    assert_eq!(told(&mut events).as_deref(), Some("reset []"));
}

#[test]
fn the_holder_of_a_claim_is_who_holds_it_now() {
    let memory = empty();
    let held = claimed_by("pvc-1");
    let claim = "pvc-1".parse().unwrap();
    memory.applied(Entry::of_volume(&held, 2));
    assert_eq!(memory.holder(&claim), Some(held.name.clone()));

    let spec = held.released(held.spec.tenancy).unwrap();
    let free = LocalVolume { spec, ..held };
    memory.answered(Entry::of_volume(&free, 3));

    assert_eq!(memory.holder(&claim), None);
}

/// A step of an API server, of this process, or of the watch between them.
#[derive(Debug, Clone)]
enum Step {
    /// A volume is written; whether by this process.
    Write(usize, bool),
    /// A volume is removed; whether by this process.
    Remove(usize, bool),
    /// This process reads a volume from the API server.
    Look(usize),
    /// The watch brings so many changes.
    Bring(usize),
    /// The watch begins anew.
    List,
    /// Somebody begins to watch.
    Watch,
}

fn step() -> impl Strategy<Value = Step> {
    let volume = 0_usize..4;
    prop_oneof![
        4 => (volume.clone(), any::<bool>()).prop_map(|(volume, ours)| Step::Write(volume, ours)),
        2 => (volume.clone(), any::<bool>()).prop_map(|(volume, ours)| Step::Remove(volume, ours)),
        2 => volume.prop_map(Step::Look),
        4 => (1_usize..4).prop_map(Step::Bring),
        1 => Just(Step::List),
        1 => Just(Step::Watch),
    ]
}

/// An API server: what there is, and what the watch has yet to bring.
#[derive(Default)]
struct Truth {
    version: u64,
    volumes: BTreeMap<usize, u64>,
    coming: std::collections::VecDeque<(usize, u64, bool)>,
}

impl Truth {
    fn next(&mut self) -> u64 {
        self.version += 1;
        self.version
    }

    fn all(&self) -> Vec<Entry> {
        self.volumes.iter().map(|(number, version)| entry(*number, *version)).collect()
    }

    fn take(&mut self, step: &Step, memory: &Memory) {
        match *step {
            Step::Write(number, ours) => {
                let version = self.next();
                self.volumes.insert(number, version);
                self.coming.push_back((number, version, true));
                if ours {
                    memory.answered(entry(number, version));
                }
            }
            Step::Remove(number, ours) => {
                let Some(last) = self.volumes.remove(&number) else {
                    return self.take(&Step::Look(number), memory);
                };
                let version = self.next();
                self.coming.push_back((number, version, false));
                if ours {
                    memory.missed(&name(number), Version(last));
                }
            }
            Step::Look(number) => match self.volumes.get(&number) {
                Some(version) => memory.answered(entry(number, *version)),
                None => {
                    if let Some(known) = memory.get(&name(number)) {
                        memory.missed(&name(number), known.version);
                    }
                }
            },
            Step::Bring(count) => (0..count).for_each(|_| self.bring(memory)),
            Step::List => {
                self.coming.clear();
                memory.listed(self.all(), Version(self.version));
            }
            Step::Watch => {}
        }
    }

    fn bring(&mut self, memory: &Memory) {
        match self.coming.pop_front() {
            Some((number, version, true)) => memory.applied(entry(number, version)),
            Some((number, version, false)) => memory.removed(&name(number), Version(version)),
            None => {}
        }
    }
}

/// Takes everything that a watcher is told now; fails if anything is told twice, out of order, or of what is not there.
fn fold(
    events: &mut (impl Stream<Item = Event> + Unpin),
    known: &mut BTreeMap<VolumeName, Version>,
) {
    while let Some(Some(event)) = events.next().now_or_never() {
        match event {
            Event::Reset(all) => {
                *known =
                    all.into_iter().map(|all| (all.volume.name.clone(), all.version)).collect();
            }
            Event::Applied(recorded) => {
                let before = known.insert(recorded.volume.name.clone(), recorded.version);
                assert!(before < Some(recorded.version), "told twice");
            }
            Event::Removed(name, version) => {
                let before = known.remove(&name).expect("what was never there was removed");
                assert!(before < version);
            }
        }
    }
}

proptest! {
    /// Whatever happens in whatever order: who reads sees at least what this process was answered, and once the watch
    /// has caught up memory and every watcher know exactly what there is.
    #[test]
    fn memory_and_watchers_end_with_what_there_is(steps in prop::collection::vec(step(), 1..60)) {
        let memory = empty();
        let mut truth = Truth { version: 1, ..Truth::default() };
        let mut watchers: Vec<_> = vec![(watch(Arc::clone(&memory)), BTreeMap::new())];
        for step in &steps {
            truth.take(step, &memory);
            match *step {
                Step::Watch => watchers.push((watch(Arc::clone(&memory)), BTreeMap::new())),
                Step::Write(number, true) | Step::Look(number) => {
                    prop_assert_eq!(version_of(&memory, number), truth.volumes.get(&number).copied());
                }
                Step::Remove(number, true) => prop_assert_eq!(version_of(&memory, number), None),
                _ => {}
            }
            for (events, known) in &mut watchers {
                fold(events, known);
            }
        }
        while !truth.coming.is_empty() {
            truth.bring(&memory);
        }

        let expected: BTreeMap<_, _> =
            truth.all().into_iter().map(|entry| (entry.name, entry.version)).collect();
        let listed = memory.list().now_or_never().unwrap();
        let listed: BTreeMap<_, _> =
            listed.iter().map(|entry| (entry.name.clone(), entry.version)).collect();
        prop_assert_eq!(&listed, &expected);
        prop_assert!(memory.read().ahead.is_empty());
        for (mut events, mut known) in watchers {
            fold(&mut events, &mut known);
            prop_assert_eq!(&known, &expected);
        }
    }
}
