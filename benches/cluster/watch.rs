//! One process that the API server tells of everything, and when it was told.

use std::time::SystemTime;

use futures_util::StreamExt;
use kube::api::{DynamicObject, ListParams, WatchEvent, WatchParams};
use kube::{Api, Client};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::harness::{PATIENCE, resource};

/// The kinds that are watched: group, version, kind.
const KINDS: [(&str, &str, &str); 5] = [
    ("", "v1", "Pod"),
    ("", "v1", "PersistentVolumeClaim"),
    ("", "v1", "PersistentVolume"),
    ("berth.dev", "v1alpha1", "LocalVolume"),
    ("storage.k8s.io", "v1", "CSIStorageCapacity"),
];

/// A change, as it was told.
pub struct Seen {
    pub at: SystemTime,
    pub kind: &'static str,
    pub gone: bool,
    pub object: DynamicObject,
}

impl Seen {
    /// Whether it is of the object `name` of a kind that is there.
    pub fn is(&self, kind: &str, name: &str) -> bool {
        !self.gone && self.kind == kind && self.object.metadata.name.as_deref() == Some(name)
    }

    /// Whether it says that the object `name` of a kind is gone.
    pub fn is_gone(&self, kind: &str, name: &str) -> bool {
        self.gone && self.kind == kind && self.object.metadata.name.as_deref() == Some(name)
    }

    /// The text at a place of the object, beside its metadata.
    pub fn text(&self, pointer: &str) -> Option<&str> {
        self.object.data.pointer(pointer)?.as_str()
    }
}

/// Whatever was told since it was last asked to begin.
pub struct Observer {
    news: UnboundedReceiver<Seen>,
    past: Vec<Seen>,
}

impl Observer {
    /// Begins to listen.
    pub async fn of(client: &Client) -> Self {
        let (tell, news) = unbounded_channel();
        for (group, version, kind) in KINDS {
            let api: Api<DynamicObject> =
                Api::all_with(client.clone(), &resource(group, version, kind));
            let listed = api.list(&ListParams::default()).await.unwrap();
            let at = listed.metadata.resource_version.unwrap();
            tokio::spawn(follow(api, kind, at, tell.clone()));
        }
        Self { news, past: Vec::new() }
    }

    /// Forgets what was told until now; the time.
    pub fn begin(&mut self) -> SystemTime {
        while self.news.try_recv().is_ok() {}
        self.past.clear();
        SystemTime::now()
    }

    /// Waits until something of which `found` knows what to say was told since the beginning; when that was.
    pub async fn until<T>(
        &mut self,
        what: &str,
        found: impl Fn(&Seen) -> Option<T>,
    ) -> (SystemTime, T) {
        if let Some(answer) = self.past.iter().find_map(|seen| Some((seen.at, found(seen)?))) {
            return answer;
        }
        let listen = async {
            loop {
                let seen = self.news.recv().await.unwrap();
                let answer = found(&seen).map(|answer| (seen.at, answer));
                self.past.push(seen);
                if let Some(answer) = answer {
                    return answer;
                }
            }
        };
        let heard = tokio::time::timeout(PATIENCE, listen).await;
        heard.unwrap_or_else(|_| panic!("in vain waited until {what}"))
    }

    /// [`Observer::until`] a thing is so.
    pub async fn when(&mut self, what: &str, so: impl Fn(&Seen) -> bool) -> SystemTime {
        self.until(what, |seen| so(seen).then_some(())).await.0
    }
}

/// Tells of every change of a kind after the version `at`.
async fn follow(
    api: Api<DynamicObject>,
    kind: &'static str,
    mut at: String,
    tell: UnboundedSender<Seen>,
) {
    let version = |object: &DynamicObject| object.metadata.resource_version.clone().unwrap();
    loop {
        let mut stream = api.watch(&WatchParams::default(), &at).await.unwrap().boxed();
        while let Some(event) = stream.next().await {
            let now = SystemTime::now();
            let (object, gone) = match event {
                Ok(WatchEvent::Added(object) | WatchEvent::Modified(object)) => (object, false),
                Ok(WatchEvent::Deleted(object)) => (object, true),
                Ok(WatchEvent::Bookmark(mark)) => {
                    at = mark.metadata.resource_version;
                    continue;
                }
                // The stream ended: another is begun where it did.
                Ok(WatchEvent::Error(_)) | Err(_) => break,
            };
            at = version(&object);
            if tell.send(Seen { at: now, kind, gone, object }).is_err() {
                return;
            }
        }
    }
}
