//! Faults at every step of a volume's life. Each of its calls that change something, the durable writes, mounts, removals
//! and ioctls of the server and of `mkfs`, is in turn
//! - the one before which the server is killed (SIGKILL): it is started again, and its caller repeats what it asked last;
//! - one that fails, with EIO, ENOSPC, EROFS, EBUSY or ENOMEM in turn, once or from then on until its callers have seen
//!   two failures: callers are told something sensible, the server goes on, and what they repeat succeeds.
//!
//! After every step the inventory, the mounts (by a reader of their own) and the data are compared with what must be
//! there; at the end another tenant looks for what the first one left. `support/inject.rs` says how it is done.
//!
//! Each run takes a few of the points of each kind of volume, others each time: `BERTH_SEED`, which it prints, repeats
//! one. `BERTH_PROVE=1` takes all, which took 52 minutes on two cores; `--nocapture` shows how many there were.

#![expect(clippy::unwrap_used, reason = "a test panics where something is not as it must be")]

mod busy;
mod kind;
mod life;
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use kind::Kind;
use life::{Lived, Point, STEPS, Step, live};
use rustix::io::Errno;
use support::inject::Fault;

/// Points of each kind in a run that does not take all.
const FEW: usize = 4;
/// Of the calls of `mkfs`, which are many and alike, every such one.
const OF_MKFS: usize = 8;
const ERRORS: [Errno; 5] = [Errno::IO, Errno::NOSPC, Errno::ROFS, Errno::BUSY, Errno::NOMEM];

/// How the faults of a course are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Course {
    Kill,
    Fail,
}

impl Course {
    /// The faults for the point `number`.
    fn faults(self, number: usize) -> Vec<Fault> {
        if self == Self::Kill {
            return vec![Fault::Kill];
        }
        let fail = |times, turn: usize| Fault::Fail { errno: ERRORS[turn % ERRORS.len()], times };
        let (once, lasting) = (fail(1, number), fail(u32::MAX, number + 2));
        match number / ERRORS.len() % 2 {
            _ if proves() => vec![once, lasting],
            0 => vec![once],
            _ => vec![lasting],
        }
    }
}

fn proves() -> bool {
    std::env::var_os("BERTH_PROVE").is_some_and(|value| value == "1")
}

fn seed() -> usize {
    let given = std::env::var("BERTH_SEED").ok().and_then(|seed| seed.parse().ok());
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    given.unwrap_or_else(|| usize::try_from(now()).unwrap())
}

/// Where a fault can come in the life of `kind` that `lived` has shown.
fn places(kind: Kind, lived: &Lived) -> Vec<(Step, u32)> {
    // The first steps are the same for all.
    let first = [Step::Start, Step::Create];
    let steps = STEPS.into_iter().filter(|step| kind == Kind::Directory || !first.contains(step));
    let mut places = Vec::new();
    for step in steps {
        let calls = lived.calls[&step].iter().enumerate();
        let taken = calls.filter(|(at, call)| call.program.is_none() || at % OF_MKFS == 0);
        places.extend(taken.map(|(at, _)| (step, u32::try_from(at).unwrap())));
    }
    places
}

/// Lives as many lives as there are points to take, and says how many there were.
fn take(kind: Kind, course: Course) {
    let (begun, seed) = (Instant::now(), seed());
    println!("{kind:?}, {course:?}: BERTH_SEED={seed}");
    let places = places(kind, &live(kind, None));
    let stride = if proves() { 1 } else { places.len().div_ceil(FEW) };
    let chosen = places.iter().enumerate().skip(seed % stride).step_by(stride);
    let (mut points, mut met) = (0, BTreeMap::<_, usize>::new());
    for (number, &(step, after)) in chosen {
        for fault in course.faults(number + seed) {
            let point = Point { step, after, fault };
            println!("{point:?}");
            points += 1;
            let lived = live(kind, Some(point));
            if let Some(first) = lived.met.first() {
                let program = first.program.as_deref().unwrap_or("berth");
                *met.entry(format!("{step:?} {program} {}", first.name)).or_default() += 1;
            }
        }
    }
    let injected: usize = met.values().sum();
    let mut report = format!(
        "{kind:?}, {course:?}: {injected} faults of {points} chosen, at {} places of a life, in {:.0} s:",
        places.len(),
        begun.elapsed().as_secs_f64()
    );
    for (what, count) in &met {
        write!(report, " {what} {count},").unwrap();
    }
    println!("{report}");
    // Which calls a life makes differs a little each time, so that the last of a step may not come.
    assert!(injected * 2 > points, "too few faults came: {report}");
}

macro_rules! courses {
    ($($name:ident: $kind:ident, $course:ident;)*) => {
        $(#[test]
        fn $name() {
            take(Kind::$kind, Course::$course);
        })*
    };
}

courses! {
    a_directory_survives_a_kill_before_any_call: Directory, Kill;
    a_tmpfs_survives_a_kill_before_any_call: Tmpfs, Kill;
    a_device_that_is_formatted_survives_a_kill_before_any_call: Formatted, Kill;
    a_file_system_that_is_made_anew_survives_a_kill_before_any_call: Reformatted, Kill;
    a_device_that_is_zeroed_survives_a_kill_before_any_call: Zeroed, Kill;
    a_device_that_is_discarded_survives_a_kill_before_any_call: Discarded, Kill;
    a_directory_survives_the_failure_of_any_call: Directory, Fail;
    a_tmpfs_survives_the_failure_of_any_call: Tmpfs, Fail;
    a_device_that_is_formatted_survives_the_failure_of_any_call: Formatted, Fail;
    a_file_system_that_is_made_anew_survives_the_failure_of_any_call: Reformatted, Fail;
    a_device_that_is_zeroed_survives_the_failure_of_any_call: Zeroed, Fail;
    a_device_that_is_discarded_survives_the_failure_of_any_call: Discarded, Fail;
}
