//! The commands that ask a running server.

use tokio_stream::StreamExt;
use tonic::transport::Channel;
use tonic::{Response, Status};

use super::client::{self, Error};
use super::{Command, Output, ServerOptions, VolumesOptions, table};
use crate::csi::proto::operator_v1alpha1 as operator;
use crate::volume::LocalVolume;
use operator::operator_client::OperatorClient;

/// Carries a command out and prints what came of it.
pub(super) async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Volumes(options) => print!("{}", volumes(options).await?),
        Command::Clean(named) => {
            let request = operator::CleanVolumeRequest { name: named.name.to_string() };
            let answer =
                ask(&named.server, async |client| client.clean_volume(request).await).await?;
            said("ordered to be wiped", answer.volume)?;
        }
        Command::Release(tenancy) => {
            let (name, number) = (tenancy.id.volume.to_string(), tenancy.id.tenancy.0);
            let request = operator::ReleaseVolumeRequest { name, tenancy: number };
            let answer =
                ask(&tenancy.server, async |client| client.release_volume(request).await).await?;
            said("released", answer.volume)?;
        }
        Command::Cordon(named) => cordon(named, true).await?,
        Command::Uncordon(named) => cordon(named, false).await?,
        Command::Forget(named) => {
            let request = operator::ForgetVolumeRequest { name: named.name.to_string() };
            let answer =
                ask(&named.server, async |client| client.forget_volume(request).await).await?;
            said("forgotten", answer.volume)?;
        }
        // They ask nobody; see `super::execute`.
        Command::Standalone(_) | Command::CheckConfig { .. } | Command::Crd => {}
    }
    Ok(())
}

async fn cordon(named: super::Named, cordoned: bool) -> anyhow::Result<()> {
    let request = operator::CordonVolumeRequest { name: named.name.to_string(), cordoned };
    let answer = ask(&named.server, async |client| client.cordon_volume(request).await).await?;
    said(if cordoned { "cordoned" } else { "uncordoned" }, answer.volume)
}

async fn volumes(options: VolumesOptions) -> anyhow::Result<String> {
    let text = |name: Option<String>| name.unwrap_or_default();
    let request = operator::ListVolumesRequest {
        pool: text(options.pool.map(String::from)),
        node: text(options.node.map(String::from)),
    };
    let mut stream =
        ask(&options.server, async |client| client.list_volumes(request).await).await?;
    let mut volumes = Vec::new();
    while let Some(volume) = stream.next().await {
        let volume = volume.map_err(|status| Error::Refused(status.message().to_owned()))?;
        volumes.push(serde_json::from_str(&volume.json).map_err(Error::Answer)?);
    }
    Ok(match options.output {
        Output::Table => table::table(&volumes),
        Output::Wide => table::wide(&volumes),
        Output::Json => serde_json::to_string_pretty(&volumes).map_err(Error::Answer)? + "\n",
    })
}

/// Calls the server, or says in a sentence why that was not possible.
async fn ask<R>(
    server: &ServerOptions,
    call: impl AsyncFnOnce(&mut OperatorClient<Channel>) -> Result<Response<R>, Status>,
) -> Result<R, Error> {
    client::require_server(&server.endpoint)?;
    let mut operator = OperatorClient::new(client::connect(&server.endpoint)?);
    let answer = call(&mut operator).await;
    answer.map(Response::into_inner).map_err(|status| Error::Refused(status.message().to_owned()))
}

fn said(done: &str, volume: Option<operator::Volume>) -> anyhow::Result<()> {
    let json = volume.unwrap_or_default().json;
    let volume: LocalVolume = serde_json::from_str(&json).map_err(Error::Answer)?;
    println!("volume {} {done}; it is {} now", volume.name, volume.phase());
    Ok(())
}
