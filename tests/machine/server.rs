//! Berth as it runs in the machine, and its clients out here.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;

use berth::csi::proto::csi_v1::controller_client::ControllerClient;
use berth::csi::proto::csi_v1::identity_client::IdentityClient;
use berth::csi::proto::csi_v1::node_client::NodeClient;
use berth::csi::proto::csi_v1::{self as csi, ProbeRequest};
use berth::csi::proto::operator_v1alpha1 as operator;
use berth::csi::proto::operator_v1alpha1::operator_client::OperatorClient;
use berth::volume::{LocalVolume, Phase};
use tokio::runtime::Runtime;
use tonic::transport::{Channel, Endpoint};
use tonic::{Response, Status};

use super::machine::Machine;
use super::support::requests;
use super::{PATIENCE, until};

/// A server in a machine. It ends with the machine's power.
pub(crate) struct Server<'a> {
    machine: &'a Machine,
    runtime: Runtime,
    channel: Channel,
}

impl<'a> Server<'a> {
    /// Starts `berth standalone` with `pools` (the map of a `pools.yaml`), and waits until it is ready.
    pub(crate) fn start(machine: &'a Machine, pools: &str) -> Self {
        let server = Self::spawn(machine, pools);
        server.wait_for("the server to be ready", |server| {
            let mut client = IdentityClient::new(server.channel.clone());
            let answer = server.runtime.block_on(client.probe(ProbeRequest {}));
            answer.is_ok_and(|answer| answer.into_inner().ready == Some(true)).then_some(())
        });
        server
    }

    /// Starts it and waits for nothing.
    pub(crate) fn spawn(machine: &'a Machine, pools: &str) -> Self {
        machine.sh(&format!(
            "mkdir -p /run/berth /state/kubelet\n\
             cat >/etc/pools.yaml <<'END'\npools: {{{pools}}}\nEND\n\
             setsid berth standalone --config /etc/pools.yaml --state /state/berth --node node-a --rescan 2 --wipes 3 \
             --http 127.0.0.1:8080 </dev/null >>/run/berth.log 2>&1 &"
        ));
        Self::connect(machine)
    }

    /// Another client of the server in `machine`.
    pub(crate) fn connect(machine: &'a Machine) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let uri = format!("http://127.0.0.1:{}", machine.calls);
        let endpoint = Endpoint::from_shared(uri).unwrap().timeout(PATIENCE / 2);
        let channel = runtime.block_on(async { endpoint.connect_lazy() });
        Self { machine, runtime, channel }
    }

    /// Asks again and again until `condition` gives something, and gives that.
    pub(crate) fn wait_for<T>(
        &self,
        what: &str,
        mut condition: impl FnMut(&Self) -> Option<T>,
    ) -> T {
        let mut found = None;
        until(PATIENCE, || {
            found = condition(self);
            found.is_some()
        });
        found.unwrap_or_else(|| panic!("waited in vain for {what}; there is\n{:#?}", self.seen()))
    }

    fn seen(&self) -> Vec<(String, Phase, [String; 2])> {
        let said = |volume: LocalVolume| {
            let (phase, conditions) = (volume.phase(), volume.status.conditions);
            let messages = [conditions.healthy.message, conditions.clean.message];
            (volume.name.to_string(), phase, messages.map(String::from))
        };
        self.volumes().into_iter().map(said).collect()
    }

    /// The inventory.
    pub(crate) fn volumes(&self) -> Vec<LocalVolume> {
        let mut client = OperatorClient::new(self.channel.clone());
        let listed = self.runtime.block_on(async {
            let request = operator::ListVolumesRequest::default();
            let stream = client.list_volumes(request).await.unwrap().into_inner();
            tokio_stream::StreamExt::collect::<Vec<_>>(stream).await
        });
        let read =
            |volume: Result<operator::Volume, Status>| serde_json::from_str(&volume.unwrap().json);
        listed.into_iter().map(|volume| read(volume).unwrap()).collect()
    }

    /// The volume that was last seen at `/mnt/POOL/ENTRY`.
    pub(crate) fn at(&self, place: &str) -> Option<LocalVolume> {
        let path = format!("/mnt/{place}");
        self.volumes().into_iter().find(|volume| volume.status.path == path)
    }

    /// The volume with this CSI id, or this name.
    pub(crate) fn named(&self, id: &str) -> Option<LocalVolume> {
        let name = id.split('@').next().unwrap();
        self.volumes().into_iter().find(|volume| volume.name.as_str() == name)
    }

    /// Waits until the volume with this id is in `phase`, and gives it.
    pub(crate) fn wait_phase(&self, id: &str, phase: Phase) -> LocalVolume {
        self.wait_for(&format!("{id} to be {phase}"), |server| {
            server.named(id).filter(|volume| volume.phase() == phase)
        })
    }

    /// Waits until the volume at `place` can be claimed.
    pub(crate) fn wait_claimable(&self, place: &str) -> LocalVolume {
        self.wait_for(&format!("{place} to be claimable"), |server| {
            server.at(place).filter(LocalVolume::is_claimable)
        })
    }

    fn controller<R>(
        &self,
        call: impl AsyncFnOnce(&mut ControllerClient<Channel>) -> Result<Response<R>, Status>,
    ) -> Result<R, Status> {
        let mut client = ControllerClient::new(self.channel.clone());
        self.runtime.block_on(call(&mut client)).map(Response::into_inner)
    }

    fn node<R>(
        &self,
        call: impl AsyncFnOnce(&mut NodeClient<Channel>) -> Result<Response<R>, Status>,
    ) -> Result<R, Status> {
        let mut client = NodeClient::new(self.channel.clone());
        self.runtime.block_on(call(&mut client)).map(Response::into_inner)
    }

    /// Claims a volume of `pool`; gives its id.
    pub(crate) fn create(&self, name: &str, pool: &str) -> Result<String, Status> {
        let mut request = requests::create(name, pool, 1);
        if pool.starts_with("raw") {
            request.volume_capabilities = vec![requests::raw()];
        }
        let created = self.controller(async |client| client.create_volume(request).await)?;
        Ok(created.volume.unwrap().volume_id)
    }

    /// Ends a claim.
    pub(crate) fn delete(&self, id: &str) -> Result<(), Status> {
        let request = csi::DeleteVolumeRequest { volume_id: id.into(), ..Default::default() };
        self.controller(async |client| client.delete_volume(request).await).map(drop)
    }

    /// Stages and publishes a volume, as a kubelet does; gives the target.
    pub(crate) fn publish(&self, id: &str) -> Result<String, Status> {
        let (staging, target) = places(id);
        self.machine.sh(&format!("mkdir -p {staging}"));
        let is_raw = id.contains("-raw");
        let capability = || if is_raw { requests::raw() } else { requests::mounted() };
        let mut stage = requests::stage(id, Path::new(&staging));
        stage.volume_capability = Some(capability());
        self.node(async |client| client.node_stage_volume(stage).await)?;
        let mut publish = requests::publish(id, Path::new(&staging), Path::new(&target));
        publish.volume_capability = Some(capability());
        self.node(async |client| client.node_publish_volume(publish).await)?;
        Ok(target)
    }

    /// Undoes [`Server::publish`].
    pub(crate) fn unpublish(&self, id: &str) -> Result<(), Status> {
        let (staging, target) = places(id);
        let unpublish = requests::unpublish(id, Path::new(&target));
        self.node(async |client| client.node_unpublish_volume(unpublish).await)?;
        let unstage = requests::unstage(id, Path::new(&staging));
        self.node(async |client| client.node_unstage_volume(unstage).await).map(drop)
    }

    /// What a GET of `path` answers, if it is a success.
    pub(crate) fn get(&self, path: &str) -> Option<String> {
        let mut connection = TcpStream::connect((Ipv4Addr::LOCALHOST, self.machine.web)).unwrap();
        connection.set_read_timeout(Some(PATIENCE / 5)).unwrap();
        write!(connection, "GET /{path} HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n")?;
        head.contains(" 200 ").then(|| body.to_owned())
    }
}

/// Where a kubelet has a volume staged and published; on the state's disk, so that the directories last.
fn places(id: &str) -> (String, String) {
    (format!("/state/kubelet/staging-{id}"), format!("/state/kubelet/target-{id}"))
}
