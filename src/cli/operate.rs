//! The commands that ask a running server.

use serde_json::json;
use tokio_stream::StreamExt;
use tonic::transport::Channel;
use tonic::{Response, Status};

use super::client::{self, Error};
use super::output::print;
use super::{
    Command, Output, ProblemsOptions, ProblemsOutput, ServerOptions, VolumesOptions, WipesOptions,
    table, wipes,
};
use crate::csi::proto::operator_v1alpha1 as operator;
use crate::volume::{LocalVolume, WipeRecord};
use operator::operator_client::OperatorClient;

/// Carries a command out and prints what came of it.
pub(super) async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Volumes(options) => print(&volumes(options).await?)?,
        Command::Problems(options) => print(&problems(options).await?)?,
        Command::Wipes(options) => print(&list_wipes(options).await?)?,
        Command::Clean(named) => {
            let request = operator::CleanVolumeRequest { name: named.name.to_string() };
            let answer =
                ask(&named.server, async |client| client.clean_volume(request).await).await?;
            let volume = read(answer.volume)?;
            said(if volume.is_clean() { "is clean already" } else { "is to be wiped" }, &volume)?;
        }
        Command::Release(tenancy) => {
            let (name, number) = (tenancy.id.volume.to_string(), tenancy.id.tenancy.0);
            let request = operator::ReleaseVolumeRequest { name, tenancy: number };
            let answer =
                ask(&tenancy.server, async |client| client.release_volume(request).await).await?;
            said("is released", &read(answer.volume)?)?;
        }
        Command::Cordon(named) => cordon(named, true).await?,
        Command::Uncordon(named) => cordon(named, false).await?,
        Command::Forget(named) => {
            let request = operator::ForgetVolumeRequest { name: named.name.to_string() };
            let answer =
                ask(&named.server, async |client| client.forget_volume(request).await).await?;
            said("is forgotten", &read(answer.volume)?)?;
        }
        // They ask nobody; see `super::execute`.
        Command::Standalone(_)
        | Command::Node(_)
        | Command::Controller(_)
        | Command::CheckConfig { .. }
        | Command::Crd => {}
    }
    Ok(())
}

async fn cordon(named: super::Named, cordoned: bool) -> anyhow::Result<()> {
    let request = operator::CordonVolumeRequest { name: named.name.to_string(), cordoned };
    let answer = ask(&named.server, async |client| client.cordon_volume(request).await).await?;
    let done = if cordoned { "is cordoned" } else { "is uncordoned" };
    said(done, &read(answer.volume)?)
}

async fn volumes(options: VolumesOptions) -> anyhow::Result<String> {
    if let Some(patience) = options.wait {
        client::wait_ready(&options.server.endpoint, patience).await?;
    }
    let text = |name: Option<String>| name.unwrap_or_default();
    let pool = text(options.pool.map(String::from));
    let node = text(options.node.map(String::from));
    let nothing = table::nothing(&pool, &node);
    let request = operator::ListVolumesRequest { pool: pool.clone(), node };
    let mut stream =
        ask(&options.server, async |client| client.list_volumes(request).await).await?;
    let mut volumes = Vec::new();
    while let Some(volume) = stream.next().await {
        let volume = volume.map_err(|status| Error::Refused(status.message().to_owned()))?;
        volumes.push(serde_json::from_str(&volume.json).map_err(Error::Answer)?);
    }
    let shown = match options.output {
        Output::Table | Output::Wide if volumes.is_empty() => nothing,
        Output::Table => table::table(&volumes),
        Output::Wide => table::wide(&volumes),
        Output::Json => {
            return Ok(serde_json::to_string_pretty(&volumes).map_err(Error::Answer)? + "\n");
        }
    };
    Ok(shown + &table::footer(&ask_problems(&options.server, pool).await?))
}

async fn list_wipes(options: WipesOptions) -> anyhow::Result<String> {
    let request = operator::ListWipesRequest {
        volume: options.volume.map(String::from).unwrap_or_default(),
        pool: options.pool.map(String::from).unwrap_or_default(),
        node: options.node.map(String::from).unwrap_or_default(),
    };
    let mut stream = ask(&options.server, async |client| client.list_wipes(request).await).await?;
    let mut records: Vec<WipeRecord> = Vec::new();
    while let Some(wipe) = stream.next().await {
        let wipe = wipe.map_err(|status| Error::Refused(status.message().to_owned()))?;
        records.push(serde_json::from_str(&wipe.json).map_err(Error::Answer)?);
    }
    Ok(match options.output {
        Output::Json => serde_json::to_string_pretty(&records).map_err(Error::Answer)? + "\n",
        Output::Table | Output::Wide if records.is_empty() => "No wipe is remembered.\n".to_owned(),
        Output::Table => wipes::table(&records),
        Output::Wide => wipes::wide(&records),
    })
}

async fn problems(options: ProblemsOptions) -> anyhow::Result<String> {
    let pool = options.pool.map(String::from).unwrap_or_default();
    let problems = ask_problems(&options.server, pool).await?;
    Ok(match options.output {
        ProblemsOutput::Text => table::problems(&problems),
        ProblemsOutput::Json => {
            let object = |one: &operator::Problem| {
                json!({
                    "pool": one.pool, "path": one.path, "kind": one.kind, "message": one.message
                })
            };
            let objects: Vec<_> = problems.iter().map(object).collect();
            serde_json::to_string_pretty(&objects).map_err(Error::Answer)? + "\n"
        }
    })
}

async fn ask_problems(
    server: &ServerOptions,
    pool: String,
) -> Result<Vec<operator::Problem>, Error> {
    let request = operator::ListProblemsRequest { pool };
    let mut stream = ask(server, async |client| client.list_problems(request).await).await?;
    let mut problems = Vec::new();
    while let Some(problem) = stream.next().await {
        problems.push(problem.map_err(|status| Error::Refused(status.message().to_owned()))?);
    }
    Ok(problems)
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

fn read(volume: Option<operator::Volume>) -> Result<LocalVolume, Error> {
    serde_json::from_str(&volume.unwrap_or_default().json).map_err(Error::Answer)
}

fn said(done: &str, volume: &LocalVolume) -> anyhow::Result<()> {
    Ok(print(&format!("volume {} {done}; it is {} now\n", volume.name, volume.phase()))?)
}
