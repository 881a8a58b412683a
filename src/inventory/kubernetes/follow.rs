//! The task that keeps memory equal to the API server: a list, then the watch from there, and a list again when the API
//! server no longer knows that version or went back to an older one.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use kube::api::WatchEvent;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::api::Api;
use super::entry::version;
use super::error::PATIENCE;
use super::memory::Memory;
use super::object::Object;
use crate::causes;

/// The first and the longest wait between two tries.
const WAITS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// How long a watch may be silent: the API server sends a bookmark about once a minute.
const SILENCE: Duration = Duration::from_mins(3);

/// How a watch ended.
enum End {
    /// As every watch does after some minutes.
    Closed,
    /// What happened since then is not known any longer.
    Expired(String),
    /// The API server is not there, or not well.
    Failed(String),
}

/// Runs until it is aborted.
pub(super) async fn follow(api: Arc<Api>, memory: Arc<Memory>) {
    let mut waiting = Waiting::default();
    loop {
        match api.list().await {
            Ok((all, at)) => memory.listed(all, at),
            Err(failure) => {
                waiting.failed(&failure.sentence()).await;
                continue;
            }
        }
        loop {
            match watch(&api, &memory, &mut waiting).await {
                End::Closed => waiting.pause().await,
                End::Failed(why) => waiting.failed(&why).await,
                End::Expired(why) => {
                    info!(%why, "reading all LocalVolumes anew");
                    waiting.pause().await;
                    break;
                }
            }
        }
    }
}

/// One watch, from where memory is.
async fn watch(api: &Api, memory: &Memory, waiting: &mut Waiting) -> End {
    let started = timeout(PATIENCE, api.watch(memory.at())).await;
    let events = match started {
        Ok(Ok(events)) => events,
        Ok(Err(error)) => return end(&error),
        Err(_) => return End::Failed("the API server did not answer".to_owned()),
    };
    let mut events = std::pin::pin!(events);
    loop {
        match timeout(SILENCE, events.next()).await {
            Ok(Some(Ok(event))) => match take(event, api, memory) {
                None => waiting.over(),
                Some(end) => return end,
            },
            Ok(Some(Err(error))) => return end(&error),
            Ok(None) | Err(_) => return End::Closed,
        }
    }
}

fn take(event: WatchEvent<Object>, api: &Api, memory: &Memory) -> Option<End> {
    match event {
        WatchEvent::Added(object) | WatchEvent::Modified(object) => {
            if let Some(entry) = api.known(object) {
                memory.applied(entry);
            }
        }
        WatchEvent::Deleted(object) => {
            if let Some(entry) = api.known(object) {
                memory.removed(&entry.name, entry.version);
            }
        }
        WatchEvent::Bookmark(bookmark) => {
            if let Some(at) = version(&bookmark.metadata.resource_version) {
                memory.reached(at);
            }
        }
        WatchEvent::Error(status) => return Some(end(&kube::Error::Api(status))),
    }
    None
}

/// Only what says that the API server is not well leaves the version good; anything else, above all 410 Gone, calls for a
/// list.
fn end(error: &kube::Error) -> End {
    match error {
        kube::Error::Api(status) if !matches!(status.code, 429 | 500 | 502 | 503) => {
            End::Expired(status.message.clone())
        }
        kube::Error::SerdeError(_) => End::Expired(error.to_string()),
        _ => End::Failed(causes::chain(error)),
    }
}

/// Longer and longer waits until a watch brings something, so that nothing that ends at once is begun again at once.
#[derive(Default)]
struct Waiting {
    next: Option<Duration>,
    /// Whether the log has heard of it.
    told: bool,
}

impl Waiting {
    async fn pause(&mut self) {
        let wait = self.next.unwrap_or(WAITS.0);
        sleep(wait).await;
        self.next = Some((wait * 2).min(WAITS.1));
    }

    async fn failed(&mut self, why: &str) {
        if !self.told {
            warn!(%why, "the API server cannot be followed; trying on");
            self.told = true;
        }
        self.pause().await;
    }

    fn over(&mut self) {
        if std::mem::take(&mut self.told) {
            info!("the API server is followed again");
        }
        self.next = None;
    }
}
