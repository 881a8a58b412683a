//! The real binary, started for a test, and its clients.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use berth::csi::proto::csi_v1::controller_client::ControllerClient;
use berth::csi::proto::csi_v1::identity_client::IdentityClient;
use berth::csi::proto::csi_v1::node_client::NodeClient;
use berth::csi::proto::csi_v1::{self as csi, ProbeRequest};
use berth::csi::proto::operator_v1alpha1 as operator;
use berth::csi::proto::operator_v1alpha1::operator_client::OperatorClient;
use berth::volume::{LocalVolume, Phase};
use rustix::process::{Pid, Signal, kill_process};
use tokio::runtime::Runtime;
use tonic::transport::Channel;
use tonic::{Response, Status};

use super::Host;

/// How long anything may take before a test gives up on it. It only bounds a failure; no test waits for it to pass.
const PATIENCE: Duration = Duration::from_mins(3);

/// `berth standalone` on `host`, as it is called: with its `pools.yaml`, state and socket.
pub fn standalone(host: &Host) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_berth"));
    command.arg("standalone").arg("--config").arg(host.path("pools.yaml"));
    command.arg("--state").arg(host.path("state")).arg("--endpoint").arg(endpoint(host));
    command.env("BERTH_NODE", "node-a");
    command
}

/// A running `berth standalone` on a [`Host`]. Dropping it kills the process.
pub struct Berth {
    child: Child,
    runtime: Runtime,
    channel: Channel,
    log: PathBuf,
}

impl Berth {
    /// Starts the server with the text of a `pools.yaml` and waits until it says that it is ready.
    pub fn start(host: &Host, config: &str) -> Self {
        Self::start_with(host, config, &[])
    }

    /// As [`Berth::start`], with more arguments.
    pub fn start_with(host: &Host, config: &str, arguments: &[&str]) -> Self {
        let berth = Self::spawn(host, config, arguments);
        berth.wait_ready();
        berth
    }

    /// Starts the server and waits for nothing.
    pub fn spawn(host: &Host, config: &str, arguments: &[&str]) -> Self {
        Self::spawn_by(host, config, arguments, |mut command| command.spawn().unwrap())
    }

    /// As [`Berth::spawn`], by whoever makes a process of the command.
    pub fn spawn_by(
        host: &Host,
        config: &str,
        arguments: &[&str],
        spawn: impl FnOnce(Command) -> Child,
    ) -> Self {
        fs::write(host.path("pools.yaml"), config).unwrap();
        let log = host.path("berth.log");
        let stderr = File::options().create(true).append(true).open(&log).unwrap();
        let mut command = standalone(host);
        command.args(arguments).stderr(stderr);
        let child = spawn(command);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let endpoint = endpoint(host).parse().unwrap();
        let channel = runtime.block_on(async { berth::cli::client::connect(&endpoint).unwrap() });
        Self { child, runtime, channel, log }
    }

    /// Waits until the server says that it is ready.
    pub fn wait_ready(&self) {
        self.wait_for("the server to be ready", |berth| berth.is_ready().then_some(()));
    }

    /// Whether it says that it is ready.
    pub fn is_ready(&self) -> bool {
        let mut client = IdentityClient::new(self.channel.clone());
        let answer = self.runtime.block_on(client.probe(ProbeRequest {}));
        answer.is_ok_and(|answer| answer.into_inner().ready == Some(true))
    }

    /// Asks again and again until `condition` gives something, and gives that.
    pub fn wait_for<T>(&self, what: &str, mut condition: impl FnMut(&Self) -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            if let Some(found) = condition(self) {
                return found;
            }
            assert!(
                start.elapsed() < PATIENCE,
                "waited in vain for {what}; the log:\n{}",
                self.log()
            );
            self.runtime.block_on(async { tokio::time::sleep(Duration::from_millis(5)).await });
        }
    }

    /// The inventory, as the operator's service shows it.
    pub fn volumes(&self) -> Vec<LocalVolume> {
        self.try_volumes().unwrap()
    }

    /// As [`Berth::volumes`], of a server that may have ended.
    pub fn try_volumes(&self) -> Result<Vec<LocalVolume>, Status> {
        let mut client = OperatorClient::new(self.channel.clone());
        let request = operator::ListVolumesRequest::default();
        let listed = self.runtime.block_on(async {
            let stream = client.list_volumes(request).await?.into_inner();
            Ok::<_, Status>(tokio_stream::StreamExt::collect::<Vec<_>>(stream).await)
        })?;
        listed.into_iter().map(|one| Ok(serde_json::from_str(&one?.json).unwrap())).collect()
    }

    /// The volume whose path ends in `entry`.
    pub fn volume(&self, entry: &str) -> Option<LocalVolume> {
        let ending = format!("/{entry}");
        self.volumes().into_iter().find(|volume| volume.status.path.ends_with(&ending))
    }

    /// Waits until the volume whose path ends in `entry` is in `phase`, and gives it.
    pub fn wait_phase(&self, entry: &str, phase: Phase) -> LocalVolume {
        self.wait_for(&format!("{entry} to be {phase}"), |berth| {
            berth.volume(entry).filter(|volume| volume.phase() == phase)
        })
    }

    /// Calls the controller.
    pub fn controller<R>(
        &self,
        call: impl AsyncFnOnce(&mut ControllerClient<Channel>) -> Result<Response<R>, Status>,
    ) -> Result<R, Status> {
        let mut client = ControllerClient::new(self.channel.clone());
        self.runtime.block_on(call(&mut client)).map(Response::into_inner)
    }

    /// Calls the node service.
    pub fn node<R>(
        &self,
        call: impl AsyncFnOnce(&mut NodeClient<Channel>) -> Result<Response<R>, Status>,
    ) -> Result<R, Status> {
        let mut client = NodeClient::new(self.channel.clone());
        self.runtime.block_on(call(&mut client)).map(Response::into_inner)
    }

    /// Calls the operator's service.
    pub fn operator<R>(
        &self,
        call: impl AsyncFnOnce(&mut OperatorClient<Channel>) -> Result<Response<R>, Status>,
    ) -> Result<R, Status> {
        let mut client = OperatorClient::new(self.channel.clone());
        self.runtime.block_on(call(&mut client)).map(Response::into_inner)
    }

    /// Creates a volume of `size` bytes or more from `pool`.
    pub fn create(&self, name: &str, pool: &str, size: u64) -> Result<csi::Volume, Status> {
        let request = super::requests::create(name, pool, size);
        let answer = self.controller(async |client| client.create_volume(request).await)?;
        Ok(answer.volume.unwrap())
    }

    /// Deletes a volume.
    pub fn delete(&self, volume_id: &str) -> Result<(), Status> {
        let request =
            csi::DeleteVolumeRequest { volume_id: volume_id.into(), ..Default::default() };
        self.controller(async |client| client.delete_volume(request).await).map(drop)
    }

    /// Stages and publishes a volume as a directory; gives the target.
    pub fn publish(&self, host: &Host, volume_id: &str) -> Result<PathBuf, Status> {
        let staging = super::requests::staging_path(host, volume_id);
        fs::create_dir_all(&staging).unwrap();
        let request = super::requests::stage(volume_id, &staging);
        self.node(async |client| client.node_stage_volume(request).await)?;
        let target = super::requests::target_path(host, volume_id);
        let request = super::requests::publish(volume_id, &staging, &target);
        self.node(async |client| client.node_publish_volume(request).await)?;
        Ok(target)
    }

    /// Undoes [`Berth::publish`].
    pub fn unpublish(&self, host: &Host, volume_id: &str) -> Result<(), Status> {
        let target = super::requests::target_path(host, volume_id);
        let request = super::requests::unpublish(volume_id, &target);
        self.node(async |client| client.node_unpublish_volume(request).await)?;
        let staging = super::requests::staging_path(host, volume_id);
        let request = super::requests::unstage(volume_id, &staging);
        self.node(async |client| client.node_unstage_volume(request).await).map(drop)
    }

    /// The channel to the server, and the runtime to use it on.
    pub fn connection(&self) -> (Channel, &Runtime) {
        (self.channel.clone(), &self.runtime)
    }

    /// Everything that the servers of this host have logged.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The process.
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Sends the server a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Ends the server as a power cut would.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks the server to end (SIGTERM) and gives its exit status.
    pub fn stop(mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.child.wait().unwrap()
    }

    /// How the server has ended; absent while it runs.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits until the server has ended by itself.
    pub fn ended(mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Drop for Berth {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            eprintln!("the server's log:\n{}", self.log());
        }
    }
}

/// The endpoint of the server of a host.
pub fn endpoint(host: &Host) -> String {
    format!("unix://{}", host.path("run/csi.sock").display())
}
