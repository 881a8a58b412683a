//! What is read and watched: the objects as the API server's watch told of them, and what this process knows beyond that
//! from its own requests.
//!
//! A read sees both, so that it never shows less than what this process was answered. Watchers are told of what the
//! watch brings and of nothing else, so that they hear every change once and in the API server's order.

mod told;

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use futures_util::{Stream, stream};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::watch;

use self::told::Told;
use super::super::{Event, Recorded, Version};
use super::entry::Entry;
use crate::volume::{ClaimName, VolumeName};

/// Changes that a watcher may be behind before it is told everything anew.
const NEWS: usize = 1024;

/// Every object, behind one lock that is never held across a wait.
#[derive(Debug)]
pub(super) struct Memory {
    now: RwLock<Now>,
    /// Told whenever the watch has brought something.
    progress: watch::Sender<()>,
}

#[derive(Debug)]
struct Now {
    /// The objects that are volumes, as they were at version `at`. Absent until the first list.
    told: Option<Told>,
    /// Everything up to this version has been told.
    at: Version,
    /// What answers to this process said beyond that.
    ahead: HashMap<VolumeName, Ahead>,
    /// Absent once the store has ended.
    news: Option<broadcast::Sender<News>>,
}

/// What is known of one object beyond what was told.
#[derive(Debug, Clone)]
enum Ahead {
    /// It is this.
    Known(Arc<Entry>),
    /// It was removed when it was at this version.
    Gone(Version),
}

#[derive(Debug, Clone)]
enum News {
    Applied(Arc<Entry>),
    Removed(VolumeName, Version),
    /// The watch began anew with a list.
    Listed,
}

impl Memory {
    pub(super) fn new() -> Self {
        let now = Now {
            told: None,
            at: Version(0),
            ahead: HashMap::new(),
            news: Some(broadcast::Sender::new(NEWS)),
        };
        Self { now: RwLock::new(now), progress: watch::Sender::new(()) }
    }

    /// The newest that is known of a volume; absent if it is gone or was never heard of.
    pub(super) fn get(&self, name: &VolumeName) -> Option<Arc<Entry>> {
        self.read().get(name).cloned()
    }

    /// Who holds this claim, as far as is known.
    pub(super) fn holder(&self, claim: &ClaimName) -> Option<VolumeName> {
        let now = self.read();
        let told = now.told.iter().flat_map(|told| told.holders(claim));
        let mut names = told.chain(now.ahead.keys());
        let holds = |entry: &Arc<Entry>| entry.claim_name() == Some(claim);
        names.find(|name| now.get(name).is_some_and(holds)).cloned()
    }

    /// Every volume in the order of names; waits for the first list.
    pub(super) async fn list(&self) -> Vec<Arc<Entry>> {
        let mut progress = self.progress.subscribe();
        loop {
            if let Some(all) = self.read().all() {
                return all;
            }
            // The sender lives as long as `self`.
            let _ = progress.changed().await;
        }
    }

    /// Takes what the API server answered to a request of this process.
    pub(super) fn answered(&self, entry: Entry) {
        self.write().answered(entry);
    }

    /// Takes that an object was not there any longer, of which at most `version` was known when that was asked.
    pub(super) fn missed(&self, name: &VolumeName, version: Version) {
        self.write().missed(name, version);
    }

    /// The watch told that an object was made or changed.
    pub(super) fn applied(&self, entry: Entry) {
        self.write().applied(entry);
        self.progress.send_replace(());
    }

    /// The watch told that an object was removed.
    pub(super) fn removed(&self, name: &VolumeName, version: Version) {
        let mut now = self.write();
        now.forget(name, version);
        now.advance(version);
        drop(now);
        self.progress.send_replace(());
    }

    /// The watch told that nothing else happened up to `version`.
    pub(super) fn reached(&self, version: Version) {
        self.write().advance(version);
        self.progress.send_replace(());
    }

    /// These are all objects that there were at `version`.
    pub(super) fn listed(&self, all: Vec<Entry>, version: Version) {
        self.write().listed(all, version);
        self.progress.send_replace(());
    }

    /// Up to where the watch has told.
    pub(super) fn at(&self) -> Version {
        self.read().at
    }

    /// Ends every watch.
    pub(super) fn end(&self) {
        self.write().news = None;
        self.progress.send_replace(());
    }

    /// Everything there is and what will happen to it, once the watch has told what this process knows already. Absent
    /// when the store has ended.
    async fn subscribe(&self) -> Option<(Vec<Arc<Entry>>, broadcast::Receiver<News>)> {
        let mut progress = self.progress.subscribe();
        let known = self.read().ahead.clone();
        loop {
            {
                let now = self.read();
                let news = now.news.as_ref()?;
                if let Some(told) = &now.told
                    && !known.iter().any(|(name, ahead)| now.is_untold(name, ahead))
                {
                    return Some((told.all().cloned().collect(), news.subscribe()));
                }
            }
            let _ = progress.changed().await;
        }
    }

    // No code panics while it holds the lock, and each change is whole by itself: a poisoned lock is sound.
    fn read(&self) -> RwLockReadGuard<'_, Now> {
        self.now.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Now> {
        self.now.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Now {
    fn get(&self, name: &VolumeName) -> Option<&Arc<Entry>> {
        match self.ahead.get(name) {
            Some(Ahead::Known(entry)) => Some(entry).filter(|entry| entry.volume().is_some()),
            Some(Ahead::Gone(_)) => None,
            None => self.told.as_ref()?.get(name),
        }
    }

    fn all(&self) -> Option<Vec<Arc<Entry>>> {
        let told = self.told.as_ref()?.all();
        let mut all: Vec<_> =
            told.filter(|entry| !self.ahead.contains_key(&entry.name)).cloned().collect();
        let known = self.ahead.values().filter_map(|ahead| match ahead {
            Ahead::Known(entry) if entry.volume().is_some() => Some(Arc::clone(entry)),
            Ahead::Known(_) | Ahead::Gone(_) => None,
        });
        all.extend(known);
        all.sort_by(|one, other| one.name.cmp(&other.name));
        Some(all)
    }

    fn answered(&mut self, entry: Entry) {
        let newest = match self.ahead.get(&entry.name) {
            Some(Ahead::Known(known)) => known.version,
            Some(Ahead::Gone(version)) => *version,
            None => Version(0),
        };
        if entry.version <= self.at || entry.version <= newest {
            return;
        }
        self.ahead.insert(entry.name.clone(), Ahead::Known(Arc::new(entry)));
    }

    fn missed(&mut self, name: &VolumeName, version: Version) {
        let gone = Ahead::Gone(version);
        let newer =
            matches!(self.ahead.get(name), Some(Ahead::Known(known)) if known.version > version);
        if !newer && self.is_untold(name, &gone) {
            self.ahead.insert(name.clone(), gone);
        }
    }

    fn applied(&mut self, entry: Entry) {
        let version = entry.version;
        if entry.volume().is_none() {
            self.forget(&entry.name, version);
        } else if let Some(told) = &mut self.told {
            let entry = Arc::new(entry);
            told.insert(Arc::clone(&entry));
            self.tell(News::Applied(entry));
        }
        self.advance(version);
    }

    /// The object is no volume any longer, for readers.
    fn forget(&mut self, name: &VolumeName, version: Version) {
        let Some(told) = &mut self.told else { return };
        if told.remove(name) {
            self.tell(News::Removed(name.clone(), version));
        }
    }

    /// Everything up to `version` has been told: answers up to there say nothing more.
    fn advance(&mut self, version: Version) {
        self.at = self.at.max(version);
        if self.ahead.is_empty() {
            return;
        }
        let ahead = std::mem::take(&mut self.ahead);
        self.ahead =
            ahead.into_iter().filter(|(name, ahead)| self.is_untold(name, ahead)).collect();
    }

    /// Whether the watch has yet to bring what an answer said.
    fn is_untold(&self, name: &VolumeName, ahead: &Ahead) -> bool {
        let told = self.told.as_ref().and_then(|told| told.get(name));
        match ahead {
            Ahead::Known(entry) => entry.version > self.at,
            // The removal has a version of its own, which its answer does not name: it was told of once the watch has
            // passed the last version and the object is not there, or is another of that name.
            Ahead::Gone(version) => {
                *version > self.at || told.is_some_and(|told| told.version <= *version)
            }
        }
    }

    fn listed(&mut self, all: Vec<Entry>, version: Version) {
        // An API server that went back was restored from a backup: what it answered before is not so any longer.
        if version < self.at {
            self.ahead.clear();
        }
        let volumes = all.into_iter().filter(|entry| entry.volume().is_some());
        self.told = Some(volumes.collect());
        self.at = version;
        self.advance(version);
        self.tell(News::Listed);
    }

    fn tell(&self, news: News) {
        if let Some(watchers) = &self.news {
            // An error means that nobody watches.
            let _ = watchers.send(news);
        }
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
            // What is told is always a volume.
            Ok(News::Applied(entry)) => return Some(Event::Applied(Box::new(entry.recorded()?))),
            Ok(News::Removed(name, version)) => return Some(Event::Removed(name, version)),
            Err(RecvError::Closed) => return None,
            Ok(News::Listed) | Err(RecvError::Lagged(_)) => {}
        }
    }
    let (all, news) = memory.subscribe().await?;
    *following = Some(news);
    Some(Event::Reset(recorded(&all)))
}

/// The records of entries that are volumes.
pub(super) fn recorded(entries: &[Arc<Entry>]) -> Vec<Recorded> {
    entries.iter().filter_map(|entry| entry.recorded()).collect()
}

#[cfg(test)]
mod tests;
