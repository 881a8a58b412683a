//! Many volumes, few places, and an end that does not wait for what hangs.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::super::queue::{self, Attempts};
use super::super::{CleanPolicy, Event, Instant, Queue, mpsc};
use super::world::in_world;
use crate::host::mount::fixture::{Disk, bind, mount, unmount};
use crate::inventory::Inventory;
use crate::volume::{AccessMode, CleanMethod, CleanReason, LocalVolume, Mode, Published};

#[test]
fn many_volumes_are_wiped_though_only_two_at_a_time() {
    in_world(async |world| {
        // Each wipe says that it runs, waits for the word, and says how many ran beside it.
        let (runs, log) = (world.base.join("runs"), world.base.join("log"));
        fs::create_dir(&runs).unwrap();
        let script = format!(
            "touch {runs}/$BERTH_VOLUME; while ! test -e {go}; do sleep 0.01; done; \
             sleep 0.05; ls {runs} | wc -l >> {log}; rm -rf $BERTH_PATH/* {runs}/$BERTH_VOLUME",
            runs = runs.display(),
            go = world.base.join("go").display(),
            log = log.display(),
        );
        let command = ["/bin/sh", "-c", &script].map(str::to_owned).to_vec();
        let method = CleanMethod::Command { command, timeout: 600 };
        let mut names = Vec::new();
        for number in 0..10 {
            let path = world.base.join(format!("d{number}"));
            fs::create_dir(&path).unwrap();
            fs::write(path.join("data"), "").unwrap();
            let policy = CleanPolicy { method: method.clone(), verify: false };
            names.push(world.released_by(&path, Mode::Filesystem, policy).await);
        }
        let (cancel, running) = world.clean();
        while fs::read_dir(&runs).unwrap().count() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        fs::write(world.base.join("go"), "").unwrap();
        for name in &names {
            world.until(name, LocalVolume::is_claimable).await;
        }
        cancel.cancel();
        running.await.unwrap();

        let counts = fs::read_to_string(log).unwrap();
        let counts: Vec<u32> = counts.lines().map(|line| line.trim().parse().unwrap()).collect();
        assert_eq!((counts.len(), counts.iter().max()), (10, Some(&2)), "{counts:?}");
    });
}

#[test]
fn volumes_in_use_keep_no_others_waiting_and_a_mount_that_goes_is_noticed_at_once() {
    in_world(async |world| {
        let policy = || CleanPolicy { method: CleanMethod::Delete, verify: false };
        let mut used = Vec::new();
        for number in 0..6 {
            let path = world.base.join(format!("a{number}"));
            fs::create_dir(&path).unwrap();
            bind(&path, &world.base.join(format!("pods/{number}")));
            used.push(world.released_by(&path, Mode::Filesystem, policy()).await);
        }
        let (cancel, running) = world.clean();
        let in_use = |v: &LocalVolume| v.status.conditions.clean.reason == CleanReason::StillInUse;
        for name in &used {
            world.until(name, in_use).await;
        }

        // Its name comes after theirs.
        let path = world.base.join("z");
        fs::create_dir(&path).unwrap();
        let last = world.released_by(&path, Mode::Filesystem, policy()).await;
        world.until(&last, LocalVolume::is_claimable).await;

        for (number, name) in used.iter().enumerate() {
            unmount(&world.base.join(format!("pods/{number}")));
            world.until(name, LocalVolume::is_claimable).await;
        }
        cancel.cancel();
        running.await.unwrap();
    });
}

#[test]
fn wipes_that_hang_keep_no_others_waiting() {
    in_world(async |world| {
        world.patience.set(Duration::from_millis(50));
        let mut frozen = Vec::new();
        // As many as there are places.
        for number in 0..2 {
            let disk = Disk::formatted("ext4", 32);
            let path = world.base.join(format!("a{number}"));
            mount("ext4", disk.path(), &path);
            fs::write(path.join("data"), "").unwrap();
            let name = world.released(&path, Mode::Filesystem, CleanMethod::Delete).await;
            freeze("--freeze", &path);
            frozen.push((disk, path, name));
        }
        let path = world.base.join("z");
        fs::create_dir(&path).unwrap();
        let (cancel, running) = world.clean();
        for (_, _, name) in &frozen {
            world.until(name, |volume| volume.status.cleaning.is_some()).await;
        }

        let other = world.released(&path, Mode::Filesystem, CleanMethod::Delete).await;
        world.until(&other, LocalVolume::is_claimable).await;

        for (_, path, name) in &frozen {
            assert!(!world.volume(name).await.is_claimable());
            freeze("--unfreeze", path);
            world.until(name, LocalVolume::is_claimable).await;
        }
        cancel.cancel();
        running.await.unwrap();
    });
}

/// Runs fsfreeze(8) with `how` on the file system at `path`.
fn freeze(how: &str, path: &Path) {
    assert!(Command::new("fsfreeze").arg(how).arg(path).status().unwrap().success());
}

#[test]
fn a_volume_is_wiped_once_it_is_recorded_nowhere_though_no_mount_tells_of_that() {
    in_world(async |world| {
        let path = world.base.join("v1");
        fs::create_dir(&path).unwrap();
        let name = world.released(&path, Mode::Filesystem, CleanMethod::Delete).await;
        fs::write(path.join("data"), "a tenant's").unwrap();
        let is_at = async |places: &[&str]| {
            let record = |volume: &LocalVolume| {
                let mut status = volume.status.clone();
                status.published = places.iter().map(|at| staged(at)).collect();
                Some(status)
            };
            world.inventory.modify_status(&name, record).await.unwrap();
        };
        is_at(&["/kubelet/staging", "/kubelet/target"]).await;
        let (cancel, running) = world.clean();
        let waits_for = |part: &'static str| {
            move |volume: &LocalVolume| {
                let clean = &volume.status.conditions.clean;
                clean.reason == CleanReason::StillInUse && clean.message.ends_with(part)
            }
        };

        world.until(&name, waits_for("/kubelet/staging, /kubelet/target")).await;
        is_at(&["/kubelet/staging"]).await;
        world.until(&name, waits_for(": /kubelet/staging")).await;
        assert!(path.join("data").exists());
        is_at(&[]).await;
        world.until(&name, LocalVolume::is_claimable).await;

        assert!(!path.join("data").exists());
        cancel.cancel();
        running.await.unwrap();
    });
}

fn staged(path: &str) -> Published {
    let access = AccessMode::SingleNodeWriter;
    Published { path: path.into(), staging: true, read_only: false, access, flags: None }
}

#[test]
fn an_end_does_not_wait_for_a_device_that_hangs() {
    in_world(async |world| {
        let disk = Disk::formatted("ext4", 32);
        let path = world.base.join("v1");
        mount("ext4", disk.path(), &path);
        let name = world.released(&path, Mode::Filesystem, CleanMethod::Delete).await;
        fs::write(path.join("data"), "").unwrap();
        freeze("--freeze", &path);
        let (cancel, running) = world.clean();
        world.until(&name, |volume| volume.status.cleaning.is_some()).await;

        cancel.cancel();
        let ended = tokio::time::timeout(Duration::from_secs(30), running).await;

        freeze("--unfreeze", &path);
        ended.expect("the cleaner waits for the device").unwrap();
        assert!(!world.volume(&name).await.is_claimable());
        // The thread that was left gives the lock back when the device answers.
        world.cleaned(&name).await;
    });
}

#[test]
fn nothing_is_kept_of_a_volume_that_is_gone() {
    in_world(async |world| {
        let path = world.base.join("v1");
        fs::create_dir(&path).unwrap();
        let name = world.released(&path, Mode::Filesystem, CleanMethod::Delete).await;
        let recorded = world.inventory.get(&name).await.unwrap();
        let cleaner = world.cleaner();
        let (ended, mut results) = mpsc::channel(1);
        let mut queue = Queue::new(&cleaner, ended);

        queue.apply(Event::Reset(vec![recorded.clone()]));
        world.inventory.remove(&name, recorded.version).await.unwrap();
        // Its wipe, which has just begun, finds that there is no such volume.
        queue.act();
        queue.apply(Event::Removed(name.clone(), recorded.version));
        queue.settle(results.recv().await.unwrap()).await;
        let while_it_was_wiped = queue.attempts.clone();
        let order = queue::order(&recorded.volume).unwrap();
        queue.attempts.insert(name, Attempts::failed(None, order, Instant::now()));
        queue.apply(Event::Reset(Vec::new()));

        assert!(while_it_was_wiped.is_empty(), "{while_it_was_wiped:?}");
        assert!(queue.attempts.is_empty(), "{:?}", queue.attempts);
    });
}
