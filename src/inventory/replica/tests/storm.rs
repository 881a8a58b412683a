//! Whatever happens, in any order.

use super::*;

/// What may happen to one of three volumes, at either side.
#[derive(Debug, Clone, Copy)]
enum Happening {
    Add,
    Claim,
    Release,
    Lose,
    Remove,
    DeleteObject,
    Away(bool),
}

fn happenings() -> impl Strategy<Value = Vec<(usize, Happening)>> {
    let happening = prop_oneof![
        Just(Happening::Add),
        Just(Happening::Claim),
        Just(Happening::Release),
        Just(Happening::Lose),
        Just(Happening::Remove),
        Just(Happening::DeleteObject),
        any::<bool>().prop_map(Happening::Away),
    ];
    prop::collection::vec((0_usize..3, happening), 1..30)
}

/// Makes it happen where it can; what is refused does not.
async fn happen(replica: &Replica<Remote>, number: usize, happening: Happening) {
    let volume = named(&format!("v{number}"), Bytes(1 << 30));
    let (name, remote) = (volume.name.clone(), &replica.remote);
    match happening {
        Happening::Add => drop(replica.add(volume).await),
        Happening::Lose => drop(replica.modify_status(&name, lost).await),
        Happening::Away(away) => remote.go_away(away),
        Happening::Claim => {
            let name_of_claim = format!("pvc-{number}");
            let claim = |volume: &LocalVolume| {
                volume.claimed(claim(&name_of_claim), delete()).map_err(|_| refused())
            };
            drop(remote.modify_spec(&name, claim).await);
        }
        Happening::Release => {
            let release =
                |volume: &LocalVolume| volume.released(volume.spec.tenancy).map_err(|_| refused());
            drop(remote.modify_spec(&name, release).await);
        }
        Happening::Remove => {
            if let Ok(now) = replica.get(&name).await {
                drop(replica.remove(&name, now.version).await);
            }
        }
        Happening::DeleteObject => {
            if let Ok(now) = remote.store.get(&name).await {
                drop(remote.remove(&name, now.version).await);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn whatever_happens_both_end_equal_and_no_tenancy_went_back(storm in happenings()) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let directories = Directories::new();
            let (replica, _) = directories.start();
            let mut reached = BTreeMap::new();
            for (number, happening) in storm {
                happen(&replica, number, happening).await;
                for known in replica.list().await.unwrap() {
                    let most = reached.entry(known.volume.name.clone()).or_insert(Tenancy(0));
                    *most = known.volume.spec.tenancy.max(*most);
                }
            }
            replica.remote.go_away(false);

            for volume in equal(&replica).await {
                // A volume that was removed and added again begins anew; the agent numbers those from the clock.
                assert!(volume.spec.tenancy <= reached[&volume.name].next());
            }
        });
    }
}
