//! What the kubelet asks and is told: two calls.

use tokio::sync::watch;
use tonic::{Request, Response, Status};
use tracing::{debug, info, warn};

use super::{Options, State};
use proto::registration_server::Registration;
use proto::{InfoRequest, PluginInfo, RegistrationStatus, RegistrationStatusResponse};

/// `proto/pluginregistration.proto`.
#[expect(unreachable_pub, clippy::pedantic, reason = "generated from proto/")]
pub(super) mod proto {
    tonic::include_proto!("pluginregistration");
}

/// The kubelet's name for CSI drivers.
const KIND: &str = "CSIPlugin";
/// The version of CSI that the kubelet speaks: it wants one with major version 1 and looks no further.
const VERSION: &str = "1.0.0";

/// Answers the kubelet.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) options: Options,
    pub(super) state: watch::Sender<State>,
}

#[tonic::async_trait]
impl Registration for Service {
    async fn get_info(&self, _: Request<InfoRequest>) -> Result<Response<PluginInfo>, Status> {
        let Options { driver, endpoint, .. } = &self.options;
        debug!(driver, "the kubelet asks who this is");
        Ok(Response::new(PluginInfo {
            r#type: KIND.to_owned(),
            name: driver.clone(),
            endpoint: endpoint.clone(),
            supported_versions: vec![VERSION.to_owned()],
        }))
    }

    async fn notify_registration_status(
        &self,
        request: Request<RegistrationStatus>,
    ) -> Result<Response<RegistrationStatusResponse>, Status> {
        let status = request.into_inner();
        let driver = &self.options.driver;
        if status.plugin_registered {
            info!(driver, "registered with the kubelet");
            self.state.send_replace(State::Registered);
        } else {
            warn!(driver, error = status.error, "the kubelet refused the registration");
            self.state.send_replace(State::Refused(status.error));
        }
        Ok(Response::new(RegistrationStatusResponse {}))
    }
}
