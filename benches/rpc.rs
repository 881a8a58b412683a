//! A volume's calls over the socket, with real mounts: by one caller and by eight, on nodes with few and with many mounts.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use berth::csi::proto::csi_v1 as csi;
use csi::controller_client::ControllerClient;
use csi::node_client::NodeClient;
use futures_util::future::join_all;
use tonic::transport::Channel;

use crate::raw;
use crate::samples::{HEADS, Samples};
use crate::site::{self, Site};
use crate::support::{Berth, Host, requests};

/// How many mounts a node has.
const MOUNTS: [usize; 3] = [10, 1000, 5000];
const CALLERS: [usize; 2] = [1, 8];
/// Lives of a volume for each caller.
const LIVES: usize = 60;
/// For how long eight callers publish and unpublish as fast as they can.
const LOAD: Duration = Duration::from_secs(3);

type Table = BTreeMap<&'static str, Samples>;

pub fn run() {
    println!("## Calls\n");
    println!("| mounts | callers | call | {HEADS} | of the bare calls |");
    println!("| ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: |");
    for mounts in MOUNTS {
        // A namespace of its own for each, which a thread cannot leave.
        std::thread::spawn(move || with_mounts(mounts)).join().unwrap();
    }
    println!();
}

fn with_mounts(mounts: usize) {
    let site = Site::new();
    let volumes = CALLERS[1] * 2;
    let names = site.volumes(volumes);
    site.mounts(mounts);
    let source = site.host.pool("fast").join(&names[0]);
    let (bind, unmount) = raw::bind_and_unmount(&source, &site.host.path("kubelet/raw"));
    let (statfs, durable) = (raw::statfs(&source), raw::durable_write(site.state.path()));
    let bare = BTreeMap::from([
        ("create", &durable),
        ("publish", &bind),
        ("stats", &statfs),
        ("unpublish", &unmount),
        ("delete", &durable),
    ]);
    for (what, samples) in
        [("bind", &bind), ("unmount", &unmount), ("statfs", &statfs), ("durable write", &durable)]
    {
        println!("| {mounts} | 1 | bare {what} | {samples} | 1 |");
    }
    let berth = site.start(volumes);
    for callers in CALLERS {
        for (call, samples) in lives(&site, &berth, callers) {
            let ratio = bare.get(call).map(|raw| format!("{:.1}", samples.ratio(raw)));
            let ratio = ratio.unwrap_or_default();
            println!("| {mounts} | {callers} | {call} | {samples} | {ratio} |");
        }
    }
    let samples = load(&site, &berth);
    let rate = samples.count() / usize::try_from(LOAD.as_secs()).unwrap();
    println!("| {mounts} | 8 | publish under load: {rate}/s | {samples} | |");
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
    let mut node = NodeClient::new(channel);
    macro_rules! timed {
        ($call:literal, $future:expr) => {{
            let begun = Instant::now();
            let answer = $future.await.unwrap().into_inner();
            took.push(($call, begun.elapsed()));
            answer
        }};
    }
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
