use std::fs;
use std::path::Path;
use std::time::Duration;

use super::super::found::Defect;
use super::*;
use crate::discover::reconcile::{World, reconcile};
use crate::volume::fixture;

/// The pool `fast` with everything in the directory `path`.
fn pools(path: &Path) -> Pools {
    let text = format!(
        "pools:\n  fast: {{path: {}, mode: Filesystem, accept: [mount, directory]}}\n",
        path.display()
    );
    crate::pool::config::parse(&text, Path::new("pools.yaml")).unwrap()
}

async fn scanned(attempts: &Attempts, pools: &Pools, recorded: &[LocalVolume]) -> Found {
    scan(attempts, HostNamespace::default(), pools, recorded, &BTreeMap::new()).await.unwrap().found
}

#[tokio::test]
async fn an_entry_that_hangs_is_reported_as_such_and_the_others_are_seen() {
    let directory = tempfile::tempdir().unwrap();
    for entry in ["hangs", "well"] {
        fs::create_dir(directory.path().join(entry)).unwrap();
    }
    let attempts = Attempts::new(Duration::from_secs(2));
    let (release, wait) = std::sync::mpsc::channel::<()>();
    let hangs = directory.path().join("hangs");
    let hanging = attempts.run(About::path(&hangs), move || {
        let _ = wait.recv();
    });
    assert!(hanging.await.is_err());

    let found = scanned(&attempts, &pools(directory.path()), &[]).await;

    let sights: Vec<_> = found.candidates.iter().map(|candidate| &candidate.sight).collect();
    assert!(matches!(sights[0], Sight::Failed { reason: HealthReason::ProbeTimeout, .. }));
    assert!(matches!(sights[1], Sight::Source(seen) if seen.contents.is_some()));
    drop(release);
}

#[tokio::test]
async fn while_too_many_others_hang_pools_are_listed_and_of_their_entries_nothing_is_said() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("v1")).unwrap();
    let attempts = Attempts::new(Duration::from_millis(500));
    let (release, wait) = std::sync::mpsc::channel::<()>();
    let wait = Arc::new(std::sync::Mutex::new(wait));
    let hanging = (0..200).map(|number| {
        let wait = Arc::clone(&wait);
        attempts.run(About::path(format!("/{number}")), move || {
            let _ = wait.lock().unwrap().recv();
        })
    });
    assert!(join_all(hanging).await.contains(&Err(Overdue::TooMany)));

    let found = scanned(&attempts, &pools(directory.path()), &[]).await;

    assert!(matches!(found.candidates[..], [Candidate { sight: Sight::Untried, .. }]), "{found:?}");
    assert!(found.unreadable.is_empty());
    drop(release);
}

#[tokio::test]
async fn only_entries_that_the_globs_of_the_pool_match_are_candidates() {
    let directory = tempfile::tempdir().unwrap();
    for entry in ["v1", "v22", "disk-a", "w1", "V1"] {
        fs::create_dir(directory.path().join(entry)).unwrap();
    }
    let text = format!(
        "pools:\n  fast: {{path: {}, match: ['v?', 'disk-*']}}\n",
        directory.path().display()
    );
    let pools = crate::pool::config::parse(&text, Path::new("pools.yaml")).unwrap();

    let found = scanned(&Attempts::new(Duration::from_mins(1)), &pools, &[]).await;

    let entries: Vec<_> = found.candidates.iter().map(|found| found.entry.as_str()).collect();
    assert_eq!(entries, ["disk-a", "v1"]);
    assert!(found.problems.is_empty());
}

#[tokio::test]
async fn a_pool_that_cannot_be_listed_is_told_from_one_that_is_not_there() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    let attempts = Attempts::new(Duration::from_mins(1));

    let unreadable = scanned(&attempts, &pools(&file), &[]).await;
    let missing = scanned(&attempts, &pools(&directory.path().join("nowhere")), &[]).await;

    assert_eq!(unreadable.unreadable.len(), 1);
    assert!(matches!(unreadable.problems[0].defect, Defect::Unreadable(_)));
    assert!(missing.unreadable.is_empty());
    assert_eq!(missing.problems[0].defect, Defect::NoDirectory);
}

#[tokio::test]
async fn what_is_at_a_recorded_path_that_no_pool_selects_is_looked_at_too() {
    let directory = tempfile::tempdir().unwrap();
    let (pool, elsewhere) = (directory.path().join("pool"), directory.path().join("elsewhere"));
    fs::create_dir(&pool).unwrap();
    fs::create_dir(&elsewhere).unwrap();
    let at = |path: &Path| {
        let mut volume = fixture::available();
        volume.status.path = path.to_str().unwrap().to_owned();
        volume
    };
    let recorded = [at(&elsewhere), at(&directory.path().join("gone"))];

    let found = scanned(&Attempts::new(Duration::from_mins(1)), &pools(&pool), &recorded).await;

    let sights: Vec<_> = found.elsewhere.values().collect();
    assert!(matches!(sights[..], [Sight::Source(_), Sight::Nothing]), "{sights:?}");
}

#[tokio::test]
async fn a_scan_of_what_is_settled_looks_into_nothing() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("v1")).unwrap();
    let (attempts, pools) = (Attempts::new(Duration::from_mins(1)), pools(directory.path()));
    let first = scanned(&attempts, &pools, &[]).await;
    let world = World {
        node: &"node-a".parse().unwrap(),
        node_uid: None,
        pools: &pools,
        findings: &BTreeMap::new(),
        tenants: &[],
        now: jiff::Timestamp::UNIX_EPOCH,
    };
    let plan = reconcile(&first, &[], world);
    assert_eq!(plan.changes.len(), 1);
    let Sight::Source(seen) = &first.candidates[0].sight else { panic!("{first:?}") };
    let settled = BTreeMap::from([(seen.facts.fingerprint.identity(), Depth::None)]);

    let again =
        scan(&attempts, HostNamespace::default(), &pools, &[], &settled).await.unwrap().found;

    let Sight::Source(seen) = &again.candidates[0].sight else { panic!("{again:?}") };
    assert_eq!((seen.contents.clone(), seen.root.clone()), (None, None));
}
