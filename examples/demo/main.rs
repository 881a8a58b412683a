//! A volume's whole life on this machine, shown step by step against the real server, with the time that each took.
//!
//! Everything happens in a mount namespace of its own: five tmpfs stand for disks (and, for root, a loop device), and all
//! of it is gone when the demonstration ends. `make demo` builds and runs it.

#![expect(unreachable_pub, reason = "a program of several files, not a library")]

mod cluster;
mod host;

use std::process::ExitCode;

use anyhow::{Context, anyhow, ensure};
use cluster::Orchestrator;
use host::{Host, MIB};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nThe demonstration failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    // Before any thread is there: a user namespace takes processes of one thread only.
    let unprivileged = berth::host::namespace::enter_private_unprivileged().context(
        "no private mount namespace: run it as root, or allow user namespaces \
         (sysctl -w user.max_user_namespaces=10000)",
    )?;
    let host = Host::prepare(unprivileged)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        tokio::select! {
            shown = show(host) => shown,
            // Whatever ends it, what was prepared is taken away.
            _ = tokio::signal::ctrl_c() => Err(anyhow!("it was interrupted")),
        }
    })
}

async fn show(mut host: Host) -> anyhow::Result<()> {
    host.tell("The server starts and finds what the host has.");
    let mut orchestrator = host.start_server().await?;
    host.step("started and found them all");
    host.show_volumes()?;

    files(&mut host, &mut orchestrator).await?;
    if host.has_device() {
        device(&mut host, &mut orchestrator).await?;
    }

    host.tell("Nobody has 10 GiB to give. The refusal says why, and tells a scheduler to try another node:");
    let refused = orchestrator.create("claim-huge", "fast-disks", 10 << 30).await;
    let refused = refused.err().context("a claim of 10 GiB was granted")?;
    host.step("refused");
    host.say(&format!("{:?}: {}", refused.code(), refused.message()));

    host.tell(
        "The server is asked to end (SIGTERM): calls in flight finish, wipes stop at a safe point.",
    );
    host.stop_server()?;
    host.step("ended with exit status 0");
    host.finish();
    Ok(())
}

/// A directory: claimed, written to, released, wiped, offered again.
async fn files(host: &mut Host, orchestrator: &mut Orchestrator) -> anyhow::Result<()> {
    host.tell(
        "A claim asks for 100 MiB. It gets the smallest volume that fits, and for itself alone.",
    );
    let first = orchestrator.create("claim-1", "fast-disks", 100 * MIB).await?;
    host.step(&format!("claimed {} of {} MiB", first.volume_id, mebibytes(first.capacity_bytes)));

    host.tell("It is mounted where its pod will see it, and the pod writes a file.");
    let target = orchestrator.publish(host, &first.volume_id, false).await?;
    host.step(&format!("staged and published at {}", target.display()));
    std::fs::write(target.join("secret"), "what no other tenant may see\n")?;
    let on_disk = host.source(&first.volume_id)?.join("secret");
    ensure!(on_disk.exists(), "the file is not on the disk");
    host.say(&format!("the file is on the disk: {}", on_disk.display()));

    host.tell("A second claim of 100 MiB gets another volume.");
    let second = orchestrator.create("claim-2", "fast-disks", 100 * MIB).await?;
    ensure!(second.volume_id != first.volume_id, "two claims got one volume");
    host.step(&format!("claimed {} of {} MiB", second.volume_id, mebibytes(second.capacity_bytes)));
    host.show_volumes()?;

    host.tell("The first pod and its claim are deleted. The volume is wiped before anyone may have it again.");
    orchestrator.unpublish(host, &first.volume_id).await?;
    host.step("unpublished and unstaged");
    orchestrator.delete(&first.volume_id).await?;
    host.wait_available(&first.volume_id).await?;
    host.step("deleted, wiped and offered again");
    ensure!(!on_disk.exists(), "the file is still on the disk");
    host.say("the file is gone from the disk");
    host.show_volumes()
}

/// A raw device: the same life.
async fn device(host: &mut Host, orchestrator: &mut Orchestrator) -> anyhow::Result<()> {
    host.tell("A raw block device has the same life; its blocks are zeroed and read back.");
    let volume = orchestrator.create("claim-raw", "raw-disks", 16 * MIB).await?;
    let target = orchestrator.publish(host, &volume.volume_id, true).await?;
    std::fs::write(&target, [0xA5; 4096])?;
    host.step(&format!("claimed, published and written to {}", target.display()));
    orchestrator.unpublish(host, &volume.volume_id).await?;
    orchestrator.delete(&volume.volume_id).await?;
    host.wait_available(&volume.volume_id).await?;
    let bytes = std::fs::read(host.source(&volume.volume_id)?)?;
    ensure!(bytes.iter().all(|byte| *byte == 0), "the device does not read zero");
    host.step(&format!(
        "deleted, wiped and offered again; all {} MiB read zero",
        bytes.len() >> 20
    ));
    Ok(())
}

fn mebibytes(bytes: i64) -> i64 {
    bytes >> 20
}
