//! The one thread that changes the inventory: it takes every request that is waiting, decides each against the effects
//! of those before it, makes all of them durable in one transaction, and only then tells memory and the callers. Before it
//! waits for more it writes the transaction a second time, so that damage to either copy is harmless.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::super::{Cause, Error, Recorded, Version};
use super::file::{Disk, Failure, File};
use super::history::Row;
use super::memory::{Memory, News};
use super::{QUEUE, closed};
use crate::volume::{ClaimName, LocalVolume, Spec, Status, VolumeName, WipeRecord};

/// What the writer is asked.
pub(super) enum Request {
    Change(Change, Answer),
    /// End; the sender is told, or dropped, once the file is closed.
    Close(oneshot::Sender<()>),
}

/// A change, as the methods of the interface name it.
pub(super) enum Change {
    Add(Box<LocalVolume>),
    Decide(VolumeName, Version, Box<Spec>),
    Observe(VolumeName, Version, Box<Status>),
    Remove(VolumeName, Version),
}

type Answer = oneshot::Sender<Result<Arc<Recorded>, Error>>;

/// What only the writer needs to know of what is recorded. It is made from the records when the file is read and so
/// cannot disagree with them, as a second table on the disk could.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// The greatest version given so far.
    pub(super) version: u64,
    /// Who holds what: the reason why one claim's name never gets two volumes.
    pub(super) claims: HashMap<ClaimName, VolumeName>,
}

pub(super) struct Writer {
    /// Absent after a failed write, until a new file could be written. It is closed before the directory is unlocked.
    file: Option<File>,
    disk: Disk,
    memory: Arc<Memory>,
    index: Index,
    /// Whether the newest state is in the file once only.
    single: bool,
}

impl Writer {
    /// For a file that was just opened, which may be what a crash has left.
    pub(super) fn new(disk: Disk, file: File, memory: Arc<Memory>, index: Index) -> Self {
        Self { disk, file: Some(file), memory, index, single: true }
    }

    /// Serves requests until there is nobody left to make any, or until it is told to close.
    pub(super) fn run(mut self, mut waiting: mpsc::Receiver<Request>) {
        let mut requests = Vec::with_capacity(QUEUE);
        let mut closing = Vec::new();
        self.double();
        while closing.is_empty() && waiting.blocking_recv_many(&mut requests, QUEUE) > 0 {
            let mut batch = Vec::with_capacity(requests.len());
            for request in requests.drain(..) {
                match request {
                    Request::Close(ended) => closing.push(ended),
                    Request::Change(_, answer) if !closing.is_empty() => refuse(answer),
                    Request::Change(change, answer) => batch.push((change, answer)),
                }
            }
            let changed = self.serve(batch);
            // Under load the next change's write is what makes this one safe.
            if !changed || waiting.is_empty() || !closing.is_empty() {
                self.double();
            }
        }
        refuse_the_rest(&mut waiting, &mut closing);
        self.memory.end();
        // The file and the lock of the directory go before anyone is told.
        drop(self);
        for ended in closing {
            let _ = ended.send(());
        }
    }

    /// Answers a batch; whether the file was written for it.
    fn serve(&mut self, batch: Vec<(Change, Answer)>) -> bool {
        let mut draft = Draft::over(&self.memory, &self.index);
        let (answers, results): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|(change, answer)| (answer, draft.take(change))).unzip();
        let Draft { version, volumes, claims, news, wipes, .. } = draft;
        let changed = !news.is_empty();
        if changed {
            let wipes =
                if wipes.is_empty() { Vec::new() } else { self.memory.history().after(wipes) };
            let rows = volumes.iter().map(|(name, recorded)| (name, recorded.as_ref()));
            if let Err(trouble) = self.commit(version, rows, &wipes) {
                for answer in answers {
                    let _ = answer.send(Err(trouble.error()));
                }
                return false;
            }
            self.index.take(version, claims);
            self.memory.apply(news, wipes);
        }
        for (answer, result) in answers.into_iter().zip(results) {
            // A caller that no longer waits changes nothing.
            let _ = answer.send(result);
        }
        changed
    }

    /// After a failure the file is not touched again: a sync that failed may have dropped pages that reading back still
    /// shows. A new file is written from memory, which holds exactly what was acknowledged; with it in place the batch
    /// is known not to be written.
    fn commit<'a>(
        &mut self,
        version: u64,
        rows: impl Iterator<Item = (&'a VolumeName, Option<&'a Arc<Recorded>>)>,
        wipes: &[Row],
    ) -> Result<(), Trouble> {
        self.mend().map_err(|cause| Trouble { written: Some(false), cause })?;
        let Some(file) = &self.file else { return Ok(()) };
        let failure = match file.commit(version, rows, wipes) {
            Ok(()) => {
                self.single = true;
                return Ok(());
            }
            Err(failure) => failure,
        };
        let (begun, error) = match failure {
            Failure::NotWritten(error) => (false, error),
            Failure::Unknown(error) => (true, error),
        };
        self.give_up(&error);
        let mended = self.mend().is_ok();
        let written = if begun && !mended { None } else { Some(false) };
        Err(Trouble { written, cause: Arc::new(error) })
    }

    /// Has the newest state in the file a second time. Callers have their answers by then: they wait for one durable
    /// write, and what this protects from is damage that is found when the file is opened.
    fn double(&mut self) {
        let Some(file) = self.file.as_ref().filter(|_| self.single) else { return };
        match file.repeat(self.index.version) {
            Ok(()) => self.single = false,
            Err(Failure::NotWritten(error) | Failure::Unknown(error)) => {
                self.give_up(&error);
                // Without it the next change tries again, and is refused if that is in vain.
                let _ = self.mend();
            }
        }
    }

    fn give_up(&mut self, error: &redb::Error) {
        self.file = None;
        tracing::error!(file = %self.disk.path().display(), %error, "writing the inventory failed");
    }

    fn mend(&mut self) -> Result<(), Arc<dyn std::error::Error + Send + Sync>> {
        if self.file.is_none() {
            let file = self.disk.write_anew(
                self.index.version,
                &self.memory.volumes(),
                &self.memory.history(),
            );
            self.file = Some(file.map_err(|error| {
                tracing::error!(%error, "the inventory takes no changes until it can be written");
                Arc::new(error) as Arc<_>
            })?);
            self.single = false;
            tracing::warn!(file = %self.disk.path().display(), "the inventory was written anew");
        }
        Ok(())
    }
}

fn refuse(answer: Answer) {
    let _ = answer.send(Err(closed()));
}

fn refuse_the_rest(waiting: &mut mpsc::Receiver<Request>, closing: &mut Vec<oneshot::Sender<()>>) {
    waiting.close();
    while let Some(request) = waiting.blocking_recv() {
        match request {
            Request::Change(_, answer) => refuse(answer),
            Request::Close(ended) => closing.push(ended),
        }
    }
}

/// Why a batch failed, for each of its callers.
struct Trouble {
    /// Absent where it is not known.
    written: Option<bool>,
    cause: Arc<dyn std::error::Error + Send + Sync>,
}

impl Trouble {
    fn error(&self) -> Error {
        let source: Cause = Box::new(Shared(Arc::clone(&self.cause)));
        match self.written {
            Some(_) => Error::NotWritten { context: "its file could not be written", source },
            None => Error::OutcomeUnknown { context: "writing its file failed half-way", source },
        }
    }
}

/// One cause for many callers.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Shared(Arc<dyn std::error::Error + Send + Sync>);

impl Index {
    fn take(&mut self, version: u64, claims: HashMap<ClaimName, Option<VolumeName>>) {
        self.version = version;
        for (claim, holder) in claims {
            match holder {
                Some(holder) => self.claims.insert(claim, holder),
                None => self.claims.remove(&claim),
            };
        }
    }
}

/// What a batch changes, seen over what is recorded.
struct Draft<'a> {
    memory: &'a Memory,
    index: &'a Index,
    version: u64,
    volumes: HashMap<VolumeName, Option<Arc<Recorded>>>,
    claims: HashMap<ClaimName, Option<VolumeName>>,
    news: Vec<News>,
    /// The wipes that have ended, in order.
    wipes: Vec<WipeRecord>,
}

impl<'a> Draft<'a> {
    fn over(memory: &'a Memory, index: &'a Index) -> Self {
        Self {
            memory,
            index,
            version: index.version,
            volumes: HashMap::new(),
            claims: HashMap::new(),
            news: Vec::new(),
            wipes: Vec::new(),
        }
    }

    fn take(&mut self, change: Change) -> Result<Arc<Recorded>, Error> {
        match change {
            Change::Add(volume) => {
                if self.get(&volume.name).is_some() {
                    return Err(Error::Exists(volume.name));
                }
                self.record(None, *volume)
            }
            Change::Decide(name, version, spec) => {
                let was = self.at(&name, version)?;
                let volume = LocalVolume { name, spec: *spec, status: was.volume.status.clone() };
                self.record(Some(was), volume)
            }
            Change::Observe(name, version, status) => {
                let was = self.at(&name, version)?;
                let volume = LocalVolume { name, spec: was.volume.spec.clone(), status: *status };
                self.record(Some(was), volume)
            }
            Change::Remove(name, version) => {
                let was = self.at(&name, version)?;
                self.free(&was);
                let cut_off = was.volume.cut_off().map(|wipe| was.volume.record_of(wipe));
                self.wipes.extend(cut_off);
                self.version += 1;
                self.news.push(News::Removed(name.clone(), Version(self.version)));
                self.volumes.insert(name, None);
                Ok(was)
            }
        }
    }

    /// Records `volume`. What changes nothing is not written and keeps its version, as with the Kubernetes API.
    fn record(
        &mut self,
        was: Option<Arc<Recorded>>,
        volume: LocalVolume,
    ) -> Result<Arc<Recorded>, Error> {
        if let Some(claim) = &volume.spec.claim
            && let Some(holder) = self.holder(&claim.name)
            && holder != volume.name
        {
            return Err(Error::ClaimNameTaken { claim: claim.name.clone(), holder });
        }
        let known = was.as_ref().and_then(|was| was.volume.status.last_wipe.as_ref());
        if volume.status.last_wipe.as_ref() != known {
            self.wipes.extend(volume.last_wipe());
        }
        if let Some(was) = was {
            if *was.volume == volume {
                return Ok(was);
            }
            self.free(&was);
        }
        if let Some(claim) = &volume.spec.claim {
            self.claims.insert(claim.name.clone(), Some(volume.name.clone()));
        }
        self.version += 1;
        let recorded = Arc::new(Recorded::new(volume, Version(self.version)));
        self.volumes.insert(recorded.volume.name.clone(), Some(Arc::clone(&recorded)));
        self.news.push(News::Applied(Arc::clone(&recorded)));
        Ok(recorded)
    }

    fn free(&mut self, was: &Recorded) {
        if let Some(claim) = &was.volume.spec.claim {
            self.claims.insert(claim.name.clone(), None);
        }
    }

    fn at(&self, name: &VolumeName, version: Version) -> Result<Arc<Recorded>, Error> {
        let recorded = self.get(name).ok_or_else(|| Error::NotFound(name.clone()))?;
        if recorded.version != version {
            return Err(Error::Conflict(name.clone()));
        }
        Ok(recorded)
    }

    fn get(&self, name: &VolumeName) -> Option<Arc<Recorded>> {
        self.volumes.get(name).cloned().unwrap_or_else(|| self.memory.get(name))
    }

    fn holder(&self, claim: &ClaimName) -> Option<VolumeName> {
        self.claims.get(claim).cloned().unwrap_or_else(|| self.index.claims.get(claim).cloned())
    }
}
