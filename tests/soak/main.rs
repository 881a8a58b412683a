//! Load and soak: the real server on 200 volumes of every kind, with claims, pods' mounts, writes through the targets,
//! statistics, expansions, deletions, mounts that come and go beside the volumes, changed configurations, SIGKILL and
//! SIGTERM; and after each stretch of it an auditor who shares no code with the product and finds no difference.
//!
//! `tests/soak/run SECONDS` runs it; plain `cargo test` does not. The first half is storms in which servers die; the second
//! is one life of a server under steady load, at the end of which it uses what it used when it had warmed up. A seed is
//! printed; BERTH_SEED=… rolls the same dice again, though not the same interleaving.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    unreachable_pub,
    reason = "a test panics where something is not as it must be, and is no library"
)]

mod audit;
mod calls;
mod dice;
mod facts;
mod footprint;
mod noise;
mod payload;
mod server;
mod site;
mod steady;
mod storm;
#[path = "../support/mod.rs"]
mod support;
mod tenant;
mod town;
mod visitor;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use facts::Fact;
use server::{Server, wait_for};
use support::{mount, unmount};
use town::Soak;

/// How long it runs unless BERTH_SOAK_SECONDS says otherwise.
const SECONDS: u64 = 120;

#[test]
fn whatever_happens_to_200_volumes_an_auditor_finds_no_difference_and_nothing_grows() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = number("BERTH_SEED").unwrap_or(now.as_secs() | 1);
    let load = Duration::from_secs(number("BERTH_SOAK_SECONDS").unwrap_or(SECONDS));
    println!("BERTH_SEED={seed} BERTH_SOAK_SECONDS={}", load.as_secs());
    let began = Instant::now();
    let mut soak = Soak::begin(seed);

    storm::rage(&mut soak, load / 2);
    steady::last(&mut soak, load / 2);

    let facts = &soak.town.facts;
    println!("in {} s of load, {} s in all:", soak.loaded.as_secs(), began.elapsed().as_secs());
    print!("{}", facts.report(soak.loaded));
    assert_eq!(facts.missing(), Vec::<Fact>::new(), "the soak was none");
}

/// An auditor who finds nothing is worth what he finds where something is wrong.
#[test]
fn an_auditor_finds_whatever_was_tampered_with() {
    let mut soak = Soak::begin(1);
    let mut server = Server::spawn(&soak.host);
    server.wait_ready(&soak.calls.runtime);
    soak.live(|_, town, _, stop| {
        wait_for("some life", || {
            let published = town.facts.of(Fact::Publishes);
            if stop() || published > 20 { Ok(()) } else { Err(published.to_string()) }
        });
    });
    soak.rest(&server);
    let target = soak.any_target();
    let mut found = |what: &str| {
        let found = soak.differences(&server).join("; ");
        assert!(found.contains(what), "of {what} there is no word in {found:?}");
    };
    let state = soak_path(&target).join("state/left");

    fs::write(target.join("stray"), "").unwrap();
    found("stray");
    fs::remove_file(target.join("stray")).unwrap();
    fs::write(&state, "").unwrap();
    found("state/left is left");
    fs::remove_file(&state).unwrap();
    mount(&["--bind", target.to_str().unwrap()], &target);
    found("mounted and nobody's");
    unmount(&target);
    unmount(&target);
    found("not mounted: [");
}

/// The host's directory, of a target in it.
fn soak_path(target: &Path) -> &Path {
    target.ancestors().nth(3).unwrap()
}
