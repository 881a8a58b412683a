//! Many callers at once: one name gets one volume, and no volume gets two names.

use std::collections::BTreeSet;

use super::*;

/// What the requests are given, asked at once and of each controller in turn.
async fn at_once(
    controllers: &[Claims<Embedded>],
    requests: impl IntoIterator<Item = ClaimRequest>,
) -> Vec<Result<Recorded, Error>> {
    let asking: Vec<_> = requests
        .into_iter()
        .zip(controllers.iter().cycle().cloned())
        .map(|(request, claims)| tokio::spawn(async move { claims.claim(request).await }))
        .collect();
    let mut given = Vec::with_capacity(asking.len());
    for asked in asking {
        given.push(asked.await.unwrap());
    }
    given
}

fn names(given: &[Result<Recorded, Error>]) -> BTreeSet<&VolumeName> {
    given.iter().flatten().map(|given| &given.volume.name).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_claims_at_once_get_two_thousand_volumes() {
    const COUNT: usize = 2000;
    let world = World::of_sizes(&[10; COUNT]).await;

    let requests = (0..COUNT).map(|number| request(&format!("pvc-{number}"), 1));
    let given = at_once(std::slice::from_ref(&world.claims), requests).await;

    assert_eq!(names(&given).len(), COUNT);
    assert_eq!(world.claimed().await.len(), COUNT);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_controllers_that_know_nothing_of_each_other_give_no_volume_twice() {
    const COUNT: usize = 200;
    let world = World::of_sizes(&[10; COUNT]).await;
    let (other, _running) = controller(&world.store, &world.pools).await;

    let requests = (0..COUNT).map(|number| request(&format!("pvc-{number}"), 1));
    let given = at_once(&[world.claims.clone(), other], requests).await;

    assert_eq!(names(&given).len(), COUNT);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_name_created_fifty_times_at_once_through_two_controllers_gets_one_volume() {
    let world = World::of_sizes(&[10; 60]).await;
    let (other, _running) = controller(&world.store, &world.pools).await;

    let requests = std::iter::repeat_n(request("pvc-1", 1), 50);
    let given = at_once(&[world.claims.clone(), other], requests).await;

    assert!(given.iter().all(Result::is_ok), "{given:?}");
    assert_eq!(names(&given).len(), 1);
    assert_eq!(world.claimed().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_name_created_fifty_times_at_once_gets_the_only_volume_each_time() {
    let world = World::of_sizes(&[10]).await;

    let requests = std::iter::repeat_n(request("pvc-1", 1), 50);
    let given = at_once(std::slice::from_ref(&world.claims), requests).await;

    assert!(given.iter().all(Result::is_ok), "{given:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_more_claims_than_volumes_as_many_are_given_as_there_are() {
    let world = World::of_sizes(&[10; 100]).await;
    let (other, _running) = controller(&world.store, &world.pools).await;

    let requests = (0..300).map(|number| request(&format!("pvc-{number}"), 1));
    let given = at_once(&[world.claims.clone(), other], requests).await;

    assert_eq!(names(&given).len(), 100);
    for refused in given.into_iter().filter_map(Result::err) {
        assert!(matches!(refused, Error::Exhausted { .. }), "{refused:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_get_through_while_agents_keep_writing_to_the_same_volumes() {
    let world = World::of_sizes(&[10; 20]).await;
    let stop = CancellationToken::new();
    let agents: Vec<_> = world
        .store
        .list()
        .await
        .unwrap()
        .into_iter()
        .map(|recorded| {
            let (store, stop) = (world.store.clone(), stop.clone());
            tokio::spawn(async move {
                let mut writes = 0_u32;
                while !stop.is_cancelled() {
                    let touch = |volume: &LocalVolume| {
                        let mut status = volume.status.clone();
                        status.path = format!("/mnt/fast/{writes}").into();
                        Some(status)
                    };
                    store.modify_status(&recorded.volume.name, touch).await.unwrap();
                    writes += 1;
                }
            })
        })
        .collect();

    let requests = (0..20).map(|number| request(&format!("pvc-{number}"), 1));
    let given = at_once(std::slice::from_ref(&world.claims), requests).await;
    stop.cancel();
    for agent in agents {
        agent.await.unwrap();
    }

    assert_eq!(names(&given).len(), 20);
}
