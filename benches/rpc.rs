//! A volume's calls over the socket, with real mounts: by one caller and by eight, on nodes with few and with many mounts.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use berth::csi::proto::csi_v1 as csi;
use csi::controller_client::ControllerClient;
use csi::identity_client::IdentityClient;
use csi::node_client::NodeClient;
use futures_util::future::join_all;
use tonic::transport::Channel;

use crate::plot::{Bars, Lines};
use crate::raw;
use crate::report::Report;
use crate::samples::{HEADS, Samples, shown};
use crate::site::{self, Site};
use crate::support::{Berth, Host, requests};

/// How many mounts a node has.
const MOUNTS: [usize; 3] = [10, 1000, 5000];
const CALLERS: [usize; 2] = [1, 8];
/// Lives of a volume for each caller.
const LIVES: usize = 60;
/// For how long eight callers publish and unpublish as fast as they can.
const LOAD: Duration = Duration::from_secs(3);

/// Calls by their names.
type Table = BTreeMap<&'static str, Samples>;

/// What was measured with so many mounts, by one caller.
struct Node {
    mounts: usize,
    calls: Table,
    bare: Table,
}

pub fn run(report: &mut Report) {
    let mut heads = vec!["mounts:", "callers:", "call"];
    heads.extend(HEADS);
    heads.extend(["of the bare calls:", "beyond an empty call:"]);
    report.table(&heads);
    let mut nodes = Vec::new();
    let mut rates = Vec::new();
    for mounts in MOUNTS {
        // A namespace of its own for each, which a thread cannot leave.
        std::thread::scope(|scope| {
            let all = scope.spawn(|| with_mounts(mounts, report)).join().unwrap();
            nodes.push(all.0);
            rates.push((mounts, all.1));
        });
    }
    report.end();
    report.say(
        "*Empty* is `Probe`: what gRPC over the socket costs by itself. *Beyond an empty call* is the rest, in multiples of the bare calls.",
    );
    report.table(&[
        "mounts:",
        "publishes a second, eight callers:",
        "of one publish the median:",
        "p99:",
    ]);
    for (mounts, samples) in rates {
        let rate = samples.count() as f64 / LOAD.as_secs_f64();
        let [median, late] = [50, 99].map(|percent| shown(samples.percentile(percent)));
        report.row(&[&mounts, &format!("{rate:.0}"), &median, &late]);
    }
    report.end();
    plot(report, &nodes);
}

/// Medians of csi-driver-host-path with one caller, in milliseconds, on a machine like the first one that these were measured
/// on.
const HOST_PATH: [(&str, f64); 5] =
    [("create", 0.77), ("stage", 0.79), ("publish", 9.4), ("stats", 5.6), ("unpublish", 13.4)];

fn plot(report: &mut Report, nodes: &[Node]) {
    report.bars(&Bars {
        name: "peer",
        title: "Median of a call, beside csi-driver-host-path (quoted, not run here)",
        unit: "ms",
        series: &["Berth", "csi-driver-host-path"],
        groups: HOST_PATH
            .iter()
            .map(|(name, peer)| {
                let own = nodes.first().map(|node| node.calls[name].milliseconds());
                ((*name).to_owned(), vec![own, Some(*peer)])
            })
            .collect(),
    });
    let line = |name: &str, of: &dyn Fn(&Node) -> f64| {
        (name.to_owned(), nodes.iter().map(|node| (node.mounts as f64, of(node))).collect())
    };
    let call = |name: &'static str| move |node: &Node| node.calls[name].milliseconds();
    let bare = |name: &'static str| move |node: &Node| node.bare[name].milliseconds();
    report.lines(&Lines {
        name: "calls",
        title: "Median of a call, by the mounts of the node (one caller)",
        x: "mounts",
        y: "ms",
        series: vec![
            line("stage", &call("stage")),
            line("publish", &call("publish")),
            line("unpublish", &call("unpublish")),
            line("stats", &call("stats")),
            line("an empty call", &call("empty")),
            line("bare bind mount", &bare("publish")),
        ],
    });
}

fn with_mounts(mounts: usize, report: &mut Report) -> (Node, Samples) {
    let site = Site::new();
    let volumes = CALLERS[1] * 2;
    let names = site.volumes(volumes);
    site.mounts(mounts);
    let source = site.host.pool("fast").join(&names[0]);
    let (bind, unmount) = raw::bind_and_unmount(&source, &site.host.path("kubelet/raw"));
    let (statfs, durable) = (raw::statfs(&source), raw::durable_write(site.state.path()));
    let commit = raw::store_commit(site.state.path());
    for (what, samples) in [
        ("bind", &bind),
        ("unmount", &unmount),
        ("statfs", &statfs),
        ("durable write of 4 KiB", &durable),
        ("commit of the store", &commit),
    ] {
        report.row(&[&mounts, &1, &format!("bare {what}"), samples, &1, &""]);
    }
    let bare = Table::from([
        ("create", commit.clone()),
        ("publish", bind),
        ("stats", statfs),
        ("unpublish", unmount),
        ("delete", commit),
    ]);
    let berth = site.start(volumes);
    let mut first = None;
    for callers in CALLERS {
        let table = lives(&site, &berth, callers);
        for (call, samples) in &table {
            let [ratio, rest] = ratios(samples, bare.get(call), &table["empty"]);
            report.row(&[&mounts, &callers, call, samples, &ratio, &rest]);
        }
        first.get_or_insert(table);
    }
    let calls = first.unwrap();
    (Node { mounts, calls, bare }, load(&site, &berth))
}

/// How many times as long as `bare`, whole and without what an `empty` call takes.
fn ratios(samples: &Samples, bare: Option<&Samples>, empty: &Samples) -> [String; 2] {
    let Some(bare) = bare else { return Default::default() };
    let rest = samples.milliseconds() - empty.milliseconds();
    [samples.ratio(bare), rest / bare.milliseconds()].map(|ratio| format!("{ratio:.1}"))
}

/// Whole lives of volumes, by so many callers side by side.
fn lives(site: &Site, berth: &Berth, callers: usize) -> Table {
    let (channel, runtime) = berth.connection();
    let mut table = Table::new();
    for round in 0..LIVES {
        let all = (0..callers).map(|caller| {
            let name = format!("pvc-{callers}-{round}-{caller}");
            life(channel.clone(), &site.host, name)
        });
        for one in runtime.block_on(join_all(all)) {
            for (call, took) in one {
                table.entry(call).or_default().add(took);
            }
        }
        site::wait_offered(berth, CALLERS[1] * 2);
    }
    table
}

async fn life(channel: Channel, host: &Host, name: String) -> Vec<(&'static str, Duration)> {
    let mut took = Vec::new();
    let mut controller = ControllerClient::new(channel.clone());
    let mut node = NodeClient::new(channel.clone());
    macro_rules! timed {
        ($call:literal, $future:expr) => {{
            let begun = Instant::now();
            let answer = $future.await.unwrap().into_inner();
            took.push(($call, begun.elapsed()));
            answer
        }};
    }
    let mut identity = IdentityClient::new(channel.clone());
    timed!("empty", identity.probe(csi::ProbeRequest {}));
    let request = requests::create(&name, "fast", 1);
    let created = timed!("create", controller.create_volume(request));
    let volume_id = created.volume.unwrap().volume_id;
    let staging = requests::staging_path(host, &volume_id);
    let target = requests::target_path(host, &volume_id);
    fs::create_dir_all(&staging).unwrap();
    timed!("stage", node.node_stage_volume(requests::stage(&volume_id, &staging)));
    let publish = requests::publish(&volume_id, &staging, &target);
    timed!("publish", node.node_publish_volume(publish));
    let stats = csi::NodeGetVolumeStatsRequest {
        volume_id: volume_id.clone(),
        volume_path: requests::text(&target),
        ..Default::default()
    };
    timed!("stats", node.node_get_volume_stats(stats));
    timed!("unpublish", node.node_unpublish_volume(requests::unpublish(&volume_id, &target)));
    timed!("unstage", node.node_unstage_volume(requests::unstage(&volume_id, &staging)));
    let request = csi::DeleteVolumeRequest { volume_id, ..Default::default() };
    timed!("delete", controller.delete_volume(request));
    took
}

/// Eight callers that publish and unpublish for [`LOAD`]: how long each publish took.
fn load(site: &Site, berth: &Berth) -> Samples {
    let (channel, runtime) = berth.connection();
    let ids: Vec<_> = (0..CALLERS[1])
        .map(|caller| {
            let id = berth.create(&format!("pvc-load-{caller}"), "fast", 1).unwrap().volume_id;
            berth.publish(&site.host, &id).unwrap();
            id
        })
        .collect();
    let begun = Instant::now();
    let all = ids.iter().map(|id| {
        let mut node = NodeClient::new(channel.clone());
        let (staging, target) =
            (requests::staging_path(&site.host, id), requests::target_path(&site.host, id));
        async move {
            let mut samples = Samples::default();
            while begun.elapsed() < LOAD {
                node.node_unpublish_volume(requests::unpublish(id, &target)).await.unwrap();
                let publish = requests::publish(id, &staging, &target);
                let called = Instant::now();
                node.node_publish_volume(publish).await.unwrap();
                samples.add(called.elapsed());
            }
            samples
        }
    });
    let mut samples = Samples::default();
    for one in runtime.block_on(join_all(all)) {
        samples.extend(one);
    }
    samples
}
