//! What may be about to change: a directory that has just appeared may be the mount point of what is mounted next.
//!
//! A complaint of it is kept back until it has been so for a moment. A mount is not waited for: it is offered when it is
//! there.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use super::found::{Defect, Problem};

/// How long an administrator takes from making a mount point to mounting.
const MOMENT: Duration = Duration::from_secs(3);

/// Problems that are kept back.
#[derive(Debug, Default)]
pub(super) struct Unsettled {
    /// Each with when it was seen first; those that were there when everything was looked at first are settled.
    since: BTreeMap<Problem, Instant>,
    /// What was reported last; absent before the first look.
    settled: Option<BTreeSet<Problem>>,
}

impl Unsettled {
    /// The problems of a look that began at `now`, without those that are kept back.
    pub(super) fn without(
        &mut self,
        problems: BTreeSet<Problem>,
        now: Instant,
    ) -> BTreeSet<Problem> {
        let before = self.settled.take().unwrap_or_else(|| problems.clone());
        let passing = |problem: &Problem| {
            matches!(problem.defect, Defect::NotAccepted(_)) && !before.contains(problem)
        };
        let since = std::mem::take(&mut self.since);
        let young = problems.iter().filter(|problem| passing(problem)).filter_map(|problem| {
            let first = since.get(problem).copied().unwrap_or(now);
            (now < first + MOMENT).then(|| (problem.clone(), first))
        });
        self.since = young.collect();
        let settled: BTreeSet<_> =
            problems.into_iter().filter(|problem| !self.since.contains_key(problem)).collect();
        self.settled = Some(settled.clone());
        settled
    }

    /// When one of them is to be looked at again; absent if none is kept back.
    pub(super) fn due(&self) -> Option<Instant> {
        self.since.values().min().map(|first| *first + MOMENT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(path: &str, defect: Defect) -> Problem {
        Problem { pool: "fast".parse().unwrap(), path: path.to_owned(), defect }
    }

    fn directory(path: &str) -> Problem {
        problem(path, Defect::NotAccepted("a plain directory"))
    }

    #[test]
    fn a_directory_that_is_mounted_on_within_a_moment_is_never_complained_of() {
        let (mut unsettled, begun) = (Unsettled::default(), Instant::now());
        unsettled.without(BTreeSet::new(), begun);

        let made = unsettled.without([directory("/v1")].into(), begun + MOMENT);
        let due = unsettled.due();
        let mounted = unsettled.without(BTreeSet::new(), begun + MOMENT + MOMENT / 2);

        assert_eq!((made, mounted), (BTreeSet::new(), BTreeSet::new()));
        assert_eq!(due, Some(begun + 2 * MOMENT));
        assert_eq!(unsettled.due(), None);
    }

    #[test]
    fn a_directory_that_stays_one_is_complained_of_and_so_is_one_that_was_there_from_the_start() {
        let (mut unsettled, begun) = (Unsettled::default(), Instant::now());
        let (old, new) = (directory("/old"), directory("/new"));

        let first = unsettled.without([old.clone()].into(), begun);
        let made = unsettled.without([old.clone(), new.clone()].into(), begun);
        let due = unsettled.due().unwrap();
        let later = unsettled.without([old.clone(), new.clone()].into(), due);

        assert_eq!((first, made), ([old.clone()].into(), [old.clone()].into()));
        assert_eq!(later, [old, new].into());
        assert_eq!(unsettled.due(), None);
    }

    #[test]
    fn what_does_not_pass_by_itself_is_complained_of_at_once() {
        let (mut unsettled, begun) = (Unsettled::default(), Instant::now());
        unsettled.without(BTreeSet::new(), begun);
        let dangling = problem("/link", Defect::Nothing);

        let told = unsettled.without([dangling.clone()].into(), begun);

        assert_eq!(told, [dangling].into());
    }
}
