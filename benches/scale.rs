//! A whole cluster's volumes: what the controller needs for them, and how many claims a real API server takes.
//!
//! The controller's own share is measured against a stand-in for the API server, which answers at once, with 1,000 to
//! 100,000 volumes of which half are claimed. Where `BERTH_CLUSTER_BIN` names a directory with etcd and kube-apiserver,
//! 20,000 volumes are put on a real one; `BERTH_SCALE_VOLUMES` makes that another number, and `BERTH_SCALE_UP_TO` the
//! most on the stand-in.

mod cluster;
mod controller;
mod population;
mod proxy;
mod server;
mod stand_in;

use std::time::{Duration, Instant};

use self::controller::{Controller, kubeconfig};
use self::population::{NAMESPACE, POOLS, Population};
use self::stand_in::StandIn;
use crate::plot::Lines;
use crate::report::Report;
use crate::samples::{HEADS, Samples, shown};
use crate::usage::Memory;

const VOLUMES: [usize; 3] = [1_000, 10_000, 100_000];

/// What one size of a cluster came to.
struct Size {
    volumes: usize,
    started: Duration,
    /// Processor time until there was nothing left to do.
    busy: Duration,
    memory: Memory,
    /// The same after all calls.
    afterwards: Memory,
    create: f64,
}

pub fn run(report: &mut Report) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let most = std::env::var("BERTH_SCALE_UP_TO").map_or(usize::MAX, |most| most.parse().unwrap());
    report.say(
        "`berth controller` in a process of its own, against a stand-in for the API server that answers at once: 20 volumes \
         on each node, in four pools with a StorageClass each, half of them claimed, with their Leases, Nodes and \
         CSIStorageCapacity objects. Memory is what is resident.",
    );
    let mut heads = vec!["volumes:", "what"];
    heads.extend(HEADS);
    heads.extend(["a second:", "processor time, each:"]);
    report.table(&heads);
    let volumes = VOLUMES.iter().filter(|volumes| **volumes <= most);
    let sizes: Vec<_> =
        volumes.map(|volumes| runtime.block_on(with_volumes(report, *volumes))).collect();
    report.end();
    memory(report, &sizes);
    if !sizes.is_empty() {
        plot(report, &sizes);
    }
    if std::env::var_os(server::BINARIES).is_some() {
        runtime.block_on(cluster::run(report));
    } else {
        report.say(format!("A real API server was not there: `{}` was not set.", server::BINARIES));
    }
}

/// What a row needs to know of the row before.
struct Meter<'a> {
    controller: &'a Controller,
    used: Duration,
    begun: Instant,
}

impl Meter<'_> {
    /// The rate of `count` calls since the row before, and the controller's processor time for each.
    fn each(&mut self, count: usize) -> (f64, Duration) {
        let rate = count as f64 / self.begun.elapsed().as_secs_f64();
        let used = self.controller.processor_time();
        let each = used.saturating_sub(self.used) / u32::try_from(count).unwrap();
        (self.used, self.begun) = (used, Instant::now());
        (rate, each)
    }
}

async fn with_volumes(report: &mut Report, volumes: usize) -> Size {
    let population = Population { volumes, half_claimed: true };
    let nodes = population.nodes();
    let api = fill(population);
    let port = api.serve().await;
    let controller =
        Controller::start(&kubeconfig(&format!("http://127.0.0.1:{port}"), "x"), &[]).await;
    let started = controller.started;
    controller.until_idle().await;
    let (memory, busy) = (controller.memory(), controller.processor_time());
    let mut meter = Meter { controller: &controller, used: busy, begun: Instant::now() };
    let mut row = |what: &str, samples: &Samples| {
        let (rate, each) = meter.each(samples.count());
        report.row(&[&volumes, &what, samples, &format!("{rate:.0}"), &shown(each)]);
    };
    let what = format!("GetCapacity, {nodes} nodes × {} classes", POOLS.len());
    row(&what, &controller.capacities(nodes).await);
    let (one, ids) = controller.creates(0, 1, 200, nodes).await;
    row("CreateVolume, one caller", &one);
    row("DeleteVolume, one caller", &controller.deletes(&ids).await);
    let each = (nodes * POOLS.len()).min(800) / 8;
    row("CreateVolume, eight callers", &controller.creates(200, 8, each, nodes).await.0);
    row("CreateVolume that nothing fits", &controller.refused(50).await);
    controller.until_idle().await;
    let (afterwards, create) = (controller.memory(), one.milliseconds());
    Size { volumes, started, busy, memory, afterwards, create }
}

fn memory(report: &mut Report, sizes: &[Size]) {
    report.table(&[
        "volumes:",
        "start → ready:",
        "processor time until idle:",
        "resident, MiB:",
        "of its own:",
        "at most:",
        "after the calls:",
    ]);
    for size in sizes {
        let Memory { own, resident, most } = size.memory;
        let mebibytes = [resident, own, most, size.afterwards.resident].map(|kib| kib >> 10);
        let [resident, own, most, afterwards] = mebibytes;
        let (started, busy) = (shown(size.started), shown(size.busy));
        report.row(&[&size.volumes, &started, &busy, &resident, &own, &most, &afterwards]);
    }
    report.end();
}

fn plot(report: &mut Report, sizes: &[Size]) {
    let line =
        |of: fn(&Size) -> f64| sizes.iter().map(|size| (size.volumes as f64, of(size))).collect();
    report.lines(&Lines {
        name: "scale-memory",
        title: "Resident memory of the controller",
        x: "volumes in the cluster",
        y: "MiB",
        series: vec![(
            "berth controller".into(),
            line(|size| size.memory.resident as f64 / 1024.0),
        )],
    });
    report.lines(&Lines {
        name: "scale-create",
        title: "CreateVolume, one caller, the API server answering at once",
        x: "volumes in the cluster",
        y: "ms",
        series: vec![("median".into(), line(|size| size.create))],
    });
}

/// An API server with everything that the controller reads.
fn fill(population: Population) -> StandIn {
    let api = StandIn::new();
    let volumes = "/apis/berth.dev/v1alpha1/localvolumes";
    let leases = format!("/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases");
    let capacities = format!("/apis/storage.k8s.io/v1/namespaces/{NAMESPACE}/csistoragecapacities");
    api.open(&leases);
    for number in 0..population.volumes {
        api.put(volumes, population::object(&population.volume(number), number));
    }
    for held in population.claimed() {
        let mut lease = population::lease(&held);
        lease["metadata"]["uid"] = population::uid("lease", 0).into();
        api.put(&leases, lease);
    }
    for number in 0..population.nodes() {
        api.put("/api/v1/nodes", population::node_metadata(number));
        for pool in POOLS {
            api.put(&capacities, population::capacity(number, pool));
        }
    }
    for pool in POOLS {
        api.put("/apis/storage.k8s.io/v1/storageclasses", population::storage_class(pool));
    }
    api
}
