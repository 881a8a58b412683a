//! What a person types: arguments, what the operating commands print, and how failures are told.

mod check;
pub mod client;
mod operate;
mod options;
mod output;
mod table;
mod wipes;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use options::seconds;
pub use options::{
    AgentOptions, CommonOptions, ControllerOptions, NodeOptions, PoolOptions, RegistrationMode,
    StandaloneOptions,
};

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::csi::Endpoint;
use crate::inventory::crd;
use crate::pool::Sources;
use crate::volume::{NodeName, PoolName, VolumeId, VolumeName};

/// Where the server listens, and the commands look for it.
const ENDPOINT: &str = "unix:///run/berth/csi.sock";

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
    /// Run the agent of a Kubernetes node: discovery, mounts and wipes, with the node's volumes as LocalVolume objects
    Node(NodeOptions),
    /// Run the controller of a cluster, beside external-provisioner: claims, capacity, nodes that are gone
    Controller(ControllerOptions),
    /// List the volumes of the inventory
    Volumes(VolumesOptions),
    /// List what is in the pools and not offered, or not as its pool says, with the reason
    Problems(ProblemsOptions),
    /// List the wipes that are remembered: what became of the data of each tenancy
    Wipes(WipesOptions),
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
    /// Print the CustomResourceDefinition of LocalVolume, as deploy/crd.yaml has it
    Crd,
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

/// Which wipes to list, and how.
#[derive(Debug, Args)]
pub struct WipesOptions {
    /// Only wipes of this volume, which may be no more
    #[arg(long, value_name = "NAME")]
    pub volume: Option<VolumeName>,
    /// Only wipes of volumes of this pool
    #[arg(long, value_name = "POOL")]
    pub pool: Option<PoolName>,
    /// Only wipes of volumes of this node
    #[arg(long, value_name = "NODE")]
    pub node: Option<NodeName>,
    /// How to print them
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub output: Output,
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

/// How volumes and wipes are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// One line each
    Table,
    /// One line each, with more: where a volume is, what it is and what is wrong with it; what of a wipe was read back
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

/// A role that runs until it is told to end.
#[derive(Debug, Clone)]
pub enum Role {
    /// `berth standalone`.
    Standalone(StandaloneOptions),
    /// `berth node`.
    Node(NodeOptions),
    /// `berth controller`.
    Controller(ControllerOptions),
}

impl Role {
    fn common(&self) -> &CommonOptions {
        match self {
            Self::Standalone(options) => &options.common,
            Self::Node(options) => &options.common,
            Self::Controller(options) => &options.common,
        }
    }
}

/// Reads the arguments of the process and does what they say; `roles` is what runs a role.
pub fn run<F>(roles: impl FnOnce(Role) -> F) -> ExitCode
where
    F: Future<Output = anyhow::Result<()>>,
{
    match execute(Arguments::parse().command, roles) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::complain(&error);
            ExitCode::FAILURE
        }
    }
}

fn execute<F>(command: Command, roles: impl FnOnce(Role) -> F) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>>,
{
    match &command {
        Command::CheckConfig { file, storage_class_map } => {
            let sources =
                Sources { config: file.clone(), storage_class_map: storage_class_map.clone() };
            return Ok(output::print(&check::report(&sources)?)?);
        }
        Command::Crd => {
            let yaml = crd::yaml().map_err(anyhow::Error::from_boxed)?;
            return Ok(output::print(&yaml)?);
        }
        _ => {}
    }
    // Two threads: what blocks is elsewhere, and calls are short.
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let role = match command {
        Command::Standalone(options) => Ok(Role::Standalone(options)),
        Command::Node(options) => Ok(Role::Node(options)),
        Command::Controller(options) => Ok(Role::Controller(options)),
        other => Err(other),
    };
    let result = match role {
        Ok(role) => {
            crate::observe::log::init(role.common().log_format, &role.common().log_level)?;
            runtime.block_on(roles(role))
        }
        Err(other) => runtime.block_on(operate::run(other)),
    };
    // A device that hangs keeps its thread: it is not waited for.
    runtime.shutdown_background();
    result
}

#[cfg(test)]
mod tests;
