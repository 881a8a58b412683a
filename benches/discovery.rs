//! From a mount's coming or going to what the inventory says of it, on a node with few volumes and with a thousand; and a
//! first start with a thousand.

use std::time::{Duration, Instant};

use berth::csi::proto::csi_v1 as csi;

use crate::report::Report;
use crate::samples::{HEADS, Samples, once, shown};
use crate::site::{self, Site};
use crate::support::{Berth, MIB, requests};

const VOLUMES: [usize; 2] = [10, 1000];
const TIMES: usize = 40;
/// How long an agent that has nothing to do is watched.
const IDLE: Duration = Duration::from_mins(1);

pub fn run(report: &mut Report) {
    let mut heads = vec!["volumes:", "what"];
    heads.extend(HEADS);
    report.table(&heads);
    for volumes in VOLUMES {
        std::thread::scope(|scope| {
            scope.spawn(|| with_volumes(volumes, report)).join().unwrap();
        });
    }
    report.end();
}

fn with_volumes(volumes: usize, report: &mut Report) {
    let site = Site::new();
    site.volumes(volumes);
    let begun = Instant::now();
    let berth = Berth::start(&site.host, &site.config());
    site::wait_offered(&berth, volumes);
    let first = begun.elapsed();

    let (mut comes, mut goes) = (Samples::default(), Samples::default());
    let path = site.host.directory("probe", "new");
    for _ in 0..TIMES {
        let begun = Instant::now();
        site.host.tmpfs("probe", "new", MIB);
        comes.add(until_offered(&berth, begun, true));
        let begun = Instant::now();
        rustix::mount::unmount(&path, rustix::mount::UnmountFlags::NOFOLLOW).unwrap();
        goes.add(until_offered(&berth, begun, false));
    }
    report.row(&[&volumes, &"a mount appears → offered", &comes]);
    report.row(&[&volumes, &"a mount goes → no longer offered", &goes]);
    report.row(&[&volumes, &"first start → all offered", &once(first)]);
    let before = site::processor_time(&berth);
    // A figure over a minute is what is asked for here.
    std::thread::park_timeout(IDLE);
    let used = site::processor_time(&berth).saturating_sub(before);
    let (own, resident) = site::memory(&berth);
    let idle = format!("{} of a processor in an idle minute", shown(used));
    let idle = format!("{idle}; {own} KiB of its own, {resident} KiB resident");
    report.row(&[&volumes, &idle, &" |  |  | 1"]);
}

/// How long it took until the pool `probe` had something to give, or else nothing.
pub fn until_offered(berth: &Berth, begun: Instant, offered: bool) -> Duration {
    let request = csi::GetCapacityRequest {
        volume_capabilities: vec![requests::mounted()],
        parameters: [("pool".into(), "probe".into())].into(),
        ..Default::default()
    };
    loop {
        let request = request.clone();
        let answer = berth.controller(async |client| client.get_capacity(request).await).unwrap();
        if (answer.available_capacity > 0) == offered {
            return begun.elapsed();
        }
    }
}
