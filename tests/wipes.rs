//! What is remembered of wipes, against the real server: listed for people, there after a kill at any moment, and never
//! less than what was offered again. That wipes do what they say is looked at in `src/clean/tests/{believable,lies}.rs`.
//!
//! `BERTH_PROVE=1` kills the server 150 times instead of 10.

#![expect(clippy::unwrap_used, reason = "a test panics where something is not as it must be")]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use berth::volume::{CleanReason, LocalVolume, Phase, Verified, WipeRecord, WipeResult};
use support::{Berth, Host, MIB};

/// What `berth wipes` prints with these arguments.
fn wipes(host: &Host, arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_berth"))
        .arg("wipes")
        .args(arguments)
        .env("BERTH_ENDPOINT", support::berth::endpoint(host))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn records(host: &Host, arguments: &[&str]) -> Vec<WipeRecord> {
    serde_json::from_str(&wipes(host, &[arguments, &["-o", "json"]].concat())).unwrap()
}

fn results(records: &[WipeRecord]) -> Vec<WipeResult> {
    records.iter().map(|record| record.wipe.result).collect()
}

fn config(host: &Host, more: &str) -> String {
    format!("pools: {{fast: {{path: {}{more}}}}}", host.pool("fast").display())
}

/// One tenancy of a volume, with a file of its tenant; gives the id.
fn tenancy(berth: &Berth, host: &Host, number: u32) -> String {
    // What is claimable is heard of by whoever claims a moment after it is recorded.
    let claim = format!("pvc-{number}");
    let id = berth.wait_for("a claim", |berth| berth.create(&claim, "fast", 1).ok()).volume_id;
    let target = berth.publish(host, &id).unwrap();
    fs::create_dir(target.join("directory")).unwrap();
    fs::write(target.join("directory/file"), "a tenant's").unwrap();
    berth.unpublish(host, &id).unwrap();
    berth.delete(&id).unwrap();
    id
}

#[test]
fn wipes_are_listed_by_volume_and_pool_and_are_there_when_server_and_volume_are_not() {
    let host = Host::new();
    host.tmpfs("fast", "v1", MIB);
    let berth = Berth::start(&host, &config(&host, ""));
    let name = berth.wait_phase("v1", Phase::Available).name.to_string();
    assert_eq!(wipes(&host, &[]), "No wipe is remembered.\n");

    let ids = [1, 2].map(|number| {
        let id = tenancy(&berth, &host, number);
        berth.wait_phase("v1", Phase::Available);
        id
    });

    let listed = records(&host, &["--volume", &name, "--pool", "fast", "--node", "node-a"]);
    let named = listed.iter().map(|r| format!("{}@{}", r.volume, r.wipe.tenancy));
    assert_eq!(named.collect::<Vec<_>>(), ids);
    for record in &listed {
        let wipe = &record.wipe;
        assert_eq!((wipe.result, wipe.verified), (WipeResult::Wiped, Verified::Listing));
        assert_eq!((wipe.entries, wipe.bytes.0, wipe.times), (2, 0, 1));
        assert!(wipe.duration_millis.is_some() && wipe.message.is_none());
    }
    let table = wipes(&host, &[]);
    assert!(
        table.lines().nth(2).unwrap().ends_with("Wiped") && table.contains("delete"),
        "{table}"
    );
    assert!(wipes(&host, &["-o", "wide"]).contains("listing"));
    assert_eq!(records(&host, &["--pool", "slow"]), []);
    assert_eq!(records(&host, &["--node", "node-b"]), []);
    let volume = berth.volume("v1").unwrap();
    assert_eq!(volume.last_wipe().as_ref(), listed.last());

    // The disk goes, and its record with it.
    support::unmount(&host.pool("fast").join("v1"));
    fs::remove_dir(host.pool("fast").join("v1")).unwrap();
    berth.wait_for("the volume to go", |berth| berth.volumes().is_empty().then_some(()));
    berth.kill();
    let _berth = Berth::start(&host, &config(&host, ""));
    assert_eq!(records(&host, &[]), listed);
}

#[test]
fn a_wipe_whose_server_was_killed_is_remembered_as_cut_off_and_the_one_that_ends_it_as_its_own() {
    let host = Host::new();
    host.tmpfs("fast", "v1", MIB);
    let script = "until test -e $0; do sleep 0.01; done; find $BERTH_PATH -mindepth 1 -delete";
    let go = host.path("outside/go");
    let clean = format!(
        ", clean: {{method: command, command: [/bin/sh, -c, '{script}', {}]}}",
        go.display()
    );
    let berth = Berth::start(&host, &config(&host, &clean));
    berth.wait_phase("v1", Phase::Available);
    tenancy(&berth, &host, 1);
    let begun = |berth: &Berth| berth.volume("v1").unwrap().status.cleaning.map(|c| c.started);
    let first = berth.wait_for("the wipe to begin", begun);

    berth.kill();
    let berth = Berth::start(&host, &config(&host, &clean));
    berth.wait_for("another to begin", |berth| begun(berth).filter(|started| *started != first));
    assert_eq!(results(&records(&host, &[])), [WipeResult::Interrupted]);
    assert!(berth.stop().success());
    let berth = Berth::start(&host, &config(&host, &clean));
    fs::write(go, "").unwrap();
    berth.wait_phase("v1", Phase::Available);

    let listed = records(&host, &[]);
    let told = [WipeResult::Interrupted, WipeResult::Interrupted, WipeResult::Wiped];
    assert_eq!(results(&listed), told);
    // Of the one that was asked to end it is known how long it took.
    let known: Vec<_> = listed.iter().map(|r| r.wipe.duration_millis.is_some()).collect();
    assert_eq!(known, [false, true, true]);
    // A person who looks for the program's arguments finds them with the order, and not in each wipe.
    assert!(!wipes(&host, &["-o", "json"]).contains(script));
}

/// Says that a volume is clean by a wipe of which nothing is remembered.
fn unremembered(volume: &LocalVolume, listed: &[WipeRecord]) -> bool {
    let by_wipe = volume.status.conditions.clean.reason == CleanReason::Wiped;
    let of = |record: &&WipeRecord| {
        record.wipe.result == WipeResult::Wiped
            && Some(record.wipe.tenancy) == volume.status.clean_for
    };
    by_wipe && !listed.iter().any(|record| of(&record))
}

#[test]
fn however_often_the_server_is_killed_no_volume_is_offered_again_by_a_wipe_that_nobody_remembers() {
    let kills = if std::env::var_os("BERTH_PROVE").is_some() { 150 } else { 10 };
    let host = Host::new();
    host.tmpfs("fast", "v1", MIB);
    let mut berth = Berth::start(&host, &config(&host, ""));
    let mut ended = BTreeSet::new();
    for round in 0..kills {
        berth.wait_phase("v1", Phase::Available);
        let id = tenancy(&berth, &host, round);
        ended.insert(id.rsplit_once('@').unwrap().1.parse::<u64>().unwrap());
        // Somewhere in the wipe, which takes a few milliseconds, or soon after it.
        for _ in 0..round % 7 {
            berth.volumes();
        }
        berth.kill();
        berth = Berth::start(&host, &config(&host, ""));
        let volume = berth.volume("v1").unwrap();
        assert!(!unremembered(&volume, &records(&host, &[])), "{volume:?}");
    }
    berth.wait_phase("v1", Phase::Available);

    let listed = records(&host, &[]);
    let wiped = listed.iter().filter(|record| record.wipe.result == WipeResult::Wiped);
    let wiped: BTreeSet<_> = wiped.map(|record| record.wipe.tenancy.0).collect();
    // A volume has 32 of them.
    let latest: BTreeSet<_> = ended.into_iter().rev().take(10).collect();
    assert!(latest.is_subset(&wiped), "{latest:?} {wiped:?}");
}
