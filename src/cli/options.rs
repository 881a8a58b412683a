//! How the roles run: what each can be told on its command line or by its environment.

use std::path::{Component, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::ENDPOINT;
use crate::csi::Endpoint;
use crate::kubelet;
use crate::observe::http;
use crate::observe::log::{Format, Level};
use crate::pool::Sources;
use crate::volume::NodeName;

/// Where the orchestrator that is met most mounts volumes for its tenants.
const KUBELET: &str = "/var/lib/kubelet";

/// What every role can be told.
#[derive(Debug, Clone, Args)]
pub struct CommonOptions {
    /// Where the pools are configured.
    #[command(flatten)]
    pub pools: PoolOptions,
    /// The Unix socket to listen on: unix:///PATH. It is made with mode 0600; one that a dead server left is replaced
    #[arg(long, value_name = "ENDPOINT", env = "BERTH_ENDPOINT", default_value = ENDPOINT)]
    pub endpoint: Endpoint,
    /// Serve /metrics, /healthz and /readyz on this address, for example 127.0.0.1:9808 [default: do not]
    #[arg(long, value_name = "HOST:PORT", env = "BERTH_HTTP")]
    pub http: Option<http::Address>,
    /// The name by which orchestrators know the driver
    #[arg(long, value_name = "NAME", env = "BERTH_DRIVER_NAME", default_value = "berth.dev", value_parser = driver_name)]
    pub driver_name: String,
    /// What a line of the log looks like
    #[arg(long, value_name = "FORMAT", env = "BERTH_LOG_FORMAT", default_value = "text")]
    pub log_format: Format,
    /// What is logged, to standard error: error, warn, info, debug, trace, or a filter like berth::clean=debug,info
    #[arg(long, value_name = "LEVEL", env = "BERTH_LOG", default_value = "info")]
    pub log_level: Level,
}

/// Which pools there are.
#[derive(Debug, Clone, Args)]
pub struct PoolOptions {
    /// The pools: a YAML file, read again when it changes or on SIGHUP
    #[arg(
        long,
        value_name = "FILE",
        env = "BERTH_CONFIG",
        required_unless_present = "storage_class_map"
    )]
    pub config: Option<PathBuf>,
    /// The static provisioner's ConfigMap, or its storageClassMap: its classes become pools, beside those of --config.
    /// Read again as that is
    #[arg(long, value_name = "FILE", env = "BERTH_STORAGE_CLASS_MAP")]
    pub storage_class_map: Option<PathBuf>,
}

impl PoolOptions {
    /// The files.
    pub fn sources(&self) -> Sources {
        Sources { config: self.config.clone(), storage_class_map: self.storage_class_map.clone() }
    }
}

/// What the roles that find, mount and wipe can be told.
#[derive(Debug, Clone, Args)]
pub struct AgentOptions {
    /// The directory of the inventory, made if it is not there. One server at a time may use it
    #[arg(long, value_name = "DIR", env = "BERTH_STATE")]
    pub state: PathBuf,
    /// How many volumes are wiped at once
    #[arg(long, value_name = "N", env = "BERTH_WIPES", default_value = "2", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub wipes: u16,
    /// Seconds between two looks at everything, in case an event was missed
    #[arg(long, value_name = "SECONDS", env = "BERTH_RESCAN", default_value = "60", value_parser = seconds)]
    pub rescan: Duration,
}

/// How `berth standalone` runs.
#[derive(Debug, Clone, Args)]
pub struct StandaloneOptions {
    /// What every role can be told.
    #[command(flatten)]
    pub common: CommonOptions,
    /// What the roles on a host can be told.
    #[command(flatten)]
    pub agent: AgentOptions,
    /// A socket of its own for the Controller service, which the main one then does not have
    #[arg(long, value_name = "ENDPOINT", env = "BERTH_CONTROLLER_ENDPOINT")]
    pub controller_endpoint: Option<Endpoint>,
    /// The name of this node. It is part of every volume's name and must not change [default: the host's name]
    #[arg(long, value_name = "NAME", env = "BERTH_NODE")]
    pub node: Option<NodeName>,
    /// A directory beneath which volumes may be staged and published; may be given several times, in the variable with
    /// colons between [default: anywhere but in pools and volumes]. A volume that is mounted beneath one, or without any
    /// beneath /var/lib/kubelet, has a tenant even if its record is lost
    #[arg(long = "mount-root", value_name = "DIR", env = "BERTH_MOUNT_ROOT", value_delimiter = ':', value_parser = plain_path)]
    pub mount_roots: Vec<PathBuf>,
}

impl StandaloneOptions {
    /// The directories beneath which whatever is mounted is a tenant's.
    pub fn tenants_beneath(&self) -> Vec<PathBuf> {
        match &self.mount_roots[..] {
            [] => vec![PathBuf::from(KUBELET)],
            roots => roots.to_vec(),
        }
    }
}

/// How `berth node` runs.
#[derive(Debug, Clone, Args)]
pub struct NodeOptions {
    /// What every role can be told.
    #[command(flatten)]
    pub common: CommonOptions,
    /// What the roles on a host can be told.
    #[command(flatten)]
    pub agent: AgentOptions,
    /// The name of the Node object. It is part of every volume's name
    #[arg(long, value_name = "NAME", env = "NODE_NAME")]
    pub node: NodeName,
    /// The namespace that Berth runs in
    #[arg(long, value_name = "NAMESPACE", env = "POD_NAMESPACE", default_value = "berth-system")]
    pub namespace: String,
    /// The kubelet's directory, at the same path as on the host. Volumes are mounted beneath it and nowhere else
    #[arg(long, value_name = "DIR", env = "BERTH_KUBELET_DIR", default_value = KUBELET, value_parser = plain_path)]
    pub kubelet_dir: PathBuf,
    /// Who tells the kubelet of the driver: the node-driver-registrar sidecar, or the agent itself
    #[arg(long, value_name = "WHO", env = "BERTH_REGISTRATION", default_value = "sidecar")]
    pub registration: RegistrationMode,
    /// The path of the CSI socket as the kubelet sees it, for --registration=builtin
    /// [default: KUBELET_DIR/plugins/DRIVER/csi.sock]
    #[arg(long, value_name = "PATH", env = "BERTH_KUBELET_ENDPOINT", value_parser = plain_path)]
    pub kubelet_endpoint: Option<PathBuf>,
    /// The path of the registration socket, for --registration=builtin
    /// [default: KUBELET_DIR/plugins_registry/DRIVER-reg.sock]
    #[arg(long, value_name = "PATH", env = "BERTH_REGISTRATION_SOCKET", value_parser = plain_path)]
    pub registration_socket: Option<PathBuf>,
}

impl NodeOptions {
    /// The path of the CSI socket as the kubelet sees it.
    pub fn endpoint_of_kubelet(&self) -> PathBuf {
        self.kubelet_endpoint.clone().unwrap_or_else(|| {
            self.kubelet_dir.join("plugins").join(&self.common.driver_name).join("csi.sock")
        })
    }

    /// The path of the registration socket.
    pub fn registration_socket(&self) -> PathBuf {
        self.registration_socket.clone().unwrap_or_else(|| {
            kubelet::Options::socket_in(&self.kubelet_dir, &self.common.driver_name)
        })
    }
}

/// Who tells the kubelet of the driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RegistrationMode {
    /// The node-driver-registrar sidecar beside the agent
    Sidecar,
    /// The agent itself
    Builtin,
}

/// How `berth controller` runs.
#[derive(Debug, Clone, Args)]
pub struct ControllerOptions {
    /// What every role can be told.
    #[command(flatten)]
    pub common: CommonOptions,
    /// The namespace that Berth and external-provisioner run in
    #[arg(long, value_name = "NAMESPACE", env = "POD_NAMESPACE", default_value = "berth-system")]
    pub namespace: String,
    /// How long a Node object may be away before its volumes count as lost: 90s, 5m or 1h
    #[arg(long, value_name = "TIME", env = "BERTH_NODE_GRACE", default_value = "5m", value_parser = time)]
    pub node_grace: Duration,
}

/// A driver's name: at most 63 characters, letters, digits, '.', '-' and '_', a letter first and last (csi-sanity is
/// that strict).
pub(super) fn driver_name(text: &str) -> Result<String, String> {
    let letter = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphabetic());
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let right =
        letter(text.chars().next()) && letter(text.chars().last()) && text.chars().all(legal);
    if right && text.len() <= 63 {
        return Ok(text.to_owned());
    }
    Err("a driver's name has letters, digits, '.', '-' and '_', begins and ends with a letter, and is at most 63 long".into())
}

/// A path that leads where it says.
fn plain_path(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    let plain = path.is_absolute() && !path.components().any(|part| part == Component::ParentDir);
    if plain { Ok(path) } else { Err("it is an absolute path without `..`".into()) }
}

pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds @ 1..=86_400) => Ok(Duration::from_secs(seconds)),
        _ => Err("it is a number of seconds from 1 to 86400".into()),
    }
}

/// A time with its unit, up to a day.
fn time(text: &str) -> Result<Duration, String> {
    let wrong = || "it is a time up to a day with its unit, for example 90s, 5m or 1h".to_owned();
    let digits = text.trim_end_matches(['s', 'm', 'h']);
    let unit = match &text[digits.len()..] {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err(wrong()),
    };
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    let seconds = number.checked_mul(unit).filter(|seconds| (1..=86_400).contains(seconds));
    seconds.map(Duration::from_secs).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_a_unit_and_is_up_to_a_day() {
        for (text, seconds) in [("90s", 90), ("5m", 300), ("24h", 86_400)] {
            assert_eq!(time(text), Ok(Duration::from_secs(seconds)));
        }
        for wrong in ["", "5", "m", "0s", "25h", "5ms", "-5m", "1d"] {
            assert!(time(wrong).is_err(), "{wrong} was taken");
        }
    }
}
