//! How bad things are told to be.

use std::collections::BTreeSet;

use super::super::proto::csi_v1 as csi;
use super::world::{MIB, World};
use crate::inventory::Inventory;
use crate::volume::fixture::{holds, on};
use crate::volume::{Bytes, HealthReason, LocalVolume};
use csi::StorageHealthErrorType::{StorageDegraded, StorageUnreachable};
use csi::VolumeHealthErrorType::{Degraded, Inaccessible};

fn ill(mut volume: LocalVolume, reason: HealthReason) -> LocalVolume {
    volume.status.conditions.healthy = holds(reason == HealthReason::Present, reason);
    volume
}

#[tokio::test]
async fn each_reason_has_its_severity() {
    for (reason, severity) in [
        (HealthReason::Present, None),
        (HealthReason::ReadOnly, Some(Degraded)),
        (HealthReason::Missing, Some(Inaccessible)),
        (HealthReason::Replaced, Some(Inaccessible)),
        (HealthReason::ReadError, Some(Inaccessible)),
        (HealthReason::ProbeTimeout, Some(Inaccessible)),
        (HealthReason::PoolGone, Some(Inaccessible)),
    ] {
        let world = World::of_sizes(&[1]).await;
        let claimed = world.create("pvc-1", 1).await.unwrap();
        let name = claimed.volume_id.split('@').next().unwrap().parse().unwrap();
        let set = |volume: &LocalVolume| Some(ill(volume.clone(), reason).status);
        world.store.modify_status(&name, set).await.unwrap();
        let ask = async || {
            let request = csi::ControllerGetVolumeHealthRequest {
                volume_id: claimed.volume_id.clone(),
                ..Default::default()
            };
            let answer = world.controller().controller_get_volume_health(request).await.unwrap();
            answer.into_inner().volume_health.unwrap().health_statuses
        };
        while ask().await.len() != usize::from(severity.is_some()) {
            tokio::task::yield_now().await;
        }

        let told = ask().await;
        let told = told.first().map(|entry| (entry.status(), entry.reason.clone()));
        assert_eq!(told, severity.map(|severity| (severity, reason.as_str().to_owned())));
    }
}

#[tokio::test]
async fn a_pool_of_which_all_is_ill_is_unreachable_and_one_of_which_some_is_degraded() {
    let named = |pool: &str, entry: &str| on("node-a", pool, entry, Bytes(MIB));
    let elsewhere = on("node-b", "fast", "v9", Bytes(MIB));
    let world = World::of([
        ill(named("fast", "v1"), HealthReason::Missing),
        named("fast", "v2"),
        ill(named("raw", "v1"), HealthReason::ReadError),
        ill(elsewhere, HealthReason::Replaced),
    ])
    .await;

    let request = csi::NodeGetStorageHealthRequest::default();
    let answer = world.node().node_get_storage_health(request).await.unwrap().into_inner();

    let told: BTreeSet<_> = answer
        .backend_health
        .iter()
        .map(|one| (one.status, one.reason.as_str(), one.message.contains("pool")))
        .collect();
    let expected = [
        (i32::from(StorageDegraded), "Missing", true),
        (i32::from(StorageUnreachable), "ReadError", true),
    ];
    assert_eq!(told, BTreeSet::from(expected));
}
