//! `berth controller`, the real binary in a process of its own, and calls of its socket.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use berth::csi::proto::csi_v1 as csi;
use csi::controller_client::ControllerClient;
use csi::identity_client::IdentityClient;
use futures_util::future::join_all;
use tempfile::TempDir;
use tonic::transport::Channel;

use super::population::{NAMESPACE, POOLS, node};
use crate::samples::Samples;
use crate::support::requests;
use crate::usage::{self, Memory};

/// How long a start may take.
const PATIENCE: Duration = Duration::from_mins(10);

/// A controller that runs. Dropping it kills the process.
pub struct Controller {
    child: Child,
    directory: TempDir,
    channel: Channel,
    /// How long it took until it said that it is ready.
    pub started: Duration,
}

impl Controller {
    /// Starts one that finds its API server by `kubeconfig`, and waits until it is ready.
    pub async fn start(kubeconfig: &str, arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let pools =
            POOLS.map(|pool| format!("{pool}: {{path: /mnt/{pool}, clean: {{method: delete}}}}"));
        fs::write(path("pools.yaml"), format!("pools: {{{}}}", pools.join(", "))).unwrap();
        fs::write(path("kubeconfig"), kubeconfig).unwrap();
        let endpoint = format!("unix://{}", path("csi.sock").display());
        let log = fs::File::create(path("log")).unwrap();
        let begun = Instant::now();
        let child =
            Command::new(std::env::var("BERTH_BIN").unwrap_or(env!("CARGO_BIN_EXE_berth").into()))
                .args(["controller", "--namespace", NAMESPACE, "--endpoint", &endpoint, "--config"])
                .arg(path("pools.yaml"))
                .args(arguments)
                .env("KUBECONFIG", path("kubeconfig"))
                .stdin(Stdio::null())
                .stdout(log.try_clone().unwrap())
                .stderr(log)
                .spawn()
                .unwrap();
        let channel = berth::cli::client::connect(&endpoint.parse().unwrap()).unwrap();
        let mut controller = Self { child, directory, channel, started: Duration::ZERO };
        controller.wait_ready(begun).await;
        controller.started = begun.elapsed();
        controller
    }

    async fn wait_ready(&mut self, begun: Instant) {
        let mut identity = IdentityClient::new(self.channel.clone());
        loop {
            let answer = identity.probe(csi::ProbeRequest {}).await;
            if answer.is_ok_and(|answer| answer.into_inner().ready == Some(true)) {
                return;
            }
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none() && begun.elapsed() < PATIENCE, "not ready:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    pub fn memory(&self) -> Memory {
        usage::memory(self.child.id())
    }

    pub fn processor_time(&self) -> Duration {
        usage::processor_time(self.child.id())
    }

    /// Waits until it has nothing to do, as far as its use of the processors tells.
    pub async fn until_idle(&self) {
        let mut before = self.processor_time();
        loop {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let now = self.processor_time();
            if now.saturating_sub(before) < Duration::from_millis(10) {
                return;
            }
            before = now;
        }
    }

    /// So many `CreateVolume` calls for each of `callers` side by side, each node and class in turn, beginning with the
    /// `first`; the volumes' ids too.
    pub async fn creates(
        &self,
        first: usize,
        callers: usize,
        calls: usize,
        nodes: usize,
    ) -> (Samples, Vec<String>) {
        let all = (0..callers).map(|caller| async move {
            let mut client = ControllerClient::new(self.channel.clone());
            let (mut samples, mut ids) = (Samples::default(), Vec::new());
            for call in 0..calls {
                let number = first + caller * calls + call;
                let mut request = requests::create(
                    &format!("pvc-new-{number}"),
                    POOLS[number % POOLS.len()],
                    50 << 30,
                );
                // Each node and class in turn, so that all find something.
                request.accessibility_requirements = Some(topology(number / POOLS.len() % nodes));
                let begun = Instant::now();
                let answer = client.create_volume(request).await.unwrap();
                samples.add(begun.elapsed());
                ids.push(answer.into_inner().volume.unwrap().volume_id);
            }
            (samples, ids)
        });
        let (mut samples, mut ids) = (Samples::default(), Vec::new());
        for (one, of_one) in join_all(all).await {
            samples.extend(one);
            ids.extend(of_one);
        }
        (samples, ids)
    }

    /// So many calls that no volume is large enough for.
    pub async fn refused(&self, calls: usize) -> Samples {
        let mut client = ControllerClient::new(self.channel.clone());
        let mut samples = Samples::default();
        for number in 0..calls {
            let request = requests::create(&format!("pvc-vain-{number}"), POOLS[0], 1 << 50);
            let begun = Instant::now();
            let refused = client.create_volume(request).await.unwrap_err();
            samples.add(begun.elapsed());
            assert_eq!(refused.code(), tonic::Code::ResourceExhausted, "{refused}");
        }
        samples
    }

    pub async fn deletes(&self, ids: &[String]) -> Samples {
        let mut client = ControllerClient::new(self.channel.clone());
        let mut samples = Samples::default();
        for volume_id in ids {
            let request =
                csi::DeleteVolumeRequest { volume_id: volume_id.clone(), ..Default::default() };
            let begun = Instant::now();
            client.delete_volume(request).await.unwrap();
            samples.add(begun.elapsed());
        }
        samples
    }

    /// `GetCapacity` once for each node and class, as external-provisioner's poll asks.
    pub async fn capacities(&self, nodes: usize) -> Samples {
        let mut client = ControllerClient::new(self.channel.clone());
        let mut samples = Samples::default();
        for number in 0..nodes {
            for pool in POOLS {
                let request = csi::GetCapacityRequest {
                    volume_capabilities: vec![requests::mounted()],
                    parameters: [("pool".into(), pool.into())].into(),
                    accessible_topology: Some(segment(number)),
                };
                let begun = Instant::now();
                client.get_capacity(request).await.unwrap();
                samples.add(begun.elapsed());
            }
        }
        samples
    }
}

fn segment(number: usize) -> csi::Topology {
    csi::Topology { segments: [("topology.berth.dev/node".into(), node(number))].into() }
}

/// As the scheduler's choice of a node comes with a claim.
fn topology(number: usize) -> csi::TopologyRequirement {
    csi::TopologyRequirement { requisite: vec![segment(number)], preferred: vec![segment(number)] }
}

impl Drop for Controller {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The text of a kubeconfig for an API server; it is asked for no certificate of its own.
pub fn kubeconfig(server: &str, token: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: here\n\
         clusters: [{{name: here, cluster: {{server: '{server}', insecure-skip-tls-verify: true}}}}]\n\
         users: [{{name: me, user: {{token: '{token}'}}}}]\n\
         contexts: [{{name: here, context: {{cluster: here, user: me}}}}]\n"
    )
}
