//! Whatever order claims, releases and wipes come in, what the index says is what the inventory holds.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone, Copy)]
enum Act {
    Claim { name: u8, least: u64 },
    Release { volume: usize, tenancy: u64 },
    Clean { volume: usize },
    Cordon { volume: usize, cordoned: bool },
    Remove { volume: usize },
    Add { volume: usize },
}

const VOLUMES: usize = 6;

fn act() -> impl Strategy<Value = Act> {
    let volume = || 0..VOLUMES;
    prop_oneof![
        6 => (0_u8..5, 0_u64..4).prop_map(|(name, least)| Act::Claim { name, least }),
        4 => (volume(), 1_u64..4).prop_map(|(volume, tenancy)| Act::Release { volume, tenancy }),
        4 => volume().prop_map(|volume| Act::Clean { volume }),
        1 => (volume(), any::<bool>())
            .prop_map(|(volume, cordoned)| Act::Cordon { volume, cordoned }),
        1 => volume().prop_map(|volume| Act::Remove { volume }),
        1 => volume().prop_map(|volume| Act::Add { volume }),
    ]
}

fn volume(number: usize) -> LocalVolume {
    named(&format!("v{number}"), Bytes(number as u64 / 2))
}

/// Acts as a caller, an agent or a person would. What is refused is refused.
async fn perform(act: Act, store: Embedded, claims: Claims<Embedded>) {
    match act {
        Act::Claim { name, least } => {
            let _ = claims.claim(request(&format!("pvc-{name}"), least)).await;
        }
        Act::Release { volume: number, tenancy } => {
            let id = VolumeId { volume: volume(number).name, tenancy: Tenancy(tenancy) };
            let _ = claims.release(&id).await;
        }
        Act::Clean { volume: number } => {
            let wiped = |volume: &LocalVolume| {
                volume.cleaned(
                    volume.spec.tenancy,
                    volume.spec.clean.as_ref()?,
                    CleanReason::Wiped,
                    Timestamp::UNIX_EPOCH,
                )
            };
            let _ = store.modify_status(&volume(number).name, wiped).await;
        }
        Act::Cordon { volume: number, cordoned } => {
            let cordon =
                |volume: &LocalVolume| Ok::<_, inventory::Error>(volume.cordoned(cordoned));
            let _ = store.modify_spec(&volume(number).name, cordon).await;
        }
        Act::Remove { volume: number } => {
            if let Ok(recorded) = store.get(&volume(number).name).await {
                let _ = store.remove(&recorded.volume.name, recorded.version).await;
            }
        }
        Act::Add { volume: number } => {
            let _ = store.add(volume(number)).await;
        }
    }
}

/// Performs the acts at once, half of them through each of two controllers, and compares what both know at the end.
async fn storm(acts: Vec<Act>) {
    let world = World::of((0..VOLUMES).map(volume)).await;
    let (other, _running) = controller(&world.store, &world.pools).await;
    let controllers = [&world.claims, &other];
    let acting: Vec<_> = acts
        .into_iter()
        .zip(controllers.into_iter().cycle().cloned())
        .map(|(act, claims)| tokio::spawn(perform(act, world.store.clone(), claims)))
        .collect();
    for act in acting {
        act.await.unwrap();
    }
    let last = world.store.add(named("last", Bytes(0))).await.unwrap();

    let mut rebuilt = Index::default();
    rebuilt.reset(world.store.list().await.unwrap());
    for claims in controllers {
        until(async || claims.shared.read().get(&last.volume.name).is_some()).await;
        assert_eq!(*claims.shared.read(), rebuilt);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn claims_releases_and_wipes_in_any_order_leave_the_index_equal_to_a_rebuilt_one(
        acts in proptest::collection::vec(act(), 0..60)
    ) {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(2).enable_time().build().unwrap();
        runtime.block_on(storm(acts));
    }
}
