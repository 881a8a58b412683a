//! What a person types: arguments, what the operating commands print, and how failures are told.

mod check;
pub mod client;
mod operate;
mod output;
mod table;

use std::path::{Component, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::csi::Endpoint;
use crate::observe::http;
use crate::observe::log::{Format, Level};
use crate::pool::Sources;
use crate::volume::{NodeName, PoolName, VolumeId, VolumeName};

/// Where the server listens, and the commands look for it.
const ENDPOINT: &str = "unix:///run/berth/csi.sock";
/// Where the orchestrator that is met most mounts volumes for its tenants.
const KUBELET: &str = "/var/lib/kubelet";

/// A CSI driver for local volumes: directories, mount points and block devices that an administrator has prepared.
///
/// `berth standalone` runs the driver on one machine; the other commands show and operate the inventory of a driver that
/// runs.
#[derive(Debug, Parser)]
#[command(name = "berth", version, max_term_width = 110, after_long_help = EXAMPLES)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Examples:
  berth check-config /etc/berth/pools.yaml
      say what the configuration means, or what is wrong with it
  berth check-config --storage-class-map configmap.yaml
      say what each key of the static provisioner's configuration becomes
  berth standalone --config /etc/berth/pools.yaml --state /var/lib/berth
      run the driver on this machine, on unix:///run/berth/csi.sock
  berth volumes -o wide
      list the volumes with where they are and what is wrong with them
  berth clean node-a-fast-disks-v1-5f3c9a12d04b7e88
      wipe a volume that was found holding data, and offer it

Exit status: 0 done, 1 failed, 2 the arguments are wrong.";

/// What `berth` can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the driver on this machine: discovery, claims, mounts and wipes in one process, without Kubernetes
    Standalone(StandaloneOptions),
    /// List the volumes of the inventory
    Volumes(VolumesOptions),
    /// List what is in the pools and not offered, or not as its pool says, with the reason
    Problems(ProblemsOptions),
    /// Wipe a volume that holds data, or try again at once after a wipe that failed. The data is lost
    Clean(Named),
    /// End a claim as its orchestrator would have: the volume is wiped as was agreed and offered again
    Release(Tenancies),
    /// Keep a volume from being claimed again; a claim that holds it now is not touched
    Cordon(Named),
    /// Let a cordoned volume be claimed again
    Uncordon(Named),
    /// Drop the record of a Lost volume, for a disk that will never come back
    Forget(Named),
    /// Say what a pools.yaml means, or what is wrong with it; and what the static provisioner's configuration becomes
    CheckConfig {
        /// The file of pools
        #[arg(required_unless_present = "storage_class_map")]
        file: Option<PathBuf>,
        /// The static provisioner's ConfigMap, or its storageClassMap: its classes become pools
        #[arg(long, value_name = "FILE")]
        storage_class_map: Option<PathBuf>,
    },
}

/// How `berth standalone` runs.
#[derive(Debug, Clone, Args)]
pub struct StandaloneOptions {
    /// Where the pools are configured.
    #[command(flatten)]
    pub pools: PoolOptions,
    /// The directory of the inventory, made if it is not there. One server at a time may use it
    #[arg(long, value_name = "DIR", env = "BERTH_STATE")]
    pub state: PathBuf,
    /// The Unix socket to listen on: unix:///PATH. It is made with mode 0600; one that a dead server left is replaced
    #[arg(long, value_name = "ENDPOINT", env = "BERTH_ENDPOINT", default_value = ENDPOINT)]
    pub endpoint: Endpoint,
    /// A socket of its own for the Controller service, which the main one then does not have
    #[arg(long, value_name = "ENDPOINT", env = "BERTH_CONTROLLER_ENDPOINT")]
    pub controller_endpoint: Option<Endpoint>,
    /// The name of this node. It is part of every volume's name and must not change [default: the host's name]
    #[arg(long, value_name = "NAME", env = "BERTH_NODE")]
    pub node: Option<NodeName>,
    /// Serve /metrics, /healthz and /readyz on this address, for example 127.0.0.1:9808 [default: do not]
    #[arg(long, value_name = "HOST:PORT", env = "BERTH_HTTP")]
    pub http: Option<http::Address>,
    /// The name by which orchestrators know the driver
    #[arg(long, value_name = "NAME", env = "BERTH_DRIVER_NAME", default_value = "berth.dev", value_parser = driver_name)]
    pub driver_name: String,
    /// A directory beneath which volumes may be staged and published; may be given several times, in the variable with
    /// colons between [default: anywhere but in pools and volumes]. A volume that is mounted beneath one, or without any
    /// beneath /var/lib/kubelet, has a tenant even if its record is lost
    #[arg(long = "mount-root", value_name = "DIR", env = "BERTH_MOUNT_ROOT", value_delimiter = ':', value_parser = mount_root)]
    pub mount_roots: Vec<PathBuf>,
    /// How many volumes are wiped at once
    #[arg(long, value_name = "N", env = "BERTH_WIPES", default_value = "2", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub wipes: u16,
    /// Seconds between two looks at everything, in case an event was missed
    #[arg(long, value_name = "SECONDS", env = "BERTH_RESCAN", default_value = "60", value_parser = seconds)]
    pub rescan: Duration,
    /// What a line of the log looks like
    #[arg(long, value_name = "FORMAT", env = "BERTH_LOG_FORMAT", default_value = "text")]
    pub log_format: Format,
    /// What is logged, to standard error: error, warn, info, debug, trace, or a filter like berth::clean=debug,info
    #[arg(long, value_name = "LEVEL", env = "BERTH_LOG", default_value = "info")]
    pub log_level: Level,
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

/// Which volumes to list, and how.
#[derive(Debug, Args)]
pub struct VolumesOptions {
    /// Only volumes of this pool
    #[arg(long, value_name = "POOL")]
    pub pool: Option<PoolName>,
    /// Only volumes of this node
    #[arg(long, value_name = "NODE")]
    pub node: Option<NodeName>,
    /// How to print them
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub output: Output,
    /// Wait until the server is ready, for at most so many seconds (--wait alone: 30)
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "30", value_parser = seconds)]
    pub wait: Option<Duration>,
    /// The server to ask.
    #[command(flatten)]
    pub server: ServerOptions,
}

/// Which problems to list, and how.
#[derive(Debug, Args)]
pub struct ProblemsOptions {
    /// Only problems of this pool
    #[arg(long, value_name = "POOL")]
    pub pool: Option<PoolName>,
    /// How to print them
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub output: ProblemsOutput,
    /// The server to ask.
    #[command(flatten)]
    pub server: ServerOptions,
}

/// How problems are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ProblemsOutput {
    /// A sentence a line
    Text,
    /// A JSON array of objects with pool, path, kind and message
    Json,
}

/// How volumes are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// One line a volume
    Table,
    /// One line a volume, with where it is, what it is and what is wrong with it
    Wide,
    /// A JSON array of whole records
    Json,
}

/// A volume to operate on.
#[derive(Debug, Args)]
pub struct Named {
    /// The volume's name, as `berth volumes` shows it
    pub name: VolumeName,
    /// The server to ask.
    #[command(flatten)]
    pub server: ServerOptions,
}

/// A tenancy to end.
#[derive(Debug, Args)]
pub struct Tenancies {
    /// The volume's CSI id, NAME@TENANCY: the tenancy is named so that a later tenant cannot be hit by mistake
    #[arg(value_name = "NAME@TENANCY")]
    pub id: VolumeId,
    /// The server to ask.
    #[command(flatten)]
    pub server: ServerOptions,
}

/// Where the server is.
#[derive(Debug, Args)]
pub struct ServerOptions {
    /// The socket of the server
    #[arg(long, value_name = "ENDPOINT", env = "BERTH_ENDPOINT", default_value = ENDPOINT)]
    pub endpoint: Endpoint,
}

/// A driver's name: at most 63 characters, letters, digits, '.', '-' and '_', a letter first and last (csi-sanity is
/// that strict).
fn driver_name(text: &str) -> Result<String, String> {
    let letter = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphabetic());
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let right =
        letter(text.chars().next()) && letter(text.chars().last()) && text.chars().all(legal);
    if right && text.len() <= 63 {
        return Ok(text.to_owned());
    }
    Err("a driver's name has letters, digits, '.', '-' and '_', begins and ends with a letter, and is at most 63 long".into())
}

/// A directory beneath which volumes may be mounted.
fn mount_root(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    let plain = path.is_absolute() && !path.components().any(|part| part == Component::ParentDir);
    if plain { Ok(path) } else { Err("it is an absolute path without `..`".into()) }
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds @ 1..=86_400) => Ok(Duration::from_secs(seconds)),
        _ => Err("it is a number of seconds from 1 to 86400".into()),
    }
}

/// Reads the arguments of the process and does what they say; `standalone` is what runs the server.
pub fn run<F>(standalone: impl FnOnce(StandaloneOptions) -> F) -> ExitCode
where
    F: Future<Output = anyhow::Result<()>>,
{
    match execute(Arguments::parse().command, standalone) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::complain(&error);
            ExitCode::FAILURE
        }
    }
}

fn execute<F>(
    command: Command,
    standalone: impl FnOnce(StandaloneOptions) -> F,
) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>>,
{
    if let Command::CheckConfig { file: config, storage_class_map } = command {
        return Ok(output::print(&check::report(&Sources { config, storage_class_map })?)?);
    }
    // Two threads: what blocks is elsewhere, and calls are short.
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let result = match command {
        Command::Standalone(options) => {
            crate::observe::log::init(options.log_format, &options.log_level)?;
            runtime.block_on(standalone(options))
        }
        other => runtime.block_on(operate::run(other)),
    };
    // A device that hangs keeps its thread: it is not waited for.
    runtime.shutdown_background();
    result
}

#[cfg(test)]
mod tests;
