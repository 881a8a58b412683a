//! What a person is told of a wipe by `kubectl describe localvolume`.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::cluster::wipes::WipeEvents;
use crate::volume::{CleanMethod, CleanReason, Wipe, WipeResult};

/// The events of an object, as `kubectl describe` looks for them, once there are some.
async fn until(uid: &str) -> Vec<Event> {
    let events: kube::Api<Event> = kube::Api::all(Server::now().client());
    let of = ListParams::default().fields(&format!("involvedObject.uid={uid}"));
    let told = async {
        loop {
            let found = events.list(&of).await.unwrap().items;
            if !found.is_empty() {
                return found;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_mins(1), told).await.expect("nothing was told")
}

#[tokio::test]
async fn a_wipe_that_was_disproved_is_an_event_of_its_volume_and_stands_in_its_status() {
    let (place, store) = cluster!();
    let recorded = store.add(volume(1)).await.unwrap();
    let (cancel, node) = (CancellationToken::new(), recorded.volume.spec.node.clone());
    let events = WipeEvents::new(Server::now().client(), "berth.dev", &node);
    let telling = tokio::spawn(events.run(store.clone(), cancel.clone()));

    let begun = Wipe::begun(Tenancy(0), &CleanMethod::Discard, Timestamp::UNIX_EPOCH);
    let wipe = Wipe { result: WipeResult::VerifyFailed, ..begun }.because("data at byte 0");
    let mut status = recorded.volume.status.clone().remembering(wipe.clone());
    status.clean_for = None;
    status.conditions.clean = holds(false, CleanReason::VerifyFailed);
    store.observe(&recorded.volume.name, recorded.version, status).await.unwrap();

    let object = place.objects().get(recorded.volume.name.as_str()).await.unwrap();
    let told = until(object.metadata.uid.as_deref().unwrap()).await;
    let said = told
        .iter()
        .map(|event| (event.type_.as_deref(), event.reason.as_deref(), event.message.as_deref()));
    let expected = (Some("Warning"), Some("VerifyFailed"), Some("a sentence"));
    assert_eq!(said.collect::<Vec<_>>(), [expected]);
    assert_eq!(object.status.unwrap().last_wipe, Some(Box::new(wipe)));
    cancel.cancel();
    telling.await.unwrap();
}
