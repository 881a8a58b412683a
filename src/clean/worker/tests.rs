use std::path::Path;

use super::*;
use crate::inventory::embedded::Embedded;
use crate::volume::fixture::{delete, released};
use crate::volume::{AccessMode, Published};

/// The wipe of a volume by `delete`, with its lock beneath `state`.
fn job(inventory: &Embedded, volume: &LocalVolume, state: &Path) -> Job<Embedded> {
    Job {
        inventory: inventory.clone(),
        volume: volume.clone(),
        policy: delete(),
        locks: state.to_owned(),
        host: HostNamespace::default(),
        started: Timestamp::now(),
        programs: Programs::default(),
        progress: Arc::default(),
    }
}

#[tokio::test]
async fn how_far_a_wipe_is_is_recorded_while_it_runs() {
    let state = tempfile::tempdir().unwrap();
    let inventory = Embedded::open(state.path()).unwrap();
    inventory.add(released()).await.unwrap();
    let mut job = job(&inventory, &released(), state.path());
    job.begin().await.unwrap();
    (0..3).for_each(|_| job.progress.removed());
    job.progress.wiped(4096);

    job.report().await;

    let recorded = inventory.get(&released().name).await.unwrap().volume;
    let cleaning = recorded.status.cleaning.clone().unwrap();
    assert_eq!((cleaning.entries, cleaning.bytes), (3, Bytes(4096)));
    for _ in 0..=IDLE_REPORTS {
        job.report().await;
    }
    let said = async || inventory.get(&released().name).await.unwrap().volume.status.clone();
    assert!(said().await.conditions.clean.message.ends_with(HANGS));
    job.progress.removed();
    job.report().await;
    assert!(!said().await.conditions.clean.message.ends_with(HANGS));
}

#[tokio::test]
async fn a_wipe_is_not_remembered_as_cut_off_while_it_runs() {
    let state = tempfile::tempdir().unwrap();
    let inventory = Embedded::open(state.path()).unwrap();
    inventory.add(released()).await.unwrap();
    let mut job = job(&inventory, &released(), state.path());
    job.begin().await.unwrap();

    for _ in 0..2 {
        job.progress.removed();
        job.report().await;
    }

    assert_eq!(inventory.wipes().await.unwrap(), []);
    assert_eq!(inventory.get(&released().name).await.unwrap().volume.status.last_wipe, None);
}

#[tokio::test]
async fn what_was_found_in_use_is_outdated_once_the_volume_is_recorded_elsewhere() {
    let state = tempfile::tempdir().unwrap();
    let mut volume = released();
    volume.status.published.push(Published {
        path: "/kubelet/pods/1".into(),
        staging: false,
        read_only: false,
        access: AccessMode::SingleNodeWriter,
        flags: None,
    });
    let job = job(&Embedded::open(state.path()).unwrap(), &volume, state.path());

    let ended = job.run().await;

    assert!(matches!(&ended.result, Err(Error::InUse { by }) if *by == ["/kubelet/pods/1"]));
    assert!(!ended.is_outdated(&volume));
    assert!(ended.is_outdated(&released()));
}
