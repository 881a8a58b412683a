//! Bounds within which everything is looked at, and rules that are broken on purpose.
//!
//! `cargo test --lib model::` looks at the small bounds; with `BERTH_PROVE=1` in the environment at the large ones too.
//! Each test prints how many states there are (`-- --nocapture`): of the small bounds 318,886 unique ones in all, looked at in
//! 16 seconds of one processor in the dev profile.

use Fault::{
    AgentCrash, ControllerCrash, LeaseDeleted, LedgerLost, NodeDeleted, ObjectDeleted, Reset,
    SetBack,
};

use super::checker::{Report, explore};
use super::*;

/// More states than any of the bounds has.
const MOST: usize = 3_000_000;

/// One volume, one name, one controller; nothing fails and no watch is late.
const ONE: Bounds = Bounds {
    volumes: 1,
    names: 1,
    controllers: 1,
    lives: 0,
    late: (false, false),
    mounts: true,
    sweeps: false,
    to_the_beginning: false,
    faults: Faults::NONE,
};
/// Two names after each other.
const TWO_NAMES: Bounds = Bounds { names: 2, ..ONE };
/// Nothing is mounted, and both watches are late.
const LATE: Bounds = Bounds { late: (true, true), mounts: false, ..ONE };
/// Two controllers and two volumes.
const CONTROLLERS: Bounds =
    Bounds { volumes: 2, controllers: 2, late: (true, false), mounts: false, ..ONE };

const fn with(bounds: Bounds, faults: &[(Fault, u8)]) -> Bounds {
    Bounds { faults: Faults::new(faults), ..bounds }
}

fn look(name: &str, bounds: Bounds, mutation: Option<Mutation>) -> Report {
    let report = explore(&Model::new(bounds, mutation), MOST);
    let Report { states, steps, depth, .. } = report;
    println!("{name}: {states} states, {steps} steps, {depth} deep");
    report
}

fn told(way: &[Label]) -> String {
    let steps: Vec<_> = way.iter().map(ToString::to_string).collect();
    format!("\n    {}", steps.join("\n    "))
}

/// Every rule holds in every state within `bounds`, and from each of them every volume comes to be claimable or held again.
fn holds(name: &str, bounds: Bounds) {
    let report = look(name, bounds, None);
    if let Some((broken, way)) = report.broken {
        panic!("{name}: {broken:?} after{}", told(&way));
    }
    if let Some((way, state)) = report.stuck {
        panic!("{name}: no way on after{}\n{state:#?}", told(&way));
    }
    assert!(!report.cut, "{name} has more than {MOST} states");
}

fn is_long() -> bool {
    std::env::var_os("BERTH_PROVE").is_some_and(|value| value == "1")
}

const UNMOUNTED: Bounds = Bounds { mounts: false, ..ONE };
const AGAIN: Bounds = Bounds { lives: 1, ..UNMOUNTED };
const CRASH_AGAIN: Bounds = with(AGAIN, &[(AgentCrash, 1)]);
const TWO_LATE: Bounds = Bounds { names: 2, controllers: 2, lives: 1, ..LATE };
const LOST: &[(Fault, u8)] = &[(LedgerLost, 1), (AgentCrash, 1)];
const LEDGER: Bounds = with(UNMOUNTED, &[(LedgerLost, 1), (AgentCrash, 2)]);
const LEDGERS: Bounds = Bounds { volumes: 2, ..LEDGER };
const LEDGER_MOUNTED: Bounds = with(ONE, LOST);
const DELETED: Bounds = with(LATE, &[(ObjectDeleted, 1)]);
const SET_BACK: Bounds = with(Bounds { names: 2, ..UNMOUNTED }, &[(SetBack, 1)]);
const SET_BACK_MOUNTED: Bounds =
    Bounds { mounts: true, late: (false, true), to_the_beginning: true, ..SET_BACK };
const NODE_GONE: Bounds = with(LATE, &[(NodeDeleted, 1)]);

#[test]
fn volumes_go_from_tenant_to_tenant_whoever_hears_of_it_late() {
    holds("two tenants", TWO_NAMES);
    holds("late watches", LATE);
    holds("late watches, the name again", Bounds { lives: 1, ..LATE });
    if is_long() {
        holds("late watches and mounts", Bounds { mounts: true, ..LATE });
    }
}

#[test]
fn a_crash_between_any_two_steps_is_made_up_for() {
    holds("agent crashes", with(ONE, &[(AgentCrash, 1)]));
    if is_long() {
        holds("node is reset", with(ONE, &[(Reset, 1)]));
        holds(
            "agent crashes, two tenants",
            with(Bounds { names: 2, ..UNMOUNTED }, &[(AgentCrash, 2)]),
        );
        holds(
            "agent crashes, the name again",
            with(Bounds { lives: 1, ..ONE }, &[(AgentCrash, 1)]),
        );
    }
}

#[test]
fn two_controllers_give_a_name_one_volume() {
    holds("two controllers", CONTROLLERS);
    let two = Bounds { controllers: 2, names: 2, late: (true, false), ..UNMOUNTED };
    if is_long() {
        holds("two controllers, two names, one volume", two);
        holds("controller crashes", with(CONTROLLERS, &[(ControllerCrash, 2)]));
        holds("two controllers and an agent", Bounds { late: (true, true), ..CONTROLLERS });
        let swept = Bounds { sweeps: true, late: (false, true), ..CONTROLLERS };
        holds("reservation is deleted", with(swept, &[(LeaseDeleted, 1)]));
    }
}

#[test]
fn what_is_lost_or_deleted_comes_back() {
    holds("object is deleted", DELETED);
    holds("ledger is lost", LEDGER);
    holds("API server is set back", SET_BACK);
    if is_long() {
        holds("node is gone", NODE_GONE);
        holds("ledger of two volumes is lost", LEDGERS);
        holds("ledger is lost under a mount", LEDGER_MOUNTED);
        holds("API server is set back under a mount", SET_BACK_MOUNTED);
        let mounts = Bounds { mounts: true, late: (false, true), ..ONE };
        holds("object is deleted under a mount", with(mounts, &[(ObjectDeleted, 1)]));
    }
}

/// What the checker finds when a rule is broken on purpose; absent where that is a state without a way on.
const BROKEN: [(Mutation, Bounds, Option<Broken>); 23] = [
    (Mutation::ClaimIgnoresCleanFor, TWO_NAMES, Some(Broken::DataLost)),
    (Mutation::ClaimKeepsTenancy, UNMOUNTED, Some(Broken::TenancyAgain)),
    (Mutation::ReleaseIgnoresTenancy, AGAIN, Some(Broken::ClaimLost)),
    (Mutation::ReleaseAnsweredFromMemory, TWO_LATE, Some(Broken::EndUndone)),
    (Mutation::HolderAnsweredFromMemory, TWO_LATE, Some(Broken::TenancyAgain)),
    (Mutation::VersionsIgnored, TWO_LATE, Some(Broken::TenancyAgain)),
    (Mutation::NoReservation, CONTROLLERS, Some(Broken::TwoVolumes)),
    (Mutation::OpenReservationIsDead, CONTROLLERS, Some(Broken::TwoVolumes)),
    (Mutation::NoFinalizer, DELETED, Some(Broken::ClaimLost)),
    (Mutation::FinalizerEndsWithClaim, DELETED, Some(Broken::EndUndone)),
    (Mutation::DeletionBelieved, DELETED, None),
    (Mutation::CleanerIgnoresMounts, LEDGER_MOUNTED, Some(Broken::WipedWhileMounted)),
    (Mutation::CleanerIgnoresRecord, ONE, Some(Broken::WipedWhileMounted)),
    (Mutation::HalfAWipeIsDone, ONE, Some(Broken::ClaimableWithData)),
    (Mutation::WipesSideBySide, CRASH_AGAIN, Some(Broken::DataLost)),
    (Mutation::StagedUnrecorded, ONE, Some(Broken::WipedWhileMounted)),
    (Mutation::EndedTenancyMounted, TWO_NAMES, Some(Broken::WipedWhileMounted)),
    (Mutation::CallersClaimIgnored, SET_BACK_MOUNTED, Some(Broken::DataShown)),
    (Mutation::LedgerRebuiltAtOnce, LEDGER, Some(Broken::ClaimLost)),
    (Mutation::PartOfALedgerBelieved, LEDGERS, Some(Broken::ClaimLost)),
    (Mutation::OlderTenancyTaken, SET_BACK, Some(Broken::DataLost)),
    (Mutation::EndedTenancyTaken, SET_BACK, Some(Broken::DataLost)),
    (Mutation::NodeGoneBeforeItsEnd, NODE_GONE, Some(Broken::EndUndone)),
];

#[test]
fn every_rule_that_is_broken_on_purpose_is_noticed() {
    for (mutation, bounds, expected) in BROKEN {
        let report = look(&format!("{mutation:?}"), bounds, Some(mutation));
        let broken = report.broken.map(|(broken, _)| broken);

        assert_eq!(broken, expected, "{mutation:?}");
        assert!(expected.is_some() || report.stuck.is_some(), "{mutation:?} goes unnoticed");
    }
}
