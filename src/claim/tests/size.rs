//! What a claim may grow to, and what capacity is told.

use super::*;

fn device(entry: &str, mode: Mode) -> LocalVolume {
    let mut volume = named(entry, Bytes(10));
    let serial = DeviceIdentity::Serial(entry.into());
    volume.status.fingerprint = Fingerprint::Device { device: serial, size: Bytes(10) };
    volume.spec.mode = mode;
    if mode == Mode::Block {
        volume.spec.pool = "raw".parse().unwrap();
    }
    volume
}

#[tokio::test]
async fn an_expansion_gives_what_the_source_has_grown_to_and_no_more() {
    let world = World::of_sizes(&[10]).await;
    let held = world.claims.claim(request("pvc-1", 10)).await.unwrap();
    let at_least = |bytes| CapacityRange::at_least(Bytes(bytes));

    let early = world.claims.expand(&id(&held), at_least(20)).await.unwrap_err();
    let grow = |volume: &LocalVolume| {
        let mut status = volume.status.clone();
        status.capacity = Bytes(25);
        Some(status)
    };
    world.store.modify_status(&held.volume.name, grow).await.unwrap();
    until(async || world.claims.expand(&id(&held), at_least(20)).await.is_ok()).await;

    assert!(matches!(early, Error::OutOfRange { capacity: Bytes(10), .. }), "{early:?}");
    let expanded = world.claims.expand(&id(&held), at_least(20)).await.unwrap();
    assert_eq!(expanded, Expanded { capacity: Bytes(25), node_expansion_required: false });
    let again = world.claims.claim(request("pvc-1", 10)).await.unwrap();
    assert_eq!(id(&again), id(&held));
    world.claims.release(&id(&held)).await.unwrap();
    let ended = world.claims.expand(&id(&held), at_least(1)).await;
    assert!(matches!(ended, Err(Error::NotFound(_))), "{ended:?}");
}

#[tokio::test]
async fn only_a_file_system_that_berth_made_on_a_device_has_to_be_grown_by_its_node() {
    let world = World::of([device("fs", Mode::Filesystem), device("raw", Mode::Block)]).await;
    let block =
        ClaimRequest { mode: Mode::Block, pool: "raw".parse().unwrap(), ..request("pvc-2", 1) };

    for (asked, node_expansion_required) in [(request("pvc-1", 1), true), (block, false)] {
        let held = world.claims.claim(asked).await.unwrap();
        let expanded = world.claims.expand(&id(&held), CapacityRange::default()).await.unwrap();
        assert_eq!(expanded, Expanded { capacity: Bytes(10), node_expansion_required });
    }
}

#[tokio::test]
async fn capacity_is_told_by_pool_mode_and_place() {
    let world = World::of([
        on("node-a", "fast", "v1", Bytes(10)),
        on("node-b", "fast", "v2", Bytes(20)),
        device("raw", Mode::Block),
    ])
    .await;
    let available = |pool: Option<&str>, mode, topology: Option<&str>| {
        let pool = pool.map(|pool| pool.parse().unwrap());
        let query = CapacityQuery { pool, mode, topology: topology.map(str::to_owned) };
        world.claims.capacity(&query).unwrap().available.0
    };

    assert_eq!(available(None, None, None), 40);
    assert_eq!(available(Some("fast"), None, None), 30);
    assert_eq!(available(Some("fast"), None, Some("node-b")), 20);
    assert_eq!(available(None, Some(Mode::Block), None), 10);
    assert_eq!(available(Some("fast"), Some(Mode::Block), None), 0);
    assert_eq!(available(None, None, Some("node-c")), 0);
}
