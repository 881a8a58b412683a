//! What is recorded, in memory: the answers to every read, and the news for every watcher. Only the writer changes it,
//! after the disk has taken the change.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use futures_util::{Stream, stream};
use tokio::sync::broadcast::{self, error::RecvError};

use super::super::{Event, Recorded, Version};
use super::history::{History, Row};
use crate::volume::{VolumeName, WipeRecord};

/// Changes that a watcher may be behind before it is told everything anew.
const NEWS: usize = 1024;

/// Every record, behind one lock that is never held across a wait.
#[derive(Debug)]
pub(super) struct Memory {
    now: RwLock<Now>,
}

#[derive(Debug)]
struct Now {
    volumes: Volumes,
    wipes: History,
    /// Absent once the store has ended.
    news: Option<broadcast::Sender<News>>,
}

/// Records by name.
pub(super) type Volumes = BTreeMap<VolumeName, Arc<Recorded>>;

/// One change, as the writer made it; cheap to clone for each watcher.
#[derive(Debug, Clone)]
pub(super) enum News {
    Applied(Arc<Recorded>),
    Removed(VolumeName, Version),
}

impl Memory {
    pub(super) fn new(volumes: Volumes, wipes: History) -> Self {
        let news = Some(broadcast::Sender::new(NEWS));
        Self { now: RwLock::new(Now { volumes, wipes, news }) }
    }

    pub(super) fn get(&self, name: &VolumeName) -> Option<Arc<Recorded>> {
        self.read().volumes.get(name).cloned()
    }

    /// Every record in the order of names. The lock is held for pointers only; the records are copied afterwards.
    pub(super) fn list(&self) -> Vec<Recorded> {
        copied(self.volumes())
    }

    pub(super) fn volumes(&self) -> Vec<Arc<Recorded>> {
        self.read().volumes.values().cloned().collect()
    }

    /// The wipes that are remembered, the oldest first.
    pub(super) fn wipes(&self) -> Vec<Arc<WipeRecord>> {
        self.read().wipes.wipes()
    }

    pub(super) fn history(&self) -> History {
        self.read().wipes.clone()
    }

    /// Takes what was made durable. A watcher sees either the state before with this as news, or the state after.
    pub(super) fn apply(&self, batch: Vec<News>, wipes: Vec<Row>) {
        let mut now = self.write();
        now.wipes.apply(wipes);
        for news in batch {
            match &news {
                News::Applied(recorded) => {
                    now.volumes.insert(recorded.volume.name.clone(), Arc::clone(recorded));
                }
                News::Removed(name, _) => {
                    now.volumes.remove(name);
                }
            }
            if let Some(watchers) = &now.news {
                // An error means that nobody watches.
                let _ = watchers.send(news);
            }
        }
    }

    /// Ends every watch.
    pub(super) fn end(&self) {
        self.write().news = None;
    }

    fn subscribe(&self) -> Option<(Vec<Arc<Recorded>>, broadcast::Receiver<News>)> {
        let now = self.read();
        let news = now.news.as_ref()?.subscribe();
        Some((now.volumes.values().cloned().collect(), news))
    }

    // No code panics while it holds the lock, and each change of the map is whole by itself: a poisoned lock is sound.
    fn read(&self) -> RwLockReadGuard<'_, Now> {
        self.now.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Now> {
        self.now.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See [`super::super::Inventory::watch`]. It does not keep the store alive.
pub(super) fn watch(memory: Arc<Memory>) -> impl Stream<Item = Event> + Send + Unpin + 'static {
    Box::pin(stream::unfold((memory, None), |(memory, mut following)| async move {
        let event = next(&memory, &mut following).await?;
        Some((event, (memory, following)))
    }))
}

async fn next(memory: &Memory, following: &mut Option<broadcast::Receiver<News>>) -> Option<Event> {
    if let Some(news) = following {
        match news.recv().await {
            Ok(News::Applied(recorded)) => {
                return Some(Event::Applied(Box::new(Arc::unwrap_or_clone(recorded))));
            }
            Ok(News::Removed(name, version)) => return Some(Event::Removed(name, version)),
            Err(RecvError::Closed) => return None,
            Err(RecvError::Lagged(_)) => {}
        }
    }
    let (all, news) = memory.subscribe()?;
    *following = Some(news);
    Some(Event::Reset(copied(all)))
}

fn copied(volumes: Vec<Arc<Recorded>>) -> Vec<Recorded> {
    volumes.into_iter().map(Arc::unwrap_or_clone).collect()
}
