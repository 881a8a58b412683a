use std::sync::Arc;

use tokio_stream::StreamExt;
use tonic::Code;

use super::super::proto::operator_v1alpha1 as operator;
use super::world::{MIB, World};
use crate::discover::found::{Defect, Problem};
use crate::volume::fixture::{holds, on};
use crate::volume::{Bytes, CleanReason, HealthReason, LocalVolume};

fn dirty() -> LocalVolume {
    let mut volume = on("node-a", "fast", "v0", Bytes(MIB));
    volume.status.clean_for = None;
    volume.status.conditions.clean = holds(false, CleanReason::FoundData);
    volume
}

fn read(volume: Option<operator::Volume>) -> LocalVolume {
    serde_json::from_str(&volume.unwrap().json).unwrap()
}

#[tokio::test]
async fn volumes_are_listed_by_pool_and_node() {
    let world = World::of([
        on("node-a", "fast", "v0", Bytes(MIB)),
        on("node-b", "fast", "v0", Bytes(MIB)),
        on("node-a", "raw", "v0", Bytes(MIB)),
    ])
    .await;

    let request = operator::ListVolumesRequest { pool: "fast".into(), node: "node-a".into() };
    let listed: Vec<_> =
        world.operator().list_volumes(request).await.unwrap().into_inner().collect().await;

    assert_eq!(listed.len(), 1);
}

#[tokio::test]
async fn a_pool_that_nobody_configured_is_told_from_one_that_has_no_volume() {
    let world = World::of([on("node-a", "was", "v0", Bytes(MIB))]).await;
    let ask = |pool: &str| operator::ListVolumesRequest { pool: pool.into(), ..Default::default() };

    for pool in ["", "fast", "was"] {
        world.operator().list_volumes(ask(pool)).await.unwrap();
    }
    let refused = world.operator().list_volumes(ask("fats")).await.unwrap_err();

    assert_eq!(refused.code(), Code::NotFound);
    assert!(refused.message().starts_with("pool fats is not configured: the pools are "));
}

#[tokio::test]
async fn what_is_not_offered_is_told_by_pool_with_the_reason() {
    let world = World::of_sizes(&[1]).await;
    let problem = |pool: &str, defect| Problem {
        pool: pool.parse().unwrap(),
        path: format!("/mnt/{pool}/v1"),
        defect,
    };
    let problems = [problem("fast", Defect::Unsuitable), problem("slow", Defect::NotUtf8)];
    world.problems.send_replace(Arc::new(problems.into()));

    let request = operator::ListProblemsRequest { pool: "fast".into() };
    let listed = world.operator().list_problems(request).await.unwrap().into_inner();
    let listed: Vec<_> = listed.map(Result::unwrap).collect().await;

    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].pool.as_str(), listed[0].kind.as_str()), ("fast", "Unsuitable"));
    assert!(listed[0].message.starts_with("/mnt/fast/v1 is not offered: "), "{listed:?}");
}

#[tokio::test]
async fn a_person_may_order_a_dirty_volume_to_be_wiped_and_not_a_held_one() {
    let world = World::of([dirty(), on("node-a", "fast", "v1", Bytes(MIB))]).await;
    let held = world.create("pvc-1", 1).await.unwrap().volume_id;
    let order = |name: &str| operator::CleanVolumeRequest { name: name.into() };

    let ordered = world.operator().clean_volume(order(dirty().name.as_str())).await.unwrap();
    let refused =
        world.operator().clean_volume(order(held.split('@').next().unwrap())).await.unwrap_err();

    let ordered = read(ordered.into_inner().volume);
    assert!(ordered.needs_cleaning() && ordered.spec.clean_asked.is_some());
    assert_eq!(refused.code(), Code::FailedPrecondition);
}

#[tokio::test]
async fn a_release_of_another_tenancy_than_the_latest_is_refused() {
    let world = World::of_sizes(&[1]).await;
    let id = world.create("pvc-1", 1).await.unwrap().volume_id;
    let name = id.split('@').next().unwrap();
    let release = |tenancy| operator::ReleaseVolumeRequest { name: name.into(), tenancy };

    let refused = world.operator().release_volume(release(2)).await.unwrap_err();
    let released = world.operator().release_volume(release(1)).await.unwrap();

    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("latest tenancy is 1"), "{}", refused.message());
    assert!(read(released.into_inner().volume).spec.claim.is_none());
}

#[tokio::test]
async fn a_cordoned_volume_is_given_to_nobody_until_it_is_uncordoned() {
    let world = World::of_sizes(&[1]).await;
    let name = on("node-a", "fast", "v0", Bytes(MIB)).name.to_string();
    let cordon = |cordoned| operator::CordonVolumeRequest { name: name.clone(), cordoned };

    world.operator().cordon_volume(cordon(true)).await.unwrap();
    // The index may not know yet; the record decides.
    assert!(world.create("pvc-1", 1).await.is_err());
    world.operator().cordon_volume(cordon(false)).await.unwrap();
    while world.create("pvc-2", 1).await.is_err() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn only_a_lost_volume_may_be_forgotten() {
    let mut lost = on("node-a", "fast", "gone", Bytes(MIB));
    lost.status.conditions.healthy = holds(false, HealthReason::Missing);
    let world = World::of([lost.clone(), on("node-a", "fast", "v0", Bytes(MIB))]).await;
    let forget = |name: String| operator::ForgetVolumeRequest { name };

    world.operator().forget_volume(forget(lost.name.to_string())).await.unwrap();
    let gone = world.operator().forget_volume(forget(lost.name.to_string())).await.unwrap_err();
    let there = on("node-a", "fast", "v0", Bytes(MIB)).name.to_string();
    let refused = world.operator().forget_volume(forget(there)).await.unwrap_err();

    assert_eq!(gone.code(), Code::NotFound);
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("remove it from its pool first"), "{}", refused.message());
}
