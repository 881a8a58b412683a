//! On a real Kubernetes of two nodes: what a claim costs from its creation to a pod that runs, and which part of it is
//! Berth's; what it takes until a volume is offered again, and until one that was mounted is offered; a first start with
//! a thousand volumes; and what the processes keep in memory.
//!
//! `make bench PARTS=cluster` boots the cluster, with the image of `make image`, and ends it: a quarter of an hour on two
//! busy cores. One that runs already, which `BERTH_CLUSTER_STATE` names, is used and left with Berth in it; there must be no
//! volumes in it. What a run that was interrupted leaves, `tests/cluster/down --cluster bench` takes away.
//!
//! All is of one machine, and so of one clock: one process notes when it was told by the API server, and the logs of
//! Berth and containerd say when a call began and ended.

mod claim;
mod comes;
mod etcd;
mod first;
mod harness;
mod logs;
mod memory;
mod node;
mod watch;

use crate::report::Report;
use harness::Cluster;
use watch::Observer;

/// Volumes of a first start.
const MANY: usize = 1000;

pub fn run(report: &mut Report) {
    // Before anything else: it may take the cluster down at the end.
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let cluster = Cluster::running().await;
        let mut observer = Observer::of(&cluster.client).await;
        report.say("One claim, step by step, and whose the time is: [costs](costs.md).");
        let mut costs = Report::new("costs");
        claim::run(&cluster, &mut observer, &mut costs, report).await;
        costs.write();
        comes::run(&cluster, &mut observer, report).await;
        let few = memory::of(&cluster);
        let many = first::run(&cluster, &mut observer, report).await;
        memory::compare(report, &few, &many);
    });
}
