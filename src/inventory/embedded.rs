//! The embedded store: one file in a state directory, one process, no server.
//!
//! [`mod@file`] is what lies on the disk, [`memory`] what is read and watched, [`history`] the wipes of the past, [`writer`] the one thread that owns the file
//! and takes every request that is waiting into one transaction. Reads never touch the disk. What is in
//! memory is exactly what was acknowledged, so a disk that failed is mended by writing a new file from it.
//! `standalone` keeps its inventory here.

mod file;
mod history;
#[cfg(any(test, fuzzing))]
pub(crate) mod hostile;
mod memory;
mod writer;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use futures_util::Stream;
use tokio::sync::{mpsc, oneshot};

use self::file::{Disk, File};
use self::memory::Memory;
use self::writer::{Change, Request, Writer};
use super::{Cause, Error, Event, Inventory, Recorded, Version};
use crate::volume::{LocalVolume, NodeName, Spec, Status, VolumeName, WipeRecord};

/// Requests that may wait for the writer; further callers wait for a place. Also the most that one transaction takes.
const QUEUE: usize = 1024;

/// The embedded store. Clones share it; dropping the last one waits for the writer to end, which frees the directory
/// for another process.
#[derive(Clone)]
pub struct Embedded {
    running: Arc<Running>,
}

/// The writer's thread and the ways to it.
struct Running {
    path: PathBuf,
    memory: Arc<Memory>,
    requests: Option<mpsc::Sender<Request>>,
    thread: Option<JoinHandle<()>>,
}

/// Why a state directory was not opened. Nothing in it was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process, or another store of this one, has it.
    #[error(
        "{} is in use by another process: stop the berth that runs on this directory, or give this one another with --state",
        file.display()
    )]
    InUse {
        /// The inventory's file.
        file: PathBuf,
    },
    /// It cannot be read as it was written.
    #[error(
        "{} is damaged: put a backup of it in its place, or move it away and start anew, whereupon every volume that \
         holds data is Dirty until you decide",
        file.display()
    )]
    Damaged {
        /// The inventory's file.
        file: PathBuf,
        /// What is wrong with it.
        #[source]
        source: Cause,
    },
    /// It is something else.
    #[error(
        "{} is not an inventory of Berth: move it away, or give another directory with --state",
        file.display()
    )]
    Foreign {
        /// The file.
        file: PathBuf,
        /// What it lacks.
        #[source]
        source: Cause,
    },
    /// A release wrote it that this one does not understand.
    #[error(
        "{} is of schema {found} and this berth knows schema {known}: run the release that wrote it, or a newer one",
        file.display()
    )]
    Schema {
        /// The inventory's file.
        file: PathBuf,
        /// Its schema.
        found: u64,
        /// What this release reads and writes.
        known: u64,
    },
    /// It is another node's.
    #[error(
        "{} has volume {volume} of node {recorded}, and this node is to be {given}, which would find its disks anew, the \
         claimed ones too: give the old name with --node {recorded}, or another directory with --state",
        file.display()
    )]
    Node {
        /// The inventory's file.
        file: PathBuf,
        /// A volume in it.
        volume: VolumeName,
        /// The node that the volume is on.
        recorded: NodeName,
        /// The name that the node was given now.
        given: NodeName,
    },
    /// The directory or the file could not be made, read or written.
    #[error("{} could not be opened: check that it is a writable place with space left", path.display())]
    Io {
        /// The directory or file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Cause,
    },
}

/// The store was closed.
#[derive(Debug, thiserror::Error)]
#[error("it is closed; the process is shutting down")]
struct Closed;

impl Embedded {
    /// Opens the inventory in `state_dir`, or makes both. Blocks while it reads and checks the whole file.
    pub fn open(state_dir: &Path) -> Result<Self, OpenError> {
        Self::open_on(Disk::new(state_dir)?)
    }

    fn open_on(disk: Disk) -> Result<Self, OpenError> {
        let (file, contents) = File::open(&disk)?;
        let (memory, index) = contents.into_memory();
        let memory = Arc::new(memory);
        let (requests, waiting) = mpsc::channel(QUEUE);
        let path = disk.path().to_owned();
        let writer = Writer::new(disk, file, Arc::clone(&memory), index);
        let thread = std::thread::Builder::new()
            .name("inventory".into())
            .spawn(move || writer.run(waiting))
            .map_err(|source| OpenError::io(&path, source))?;
        let running = Running { path, memory, requests: Some(requests), thread: Some(thread) };
        Ok(Self { running: Arc::new(running) })
    }

    /// Makes sure that every volume is on `node`, for a store that one node has to itself.
    pub fn require_node(&self, node: &NodeName) -> Result<(), OpenError> {
        let volumes = self.running.memory.volumes();
        let other = volumes.iter().map(|recorded| &recorded.volume).find(|v| v.spec.node != *node);
        other.map_or(Ok(()), |volume| {
            Err(OpenError::Node {
                file: self.running.path.clone(),
                volume: volume.name.clone(),
                recorded: volume.spec.node.clone(),
                given: node.clone(),
            })
        })
    }

    /// Ends the store, for every clone: what was asked before is written, what is asked afterwards is refused, watches
    /// end. When this returns another process may open the directory.
    pub async fn close(self) {
        let (ended, end) = oneshot::channel();
        if let Some(requests) = &self.running.requests
            && requests.send(Request::Close(ended)).await.is_ok()
        {
            // The sender is dropped, at the latest, with the file; either way it is closed now.
            let _ = end.await;
        }
    }

    /// The names of all volumes.
    pub(super) fn names(&self) -> Vec<VolumeName> {
        let volumes = self.running.memory.volumes();
        volumes.iter().map(|recorded| recorded.volume.name.clone()).collect()
    }

    async fn ask(&self, change: Change) -> Result<Arc<Recorded>, Error> {
        let (answer, answered) = oneshot::channel();
        let request = Request::Change(change, answer);
        let Some(requests) = &self.running.requests else { return Err(closed()) };
        requests.send(request).await.map_err(|_| closed())?;
        answered.await.unwrap_or_else(|source| {
            Err(Error::OutcomeUnknown {
                context: "the writer ended without an answer",
                source: Box::new(source),
            })
        })
    }
}

impl OpenError {
    fn io(path: &Path, source: io::Error) -> Self {
        Self::Io { path: path.to_owned(), source: Box::new(source) }
    }
}

fn closed() -> Error {
    Error::NotWritten { context: "the store takes no more changes", source: Box::new(Closed) }
}

impl fmt::Debug for Embedded {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Embedded").finish_non_exhaustive()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.requests.take());
        // The thread has nothing left but to close the file: a wait of one sync at most.
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the inventory's writer panicked");
        }
    }
}

impl Inventory for Embedded {
    /// As many as one transaction takes.
    const WRITES_AT_ONCE: usize = QUEUE;

    async fn list(&self) -> Result<Vec<Recorded>, Error> {
        Ok(self.running.memory.list())
    }

    async fn get(&self, name: &VolumeName) -> Result<Recorded, Error> {
        let recorded = self.running.memory.get(name);
        recorded.map(Arc::unwrap_or_clone).ok_or_else(|| Error::NotFound(name.clone()))
    }

    async fn wipes(&self) -> Result<Vec<WipeRecord>, Error> {
        Ok(self.running.memory.wipes().into_iter().map(Arc::unwrap_or_clone).collect())
    }

    async fn add(&self, volume: LocalVolume) -> Result<Recorded, Error> {
        self.ask(Change::Add(Box::new(volume))).await.map(Arc::unwrap_or_clone)
    }

    async fn decide(
        &self,
        name: &VolumeName,
        version: Version,
        spec: Spec,
    ) -> Result<Recorded, Error> {
        let change = Change::Decide(name.clone(), version, Box::new(spec));
        self.ask(change).await.map(Arc::unwrap_or_clone)
    }

    async fn observe(
        &self,
        name: &VolumeName,
        version: Version,
        status: Status,
    ) -> Result<Recorded, Error> {
        let change = Change::Observe(name.clone(), version, Box::new(status));
        self.ask(change).await.map(Arc::unwrap_or_clone)
    }

    async fn remove(&self, name: &VolumeName, version: Version) -> Result<(), Error> {
        self.ask(Change::Remove(name.clone(), version)).await.map(drop)
    }

    fn watch(&self) -> impl Stream<Item = Event> + Send + Unpin + 'static {
        memory::watch(Arc::clone(&self.running.memory))
    }
}

#[cfg(test)]
mod tests;
