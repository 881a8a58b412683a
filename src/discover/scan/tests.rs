use std::fs;
use std::path::Path;
use std::time::Duration;

use futures_util::future::join_all;

use super::super::found::Defect;
use super::*;
use crate::discover::reconcile::{World, reconcile};
use crate::host::mount::fixture::{bind, scratch, unmount};
use crate::host::namespace::isolated;
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
    scanned_again(attempts, pools, recorded, BTreeMap::new(), &mut Memory::default()).await
}

async fn scanned_again(
    attempts: &Attempts,
    pools: &Pools,
    recorded: &[LocalVolume],
    depths: BTreeMap<Vec<u8>, Depth>,
    memory: &mut Memory,
) -> Found {
    let known = Known { host: HostNamespace::default(), pools, recorded, depths };
    scan(attempts, known, memory).await.unwrap().found
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
        volume.status.path = path.to_str().unwrap().into();
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

    let again = scanned_again(&attempts, &pools, &[], settled, &mut Memory::default()).await;

    let Sight::Source(seen) = &again.candidates[0].sight else { panic!("{again:?}") };
    assert_eq!((seen.contents.clone(), seen.root.clone()), (None, None));
}

/// A directory that nobody has changed for long.
const OLD: &str = "/usr/share";

/// Runs `act` with pools over a directory in which `v1` is a mount of [`OLD`].
fn with_an_old_mount(act: impl AsyncFnOnce(&Path, &Pools) + Send) {
    isolated(|| {
        let (_guard, base) = scratch();
        fs::create_dir_all(base.join("pool/v1")).unwrap();
        bind(Path::new(OLD), &base.join("pool/v1"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(act(&base, &pools(&base.join("pool"))));
        unmount(&base.join("pool/v1"));
    });
}

#[test]
fn of_an_entry_that_looks_as_it_did_nothing_more_is_asked() {
    with_an_old_mount(async |base, pools| {
        let (attempts, mut memory) = (Attempts::new(Duration::from_mins(1)), Memory::default());
        let path = base.join("pool/v1").to_str().unwrap().to_owned();
        let mut looks = Vec::new();
        for _ in 0..2 {
            let found = scanned_again(&attempts, pools, &[], BTreeMap::new(), &mut memory).await;
            let Sight::Source(seen) = &found.candidates[0].sight else { panic!("{found:?}") };
            looks.push((memory.of(&path).unwrap(), seen.clone()));
        }

        let [(first, seen), (again, seen_again)] = &looks[..] else { panic!() };
        assert!(Arc::ptr_eq(first, again));
        assert_eq!(format!("{seen:?}"), format!("{seen_again:?}"));
        assert!(seen.contents.is_some() && seen.root.is_some());
    });
}

#[test]
fn an_entry_that_was_mounted_anew_is_looked_at_anew() {
    with_an_old_mount(async |base, pools| {
        let (attempts, mut memory) = (Attempts::new(Duration::from_mins(1)), Memory::default());
        let path = base.join("pool/v1");
        let mut looks = Vec::new();
        for anew in [false, true, true] {
            if anew {
                unmount(&path);
                bind(Path::new(OLD), &path);
            }
            scanned_again(&attempts, pools, &[], BTreeMap::new(), &mut memory).await;
            looks.push(memory.of(path.to_str().unwrap()).unwrap());
        }

        assert!(!Arc::ptr_eq(&looks[0], &looks[1]) && !Arc::ptr_eq(&looks[1], &looks[2]));
    });
}

#[test]
fn what_is_remembered_of_the_contents_is_told_to_whoever_asks_for_them_and_to_nobody_else() {
    with_an_old_mount(async |_, pools| {
        let (attempts, mut memory) = (Attempts::new(Duration::from_mins(1)), Memory::default());
        let first = scanned_again(&attempts, pools, &[], BTreeMap::new(), &mut memory).await;
        let Sight::Source(seen) = &first.candidates[0].sight else { panic!("{first:?}") };
        let identity = seen.facts.fingerprint.identity();

        let mut contents = Vec::new();
        for depth in [Depth::None, Depth::Glance, Depth::None, Depth::Search] {
            let depths = BTreeMap::from([(identity.clone(), depth)]);
            let found = scanned_again(&attempts, pools, &[], depths, &mut memory).await;
            let Sight::Source(seen) = &found.candidates[0].sight else { panic!("{found:?}") };
            contents.push(seen.contents.is_some() && seen.root.is_some());
        }

        assert_eq!(contents, [false, true, false, true]);
    });
}

#[test]
fn what_has_just_changed_and_what_a_symlink_leads_to_is_not_remembered() {
    with_an_old_mount(async |base, pools| {
        let (attempts, mut memory) = (Attempts::new(Duration::from_mins(1)), Memory::default());
        fs::create_dir(base.join("pool/new")).unwrap();
        std::os::unix::fs::symlink(OLD, base.join("pool/link")).unwrap();

        scanned_again(&attempts, pools, &[], BTreeMap::new(), &mut memory).await;

        let known = |entry: &str| memory.of(base.join("pool").join(entry).to_str().unwrap());
        assert!(known("v1").is_some());
        assert!(known("new").is_none() && known("link").is_none());
    });
}
