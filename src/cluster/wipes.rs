//! Events about wipes on the LocalVolume, where the people of a cluster look: `kubectl describe localvolume`.
//!
//! The claim has ended by then, and with it its PersistentVolume and PersistentVolumeClaim: there is nobody else to tell.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::StreamExt;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Api, Client, Resource};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::causes;
use crate::inventory::{self, Inventory, crd};
use crate::volume::{LocalVolume, NodeName, VolumeName, Wipe, WipeResult};

/// Bytes that the API server takes of an event's note.
const NOTE_MAX: usize = 1024;

/// Tells of the wipes of one node.
#[derive(Clone)]
pub struct WipeEvents {
    objects: Api<crd::Object>,
    recorder: Recorder,
}

impl std::fmt::Debug for WipeEvents {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("WipeEvents").finish_non_exhaustive()
    }
}

impl WipeEvents {
    /// Events in the name of `driver` on `node`.
    pub fn new(client: Client, driver: &str, node: &NodeName) -> Self {
        let reporter = Reporter { controller: driver.to_owned(), instance: Some(node.to_string()) };
        let recorder = Recorder::new(client.clone(), reporter);
        Self { objects: Api::all(client), recorder }
    }

    /// Follows `inventory` and tells what is news, until `cancel`.
    pub async fn run(self, inventory: impl Inventory, cancel: CancellationToken) {
        let mut events = inventory.watch();
        let mut known = BTreeMap::new();
        loop {
            let event = tokio::select! {
                () = cancel.cancelled() => return,
                event = events.next() => event,
            };
            let Some(event) = event else { return };
            for (name, news) in heard(event, &mut known) {
                self.tell(&name, &news).await;
            }
        }
    }

    /// An event that does not get through is only logged: the volume's condition says the same.
    async fn tell(&self, name: &VolumeName, event: &Event) {
        let told = async {
            let object = self.objects.get_metadata(name.as_str()).await?;
            let uid = object.metadata.uid;
            let reference = ObjectReference {
                api_version: Some(crd::Object::api_version(&()).into_owned()),
                kind: Some(crd::Object::kind(&()).into_owned()),
                name: Some(name.to_string()),
                // Without it the event is not shown with the object.
                uid,
                ..ObjectReference::default()
            };
            self.recorder.publish(event, &reference).await
        };
        if let Err(error) = told.await {
            debug!(volume = %name, error = causes::chain(&error), "an event was not written");
        }
    }
}

/// Takes in what the inventory told, and gives what is to be told of it.
fn heard(
    event: inventory::Event,
    known: &mut BTreeMap<VolumeName, Option<Box<Wipe>>>,
) -> Vec<(VolumeName, Event)> {
    let all = match event {
        inventory::Event::Reset(all) => {
            let all: Vec<_> = all.into_iter().map(|recorded| recorded.volume).collect();
            known.retain(|name, _| all.iter().any(|volume| volume.name == *name));
            all
        }
        inventory::Event::Applied(recorded) => vec![recorded.volume],
        inventory::Event::Removed(name, _) => {
            known.remove(&name);
            return Vec::new();
        }
    };
    let learn = |volume: Arc<LocalVolume>| {
        let last = volume.status.last_wipe.clone();
        let news = match known.insert(volume.name.clone(), last) {
            None => first_news(&volume),
            Some(before) => news(before.as_deref(), &volume),
        }?;
        Some((volume.name.clone(), news))
    };
    all.into_iter().filter_map(learn).collect()
}

/// What is to be told of a volume of which nothing was heard before.
fn first_news(volume: &LocalVolume) -> Option<Event> {
    // What the agent before this one told may be forgotten: events last for an hour.
    volume.is_disproved().then(|| event(volume, EventType::Warning))
}

/// What is to be told of a volume whose latest wipe was `before`.
fn news(before: Option<&Wipe>, volume: &LocalVolume) -> Option<Event> {
    let last = volume.status.last_wipe.as_deref().filter(|last| before != Some(*last))?;
    let is_bad = |wipe: &Wipe| matches!(wipe.result, WipeResult::Failed | WipeResult::VerifyFailed);
    if is_bad(last) {
        return Some(event(volume, EventType::Warning));
    }
    let is_mended = last.result == WipeResult::Wiped && before.is_some_and(is_bad);
    is_mended.then(|| event(volume, EventType::Normal))
}

fn event(volume: &LocalVolume, type_: EventType) -> Event {
    // The condition's reason: a failed wipe is WipeFailed there.
    let reason = volume.status.conditions.clean.reason.as_str().to_owned();
    let note = Some(cut(&volume.status.conditions.clean.message));
    Event { type_, reason, note, action: "Wipe".to_owned(), secondary: None }
}

fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(NOTE_MAX)].to_owned()
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::inventory::{Recorded, Version};
    use crate::volume::fixture::{holds, released};
    use crate::volume::{CleanMethod, CleanReason, Tenancy};

    fn after(result: WipeResult, times: u32) -> LocalVolume {
        let mut volume = released();
        let begun = Wipe::begun(Tenancy(1), &CleanMethod::Zero, Timestamp::UNIX_EPOCH);
        volume.status.last_wipe = Some(Box::new(Wipe { result, times, ..begun }));
        let reason = match result {
            WipeResult::VerifyFailed => CleanReason::VerifyFailed,
            WipeResult::Failed => CleanReason::WipeFailed,
            _ => CleanReason::Wiped,
        };
        volume.status.conditions.clean = holds(result == WipeResult::Wiped, reason);
        volume
    }

    fn told(events: impl IntoIterator<Item = inventory::Event>) -> Vec<String> {
        let mut known = BTreeMap::new();
        let news = events.into_iter().flat_map(|event| heard(event, &mut known));
        news.map(|(_, event)| event.reason).collect()
    }

    fn applied(volume: LocalVolume) -> inventory::Event {
        inventory::Event::Applied(Box::new(Recorded::new(volume, Version(1))))
    }

    #[test]
    fn each_failure_is_told_and_the_wipe_that_mends_it_and_no_other() {
        use WipeResult::{Failed, VerifyFailed, Wiped};
        let before = inventory::Event::Reset(vec![Recorded::new(released(), Version(1))]);
        let steps =
            [(Wiped, 1), (Failed, 1), (Failed, 1), (Failed, 2), (VerifyFailed, 1), (Wiped, 1)];
        let events = steps.map(|(result, times)| applied(after(result, times)));

        let told = told(std::iter::once(before).chain(events));

        assert_eq!(told, ["WipeFailed", "WipeFailed", "VerifyFailed", "Wiped"]);
    }

    #[test]
    fn an_agent_that_starts_tells_again_of_what_waits_for_a_person_and_of_nothing_else() {
        let reset = |volume| inventory::Event::Reset(vec![Recorded::new(volume, Version(1))]);

        assert_eq!(told([reset(after(WipeResult::VerifyFailed, 1))]), ["VerifyFailed"]);
        assert_eq!(told([reset(after(WipeResult::Failed, 1))]), [""; 0]);
        assert_eq!(told([reset(after(WipeResult::Wiped, 1))]), [""; 0]);
    }

    #[test]
    fn a_note_is_cut_to_what_the_api_server_takes() {
        assert_eq!(cut(&"é".repeat(600)).len(), NOTE_MAX);
        assert_eq!(cut("short"), "short");
    }
}
