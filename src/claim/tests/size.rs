//! What a claim may grow to, and what capacity is told.

use super::*;

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
    let available = |pool: &str, mode, topology: Option<&str>| {
        let query = CapacityQuery { mode, topology: topology.map(str::to_owned), ..of_pool(pool) };
        world.claims.capacity(&query).unwrap().available.0
    };

    assert_eq!(available("fast", None, None), 30);
    assert_eq!(available("fast", None, Some("node-b")), 20);
    assert_eq!(available("raw", None, None), 10);
    assert_eq!(available("raw", Some(Mode::Block), None), 10);
    assert_eq!(available("fast", Some(Mode::Block), None), 0);
    assert_eq!(available("fast", None, Some("node-c")), 0);
    assert_eq!(available("other", None, None), 0);
}

/// A claim for a file system of this type, with flags of the whole file system or without.
fn with_filesystem(name: &str, fs_type: Option<&str>, own: bool) -> ClaimRequest {
    let filesystem = Filesystem { fs_type: fs_type.map(str::to_owned), own };
    ClaimRequest { filesystem, ..request(name, 1) }
}

#[tokio::test]
async fn a_claim_for_a_file_system_gets_a_volume_that_can_be_had_with_it_or_none() {
    let mut xfs = named("xfs", Bytes(30));
    xfs.status.fs_type = Some("xfs".into());
    let mut wiped = device("wiped", Mode::Filesystem);
    wiped.status.fs_type = Some("ext4".into());
    let world = World::of([named("ext4", Bytes(5)), xfs.clone(), wiped.clone()]).await;
    let capacity = |fs_type: &str, own| {
        let filesystem = Filesystem { fs_type: Some(fs_type.into()), own };
        let query = CapacityQuery { filesystem, ..of_pool("fast") };
        world.claims.capacity(&query).unwrap().available.0
    };
    assert_eq!(
        [capacity("xfs", false), capacity("ext4", true), capacity("btrfs", false)],
        [40, 10, 0]
    );

    let first = world.claims.claim(with_filesystem("pvc-1", Some("xfs"), false)).await.unwrap();
    let second = world.claims.claim(with_filesystem("pvc-2", Some("xfs"), false)).await.unwrap();
    let none = world.claims.claim(with_filesystem("pvc-3", Some("xfs"), false)).await.unwrap_err();
    let other =
        world.claims.claim(with_filesystem("pvc-2", Some("ext4"), false)).await.unwrap_err();

    assert_eq!([&first.volume.name, &second.volume.name], [&wiped.name, &xfs.name]);
    assert!(matches!(none, Error::Exhausted { .. }), "{none}");
    assert!(none.to_string().contains("1 of another file system"), "{none}");
    let Error::Incompatible { what: Mismatch::Filesystem { .. }, .. } = other else {
        panic!("{other}")
    };
}

#[tokio::test]
async fn a_device_is_had_with_the_file_system_that_its_tenant_or_its_pool_left_on_it() {
    let mut accepted = device("accepted", Mode::Filesystem);
    accepted.status.fs_type = Some("xfs".into());
    accepted.status.conditions.clean = holds(true, CleanReason::Accepted);
    let mut held = device("held", Mode::Filesystem);
    held.spec = held.claimed(claim("pvc-1"), delete()).unwrap();
    let (fs_type, tenancy) = ("xfs".to_owned(), held.spec.tenancy);
    held.status.format = Some(crate::volume::Format { tenancy, fs_type, done: true }.into());
    let asked = |fs_type: &str| Filesystem { fs_type: Some(fs_type.into()), own: true };

    for volume in [accepted, held] {
        assert_eq!(unsuited(&volume, &asked("xfs")), None);
        assert!(matches!(unsuited(&volume, &asked("ext4")), Some(Mismatch::Filesystem { .. })));
    }
    assert_eq!(unsuited(&named("v", Bytes(1)), &asked("ext4")), Some(Mismatch::Shared));
}

#[tokio::test]
async fn what_a_pool_can_never_offer_is_refused_as_such_and_counts_for_nothing() {
    let world = World::of([device("fs", Mode::Filesystem)]).await;
    let offer = |mount, device| {
        world.pools.send_modify(|pools| {
            let pool = Arc::make_mut(pools).get_mut(&"fast".parse::<PoolName>().unwrap()).unwrap();
            pool.accept = Accept { mount, directory: false, device };
        });
    };

    for (devices, asked) in [
        (true, with_filesystem("pvc-1", Some("btrfs"), false)),
        (false, with_filesystem("pvc-2", None, true)),
    ] {
        offer(!devices, devices);
        let query = CapacityQuery { filesystem: asked.filesystem.clone(), ..of_pool("fast") };
        assert_eq!(world.claims.capacity(&query).unwrap(), Capacity::default());
        let refused = world.claims.claim(asked).await.unwrap_err();
        assert!(matches!(refused, Error::NotOffered { .. }), "{refused}");
    }
}
