//! Find: what the host has, and the difference to what is recorded.
//!
//! One task: something changed, or it is time → [`mod@scan`] → [`mod@reconcile`] → the inventory. The scan looks at the host and
//! decides nothing; the decision is pure and sees nothing but the scan and the records; the writes are each conditional
//! on the record being the one that was decided on, and whatever lost a race is decided again. Only volumes of this node
//! are read or written. Started by the roles that run on a node.

pub mod found;
mod identify;
mod list;
mod pace;
pub mod reconcile;
mod remember;
mod scan;
mod tell;
mod unsettled;
mod wake;
mod write;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::health::{Attempts, DEADLINE, Finding, Prober, Round};
use crate::host::memory;
use crate::host::namespace::HostNamespace;
use crate::inventory::{self, Inventory, Version};
use crate::observe::metrics::Metrics;
use crate::observe::problems::Counts;
use crate::pool::Pools;
use crate::volume::{LocalVolume, NodeName, VolumeName};
use found::{Problem, Sight};
use pace::Pace;
use reconcile::{World, depth, reconcile};
use remember::Memory;
use scan::{Scan, scan};
use unsettled::Unsettled;
use wake::{Concerns, Wake};
use write::Writer;

/// How often everything is looked at though nothing was heard, unless it is said otherwise.
pub const RESCAN: Duration = Duration::from_mins(1);
/// The first pause before what could not be finished is tried again, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(5));

/// What the last scan found wrong.
pub type Problems = watch::Receiver<Arc<BTreeSet<Problem>>>;

/// Finds the volumes of a node, for as long as it runs. Clones are the same discovery.
#[derive(Debug, Clone)]
pub struct Discovery<I> {
    inventory: I,
    node: NodeName,
    pools: watch::Receiver<Arc<Pools>>,
    metrics: Metrics,
    rescan: Duration,
    tenants: Vec<PathBuf>,
    host: HostNamespace,
    node_uid: watch::Receiver<Option<String>>,
    attempts: Attempts,
    prober: Prober,
    ready: Arc<watch::Sender<bool>>,
    problems: Arc<watch::Sender<Arc<BTreeSet<Problem>>>>,
}

/// What passes know of those before them.
#[derive(Default)]
struct Known {
    memory: Memory,
    unsettled: Unsettled,
    concerns: Concerns,
}

/// Why a pass did not end. It is tried again.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("the host was not scanned")]
    Scan(#[from] scan::Error),
    #[error("the inventory could not be brought up to date")]
    Inventory(#[from] inventory::Error),
}

impl<I: Inventory> Discovery<I> {
    /// A discovery for `node`, which keeps its volumes in `inventory`.
    pub fn new(
        inventory: I,
        node: NodeName,
        pools: watch::Receiver<Arc<Pools>>,
        metrics: Metrics,
    ) -> Self {
        Self {
            inventory,
            node,
            pools,
            metrics,
            rescan: RESCAN,
            tenants: Vec::new(),
            host: HostNamespace::default(),
            node_uid: watch::channel(None).1,
            attempts: Attempts::new(DEADLINE),
            prober: Prober::default(),
            ready: Arc::new(watch::Sender::new(false)),
            problems: Arc::default(),
        }
    }

    /// Looks at everything every `rescan`, whatever is heard.
    #[must_use]
    pub fn rescan_every(self, rescan: Duration) -> Self {
        Self { rescan, ..self }
    }

    /// Waits no longer than `deadline` for any one call.
    #[cfg(test)]
    #[must_use]
    fn wait_at_most(self, deadline: Duration) -> Self {
        Self { attempts: Attempts::new(deadline), prober: Prober::new(deadline), ..self }
    }

    /// Knows a mount beneath any of `tenants` for a tenant's, also where nothing is recorded of one.
    #[must_use]
    pub fn tenants_beneath(self, tenants: Vec<PathBuf>) -> Self {
        Self { tenants, ..self }
    }

    /// Takes another process's mount namespace for the host's.
    #[cfg(test)]
    #[must_use]
    fn on_host(self, host: HostNamespace) -> Self {
        Self { host, ..self }
    }

    /// Records with each volume the UID of the Node object that this node is.
    #[must_use]
    pub fn of_node(self, uid: watch::Receiver<Option<String>>) -> Self {
        Self { node_uid: uid, ..self }
    }

    /// The prober that it uses, so that others share its memory of what hangs.
    pub fn prober(&self) -> Prober {
        self.prober.clone()
    }

    /// Resolves once the first complete scan has been recorded.
    pub async fn ready(&self) {
        let mut ready = self.ready.subscribe();
        // The sender lives as long as this does.
        let _ = ready.wait_for(|ready| *ready).await;
    }

    /// What a person may expect to be offered and is not, as the last scan found it.
    pub fn problems(&self) -> Problems {
        self.problems.subscribe()
    }

    /// Finds until `cancel`. Ends between two calls to the inventory; nothing is half done then.
    pub async fn run(&self, cancel: CancellationToken) {
        tokio::select! {
            () = cancel.cancelled() => {}
            () = self.find() => {}
        }
    }

    async fn find(&self) {
        let mut pools = self.pools.clone();
        let mut node_uid = self.node_uid.clone();
        let mut wake = Wake::open();
        let mut due = Instant::now();
        let mut unfinished: u32 = 0;
        let mut known = Known::default();
        let mut pace = Pace::new(due);
        loop {
            let current = Arc::clone(&pools.borrow_and_update());
            node_uid.mark_unchanged();
            wake.watch(&self.attempts, &current).await;
            let began = Instant::now();
            let thorough = began >= due;
            let finished = self.try_pass(&current, thorough, &mut known).await;
            pace.spent(began, Instant::now());
            let rested = pace.next();
            if finished && thorough {
                due = began + self.rescan;
                // What a look at everything needs is needed again at the next one.
                memory::give_back();
            }
            unfinished = if finished { 0 } else { unfinished.saturating_add(1) };
            tokio::select! {
                () = pause(unfinished), if !finished => {}
                () = async { wake.changed(&known.concerns).await; sleep_until(rested).await } => {}
                () = changed(&mut pools) => due = Instant::now(),
                () = changed(&mut node_uid) => {}
                () = sleep_until(known.unsettled.due().map_or(due, |look| look.min(due))), if finished => {}
            }
        }
    }

    /// One pass; whether nothing is left to do for it.
    async fn try_pass(&self, pools: &Pools, thorough: bool, known: &mut Known) -> bool {
        match self.pass(pools, thorough, known).await {
            Ok(finished) => {
                if finished {
                    self.ready.send_if_modified(|ready| !std::mem::replace(ready, true));
                }
                finished
            }
            Err(error) => {
                let error = crate::causes::chain(&error);
                warn!(node = %self.node, error, "discovery failed and tries again");
                false
            }
        }
    }

    async fn pass(&self, pools: &Pools, thorough: bool, known: &mut Known) -> Result<bool, Error> {
        let began = Instant::now();
        // Read before the host is looked at: what changes from now on makes the writes fail, and is decided again.
        let (volumes, versions) = self.recorded().await?;
        let depths = volumes
            .iter()
            .map(|volume| (volume.status.fingerprint.identity(), depth(volume, thorough)));
        if thorough {
            known.memory.forget();
        }
        let depths = depths.collect();
        let before = scan::Known { host: self.host, pools, recorded: &volumes, depths };
        let scan = scan(&self.attempts, before, &mut known.memory).await?;
        known.concerns = Concerns::of(&scan.found);
        let round = Arc::new(Round::new(Arc::clone(&scan.mounts)));
        let findings = self.probe(&volumes, &scan, &round, thorough).await;
        let node_uid = self.node_uid.borrow().clone();
        let world = World {
            node: &self.node,
            node_uid: node_uid.as_deref(),
            pools,
            findings: &findings,
            tenants: &self.tenants,
            now: Timestamp::now(),
        };
        let plan = reconcile(&scan.found, &volumes, world);
        let again = plan.wants_another();
        self.report(&known.unsettled.without(plan.problems, began));
        let writer = Writer { inventory: &self.inventory, prober: &self.prober, round: &round };
        let stale = writer.write(plan.changes, &volumes, &versions).await?;
        self.metrics.scanned(began.elapsed(), scan.found.candidates.len());
        Ok(!again && !stale)
    }

    /// This node's volumes, and the version that each was read at.
    async fn recorded(
        &self,
    ) -> Result<(Vec<LocalVolume>, BTreeMap<VolumeName, Version>), inventory::Error> {
        let recorded = self.inventory.list().await?;
        let own = recorded.into_iter().filter(|recorded| recorded.volume.spec.node == self.node);
        Ok(own
            .map(|recorded| {
                let name = recorded.volume.name.clone();
                (Arc::unwrap_or_clone(recorded.volume), (name, recorded.version))
            })
            .unzip())
    }

    /// Probes the volumes that are there: all of them when everything is looked at, else those that were ill.
    async fn probe(
        &self,
        volumes: &[LocalVolume],
        scan: &Scan,
        round: &Arc<Round>,
        thorough: bool,
    ) -> BTreeMap<VolumeName, Finding> {
        let sources = scan.found.candidates.iter().filter_map(|candidate| match candidate.sight {
            Sight::Source(ref seen) => Some((candidate.path.as_str(), seen.facts.device)),
            _ => None,
        });
        let there: HashMap<_, _> = sources.collect();
        let chosen = volumes.iter().filter(|volume| thorough || !volume.is_healthy());
        let chosen = chosen.filter_map(|volume| {
            let device = there.get(volume.status.path.as_str()).copied()?;
            Some((volume, Some(device)))
        });
        let chosen: Vec<_> = chosen.collect();
        let findings = self.prober.probe_all(&chosen, round).await;
        let found = chosen.into_iter().zip(findings);
        found.filter_map(|((volume, _), finding)| Some((volume.name.clone(), finding?))).collect()
    }

    /// Keeps what is wrong for whoever asks, and says what is so since this scan.
    fn report(&self, problems: &BTreeSet<Problem>) {
        let mut counts = Counts::new();
        for problem in problems {
            *counts.entry((problem.pool.clone(), problem.defect.kind())).or_default() += 1;
        }
        self.metrics.problems(counts);
        self.problems.send_if_modified(|known| {
            tell::problems(&self.node, known, problems);
            let news = **known != *problems;
            if news {
                *known = Arc::new(problems.clone());
            }
            news
        });
    }
}

/// Longer from time to time, up to the longest.
async fn pause(unfinished: u32) {
    let factor = 2_u32.saturating_pow(unfinished.saturating_sub(1).min(16));
    sleep(PAUSES.0.saturating_mul(factor).min(PAUSES.1)).await;
}

/// Waits for news; for ever where nothing can change it any more.
async fn changed<T>(news: &mut watch::Receiver<T>) {
    if news.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests;
