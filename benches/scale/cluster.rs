//! Claims on a real API server: by bare requests, by Berth, beside so many agents' watches; and what an agent receives.

use std::sync::Arc;
use std::time::{Duration, Instant};

use berth::inventory::crd::{LocalVolumeStatus, Object};
use berth::inventory::kubernetes::{Kubernetes, Scope};
use berth::inventory::{Event, Inventory, Recorded};
use berth::volume::{LocalVolume, NodeName, PersistentVolumeClaim};
use futures_util::{StreamExt, future::join_all, stream};
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;

use super::controller::Controller;
use super::population::{NAMESPACE, Population, lease, node};
use super::proxy::Counted;
use super::server::Server;
use crate::report::Report;
use crate::samples::{HEADS, Samples, shown};

/// Volumes on the API server.
const VOLUMES: usize = 20_000;
/// Volumes when an agent's start is measured the first time.
const FEW: usize = 1_000;
/// Requests at once.
const LANES: usize = 32;
/// Callers at once.
const CALLERS: [usize; 3] = [1, 8, 32];
/// Agents that watch. Where there are more than nodes, the others are of nodes that have no volume.
const AGENTS: [usize; 3] = [0, 1_000, 5_000];
/// Claims of each kind.
const CLAIMS: usize = 640;

/// What a row needs to know before and after.
struct Meter<'a> {
    server: &'a Server,
    begun: Instant,
    before: (Duration, Duration),
}

impl<'a> Meter<'a> {
    fn start(server: &'a Server) -> Self {
        let (etcd, api, _) = server.usage();
        Self { server, begun: Instant::now(), before: (etcd, api) }
    }

    /// A rate, and the processor time of etcd and of the API server for each of `count`.
    fn each(&self, count: usize) -> (f64, Duration, Duration) {
        let took = self.begun.elapsed();
        let (etcd, api, _) = self.server.usage();
        let each = |now: Duration, before: Duration| {
            now.saturating_sub(before) / u32::try_from(count).unwrap()
        };
        (count as f64 / took.as_secs_f64(), each(etcd, self.before.0), each(api, self.before.1))
    }
}

pub async fn run(report: &mut Report) {
    let volumes = std::env::var("BERTH_SCALE_VOLUMES");
    let volumes = volumes.map_or(VOLUMES, |number| number.parse().unwrap());
    let population = Population { volumes, half_claimed: false };
    let server = Server::start().await;
    let client = kube::Client::try_from(Server::config(server.port)).unwrap();

    fill(&client, population, 0..FEW).await;
    let few = agent(&server, &population, 0).await.1;
    let meter = Meter::start(&server);
    fill(&client, population, FEW..volumes).await;
    let (rate, ..) = meter.each(volumes - FEW);
    let (own, all) = agent(&server, &population, 0).await;
    report.say(format!(
        "{volumes} volumes on {} nodes, on a kube-apiserver and an etcd of this machine that waits for its disk; they were made \
         at {rate:.0} a second, with two writes each.",
        population.nodes()
    ));
    told(report, &server, &population, (few, all), own).await;
    claims(report, &server, &client, population).await;
}

/// Makes volumes as agents do: the object, then its status.
async fn fill(client: &kube::Client, population: Population, numbers: std::ops::Range<usize>) {
    let objects: &kube::Api<Object> = &kube::Api::all(client.clone());
    stream::iter(numbers)
        .for_each_concurrent(LANES, |number| async move {
            let volume = population.volume(number);
            objects.create(&PostParams::default(), &Object::incomplete(&volume)).await.unwrap();
            let patch = Patch::Merge(json!({"status": LocalVolumeStatus::from(&volume)}));
            let name = volume.name.as_str();
            objects.patch_status(name, &PatchParams::default(), &patch).await.unwrap();
        })
        .await;
}

/// How many bytes the agent of a node receives until it knows its volumes, and its store on that way.
async fn agent(
    server: &Server,
    population: &Population,
    number: usize,
) -> ((Kubernetes, Counted), u64) {
    let way = Counted::to(server.port).await;
    let store = open(way.port, number);
    let known = population.volumes.min(super::population::ON_A_NODE);
    assert_eq!(store.list().await.unwrap().len(), known);
    until_watching(&way).await;
    let bytes = way.bytes();
    ((store, way), bytes)
}

/// Waits until nothing has come for a second.
async fn until_watching(way: &Counted) {
    let mut before = 0;
    while before != way.bytes() {
        before = way.bytes();
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

fn open(port: u16, number: usize) -> Kubernetes {
    let node: NodeName = node(number).parse().unwrap();
    Kubernetes::open(Server::config(port), NAMESPACE, Scope::Node(node)).unwrap()
}

/// What an agent receives: at its start, for a claim of its node, for claims of others.
async fn told(
    report: &mut Report,
    server: &Server,
    population: &Population,
    (few, all): (u64, u64),
    (own, way): (Kubernetes, Counted),
) {
    let (here, elsewhere) = (population.volume(0), population.volume(population.volumes - 1));
    let everywhere = Kubernetes::open(Server::config(server.port), NAMESPACE, Scope::All).unwrap();
    everywhere.list().await.unwrap();
    let before = way.bytes();
    for _ in 0..20 {
        cordon(&everywhere, &elsewhere).await;
    }
    let of_others = way.bytes() - before;
    let mut events = own.watch();
    assert!(matches!(events.next().await, Some(Event::Reset(_))));
    let before = way.bytes();
    claim(&everywhere, &here, "pvc-here").await;
    assert!(matches!(events.next().await, Some(Event::Applied(_))));
    let of_own = way.bytes() - before;
    report.table(&["an agent with 20 volumes receives", "bytes:"]);
    report.row(&[&format!("at its start, {FEW} volumes in the cluster"), &few]);
    report.row(&[&format!("at its start, {} volumes in the cluster", population.volumes), &all]);
    report.row(&[&"for a claim of a volume of its node", &of_own]);
    report.row(&[&"for 20 changes of volumes of other nodes", &of_others]);
    report.end();
}

async fn cordon(store: &Kubernetes, volume: &LocalVolume) {
    let change = |now: &LocalVolume| -> Result<_, berth::inventory::Error> {
        Ok(berth::volume::Spec { cordoned: !now.spec.cordoned, ..now.spec.clone() })
    };
    store.modify_spec(&volume.name, change).await.unwrap();
}

async fn claim(store: &Kubernetes, volume: &LocalVolume, name: &str) -> Recorded {
    let change =
        |now: &LocalVolume| -> Result<_, berth::inventory::Error> { Ok(claimed(now, name).spec) };
    store.modify_spec(&volume.name, change).await.unwrap()
}

/// A volume once the claim called `name` holds it.
fn claimed(volume: &LocalVolume, name: &str) -> LocalVolume {
    let claim = berth::volume::Claim {
        name: name.parse().unwrap(),
        pvc: None::<PersistentVolumeClaim>,
        range: berth::volume::CapacityRange::default(),
        at: jiff::Timestamp::UNIX_EPOCH,
    };
    let method = berth::volume::CleanMethod::Delete;
    let policy = berth::volume::CleanPolicy { method, verify: false };
    LocalVolume { spec: volume.claimed(claim, policy).unwrap(), ..volume.clone() }
}

async fn claims(
    report: &mut Report,
    server: &Server,
    client: &kube::Client,
    population: Population,
) {
    let controller = Controller::start(&server.kubeconfig(), &["--node-grace", "24h"]).await;
    controller.until_idle().await;
    let memory = controller.memory();
    report.say(format!(
        "`berth controller` was ready after {} there and had {} MiB resident ({} of its own), the API server {} MiB.",
        shown(controller.started),
        memory.resident >> 10,
        memory.own >> 10,
        server.usage().2 >> 10
    ));
    let mut heads = vec!["agents:", "callers:", "what", "a second:"];
    heads.extend(HEADS);
    heads.extend(["etcd, each:", "API server, each:", "controller, each:", "API server, MiB:"]);
    report.table(&heads);
    let mut stores = Vec::new();
    let mut comparison = Comparison { server, client, controller, population, rounds: 0 };
    for agents in AGENTS {
        while stores.len() < agents {
            let begun = stores.len();
            stores.extend((begun..agents.min(begun + LANES)).map(|node| open(server.port, node)));
            join_all(stores[begun..].iter().map(Inventory::list)).await;
        }
        for callers in CALLERS {
            comparison.round(report, agents, callers).await;
        }
    }
    report.end();
}

/// Claims by bare requests and by Berth, in turn.
struct Comparison<'a> {
    server: &'a Server,
    client: &'a kube::Client,
    controller: Controller,
    population: Population,
    rounds: usize,
}

impl Comparison<'_> {
    async fn round(&mut self, report: &mut Report, agents: usize, callers: usize) {
        let volumes = self.population.volumes;
        // Claims take from the lower half of the volumes, bare requests from the upper one.
        let most = CLAIMS.min(volumes / 25);
        let (few, first) = (most.min(callers * 80), self.rounds * most);
        let last = volumes - 1 - first;
        let meter = Meter::start(self.server);
        let samples = bare(self.client, self.population, callers, last - few..last).await;
        let what = "bare: a Lease and a patch";
        let mut row = |what: &str, meter: &Meter<'_>, samples: &Samples, own: &str| {
            let (rate, etcd, api) = meter.each(samples.count());
            let [rate, etcd, api] = [format!("{rate:.0}"), shown(etcd), shown(api)];
            let resident = self.server.usage().2 >> 10;
            report.row(&[&agents, &callers, &what, &rate, samples, &etcd, &api, &own, &resident]);
        };
        row(what, &meter, &samples, "");

        let (meter, before) = (Meter::start(self.server), self.controller.processor_time());
        let nodes = self.population.nodes() / 2;
        let (samples, _) = self.controller.creates(first, callers, few / callers, nodes).await;
        let used = self.controller.processor_time().saturating_sub(before);
        let own = used / u32::try_from(samples.count()).unwrap();
        row("`CreateVolume`", &meter, &samples, &shown(own));
        self.rounds += 1;
    }
}

/// The two writes of a claim and nothing else, on the volumes of these numbers.
async fn bare(
    client: &kube::Client,
    population: Population,
    callers: usize,
    numbers: std::ops::Range<usize>,
) -> Samples {
    let objects: kube::Api<Object> = kube::Api::all(client.clone());
    let leases: kube::Api<Lease> = kube::Api::namespaced(client.clone(), NAMESPACE);
    let both = Arc::new((objects, leases));
    let writes = stream::iter(numbers).map(|number| {
        let both = Arc::clone(&both);
        async move {
            let volume = claimed(&population.volume(number), &format!("pvc-bare-{number}"));
            let mut reservation = lease(&volume);
            reservation["metadata"].as_object_mut().unwrap().remove("managedFields");
            let reservation = serde_json::from_value(reservation).unwrap();
            let patch = json!({
                "metadata": {"finalizers": ["berth.dev/claimed"]},
                "spec": {
                    "claim": volume.spec.claim, "clean": volume.spec.clean,
                    "tenancy": volume.spec.tenancy,
                },
            });
            let begun = Instant::now();
            both.1.create(&PostParams::default(), &reservation).await.unwrap();
            let name = volume.name.as_str();
            both.0.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
            begun.elapsed()
        }
    });
    let mut samples = Samples::default();
    let mut writes = std::pin::pin!(writes.buffer_unordered(callers));
    while let Some(took) = writes.next().await {
        samples.add(took);
    }
    samples
}
