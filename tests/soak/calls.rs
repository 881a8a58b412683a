//! Calls of an orchestrator, each on a connection of its own, and what their answers say.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use berth::csi::proto::csi_v1 as csi;
use csi::controller_client::ControllerClient;
use csi::node_client::NodeClient;
use tokio::runtime::Runtime;
use tonic::transport::Channel;
use tonic::{Code, Response, Status};

use crate::server::{connect, until};
use crate::support::requests;

/// Longer than any call may take here: no device hangs.
const HUNG: Duration = Duration::from_secs(90);

/// How long a caller rests whose server is away.
const REST: Duration = Duration::from_millis(50);

/// Why a call did not do what it was asked.
#[derive(Debug)]
pub enum Failed {
    /// No answer came: it may have been done.
    NoAnswer,
    /// The server refused.
    Refused(Status),
}

/// One caller.
pub struct Calls {
    pub runtime: Runtime,
    socket: String,
}

impl Calls {
    pub fn new(socket: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { runtime, socket: socket.to_owned() }
    }

    fn call<R>(
        &self,
        call: impl AsyncFnOnce(Channel) -> Result<Response<R>, Status>,
    ) -> Result<R, Failed> {
        let answer = self
            .runtime
            .block_on(async { tokio::time::timeout(HUNG, call(connect(&self.socket))).await });
        match answer.expect("a call hangs") {
            Ok(response) => Ok(response.into_inner()),
            // Made by the client, from a connection that was lost.
            Err(status) if std::error::Error::source(&status).is_some() => {
                let began = Instant::now();
                until(|| began.elapsed() >= REST);
                Err(Failed::NoAnswer)
            }
            Err(status) => Err(Failed::Refused(status)),
        }
    }

    pub fn create(
        &self,
        name: &str,
        pool: &str,
        size: u64,
        raw: bool,
    ) -> Result<csi::Volume, Failed> {
        let mut request = requests::create(name, pool, size);
        request.volume_capabilities = vec![capability(raw)];
        let answer =
            self.call(async |channel| ControllerClient::new(channel).create_volume(request).await)?;
        Ok(answer.volume.unwrap())
    }

    pub fn delete(&self, id: &str) -> Result<(), Failed> {
        let request = csi::DeleteVolumeRequest { volume_id: id.into(), ..Default::default() };
        self.call(async |channel| ControllerClient::new(channel).delete_volume(request).await)
            .map(drop)
    }

    pub fn stage(&self, id: &str, staging: &Path, raw: bool) -> Result<(), Failed> {
        let mut request = requests::stage(id, staging);
        request.volume_capability = Some(capability(raw));
        self.call(async |channel| NodeClient::new(channel).node_stage_volume(request).await)
            .map(drop)
    }

    pub fn unstage(&self, id: &str, staging: &Path) -> Result<(), Failed> {
        let request = requests::unstage(id, staging);
        self.call(async |channel| NodeClient::new(channel).node_unstage_volume(request).await)
            .map(drop)
    }

    pub fn publish(
        &self,
        id: &str,
        staging: &Path,
        target: &Path,
        raw: bool,
    ) -> Result<(), Failed> {
        let mut request = requests::publish(id, staging, target);
        request.volume_capability = Some(capability(raw));
        self.call(async |channel| NodeClient::new(channel).node_publish_volume(request).await)
            .map(drop)
    }

    pub fn unpublish(&self, id: &str, target: &Path) -> Result<(), Failed> {
        let request = requests::unpublish(id, target);
        self.call(async |channel| NodeClient::new(channel).node_unpublish_volume(request).await)
            .map(drop)
    }

    pub fn stats(&self, id: &str, target: &Path) -> Result<usize, Failed> {
        let request = csi::NodeGetVolumeStatsRequest {
            volume_id: id.into(),
            volume_path: requests::text(target),
            ..Default::default()
        };
        let answer = self
            .call(async |channel| NodeClient::new(channel).node_get_volume_stats(request).await)?;
        Ok(answer.usage.len())
    }

    /// Asks both services for the size that the volume has.
    pub fn expand(&self, id: &str, target: &Path, size: i64, raw: bool) -> Result<i64, Failed> {
        let capacity_range = Some(csi::CapacityRange { required_bytes: size, limit_bytes: 0 });
        let request = csi::ControllerExpandVolumeRequest {
            volume_id: id.into(),
            capacity_range,
            volume_capability: Some(capability(raw)),
            ..Default::default()
        };
        let answer = self.call(async |channel| {
            ControllerClient::new(channel).controller_expand_volume(request).await
        })?;
        if answer.node_expansion_required {
            let request = csi::NodeExpandVolumeRequest {
                volume_id: id.into(),
                volume_path: requests::text(target),
                capacity_range,
                volume_capability: Some(capability(raw)),
                ..Default::default()
            };
            self.call(async |channel| NodeClient::new(channel).node_expand_volume(request).await)?;
        }
        Ok(answer.capacity_bytes)
    }

    /// What an orchestrator asks beside its claims.
    pub fn look_around(&self, pool: &str) -> Result<(), Failed> {
        let parameters = HashMap::from([("pool".to_owned(), pool.to_owned())]);
        let request = csi::GetCapacityRequest { parameters, ..Default::default() };
        self.call(async |channel| ControllerClient::new(channel).get_capacity(request).await)?;
        let mut token = String::new();
        loop {
            let request = csi::ListVolumesRequest { max_entries: 50, starting_token: token };
            let page = self
                .call(async |channel| ControllerClient::new(channel).list_volumes(request).await)?;
            token = page.next_token;
            if token.is_empty() {
                return Ok(());
            }
        }
    }
}

fn capability(raw: bool) -> csi::VolumeCapability {
    if raw { requests::raw() } else { requests::mounted() }
}

impl Failed {
    /// Whether a caller may be told this by `method` while servers die, pools go and volumes are few.
    pub fn is_fair(&self, method: Method) -> bool {
        let Self::Refused(status) = self else { return true };
        match status.code() {
            Code::Unavailable | Code::Aborted => true,
            Code::ResourceExhausted | Code::InvalidArgument => method == Method::Create,
            Code::FailedPrecondition => method == Method::Use,
            _ => false,
        }
    }

    pub fn is_refused_as(&self, code: Code) -> bool {
        matches!(self, Self::Refused(status) if status.code() == code)
    }
}

/// What a call is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// To get a volume.
    Create,
    /// To use it: refused where it cannot be verified, or its pool is not configured.
    Use,
    /// To let go of it: never refused.
    LetGo,
}
