//! Hostile tenants and hostile callers: whatever lies in a volume, and whatever stands in a request, nothing outside the
//! volume changes by one byte and the server goes on.

#![expect(clippy::unwrap_used, reason = "a test panics where something is not as it must be")]

mod support;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use berth::csi::proto::csi_v1 as csi;
use berth::volume::Phase;
use support::{Berth, Host, MIB, fingerprint_of_tree, requests};
use tonic::Code;

fn config(host: &Host) -> String {
    format!(
        "pools: {{fast: {{path: {}, accept: [mount, directory]}}}}",
        host.pool("fast").display()
    )
}

/// A volume that a tenant holds and has published, and something outside that must not change.
struct Prey {
    host: Host,
    berth: Berth,
    id: String,
    target: PathBuf,
    outside: PathBuf,
    before: Vec<String>,
}

impl Prey {
    fn new() -> Self {
        let host = Host::new();
        host.directory("fast", "v1");
        let outside = host.path("outside");
        fs::create_dir_all(outside.join("a/b")).unwrap();
        for number in 0..40 {
            fs::write(outside.join(number.to_string()), format!("kept {number}")).unwrap();
            fs::write(outside.join("a/b").join(number.to_string()), "kept").unwrap();
        }
        let berth = Berth::start(&host, &config(&host));
        berth.wait_phase("v1", Phase::Available);
        let id = berth.create("pvc-1", "fast", 1).unwrap().volume_id;
        let target = berth.publish(&host, &id).unwrap();
        let before = fingerprint_of_tree(&outside);
        Self { host, berth, id, target, outside, before }
    }

    fn release(&self) {
        self.berth.unpublish(&self.host, &self.id).unwrap();
        self.berth.delete(&self.id).unwrap();
    }

    fn require_clean_and_nothing_else_touched(&self) {
        let volume = self.berth.wait_phase("v1", Phase::Available);
        assert_eq!(fs::read_dir(&volume.status.path).unwrap().count(), 0);
        assert_eq!(fingerprint_of_tree(&self.outside), self.before);
    }
}

#[test]
fn symlinks_hard_links_devices_and_odd_names_go_and_what_they_lead_to_stays() {
    let prey = Prey::new();
    let target = &prey.target;
    symlink(&prey.outside, target.join("to a directory")).unwrap();
    symlink(prey.outside.join("1"), target.join("to a file")).unwrap();
    symlink("/", target.join("to the root")).unwrap();
    fs::create_dir(target.join("deep")).unwrap();
    symlink("../../../../outside", target.join("deep/relative")).unwrap();
    fs::write(target.join("x".repeat(255)), "").unwrap();
    for arguments in
        [["fifo", "p"].as_slice(), &["null", "c", "1", "3"], &["disk", "b", "7", "250"]]
    {
        support::run(std::process::Command::new("mknod").current_dir(target).args(arguments));
    }
    // The volume is a plain directory on the same file system: a tenant cannot link outside, its node's owner could.
    let source = prey.berth.volume("v1").unwrap().status.path;
    fs::hard_link(prey.outside.join("2"), Path::new(&source).join("hard")).unwrap();

    prey.release();

    prey.require_clean_and_nothing_else_touched();
}

#[test]
fn a_mount_beneath_a_volume_stops_its_wipe_and_keeps_its_files() {
    let prey = Prey::new();
    let source = PathBuf::from(prey.berth.volume("v1").unwrap().status.path.as_str());
    let nested = source.join("nested");
    fs::create_dir(&nested).unwrap();
    support::mount(&["--bind", prey.outside.to_str().unwrap()], &nested);

    prey.release();
    prey.berth.wait_for("the wipe to wait", |berth| {
        let volume = berth.volume("v1")?;
        volume.status.conditions.clean.message.contains("nested").then_some(())
    });

    assert_eq!(fingerprint_of_tree(&prey.outside), prey.before);
    support::unmount(&nested);
    prey.require_clean_and_nothing_else_touched();
}

#[test]
fn nothing_outside_changes_while_somebody_swaps_directories_for_symlinks_under_the_cleaner() {
    let prey = Prey::new();
    let source = PathBuf::from(prey.berth.volume("v1").unwrap().status.path.as_str());
    for number in 0..300 {
        fs::create_dir_all(source.join(format!("d{number}/e"))).unwrap();
        fs::write(source.join(format!("d{number}/e/f")), "").unwrap();
    }
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut number = 0;
            while !over.load(Ordering::Relaxed) {
                number = (number + 1) % 300;
                let directory = source.join(format!("d{number}"));
                let aside = source.join("aside");
                if fs::rename(&directory, &aside).is_ok() {
                    let _ = symlink(&prey.outside, &directory);
                    let _ = fs::remove_file(&directory);
                    let _ = fs::rename(&aside, &directory);
                }
            }
        });
        prey.release();
        // The wipe may have to be tried again; in the end there is nothing left to swap.
        prey.berth.wait_phase("v1", Phase::Available);
        over.store(true, Ordering::Relaxed);
    });

    prey.require_clean_and_nothing_else_touched();
}

#[test]
fn no_volume_id_becomes_a_path_or_ends_the_server() {
    let prey = Prey::new();
    let long = "x".repeat(1 << 20);
    let ids =
        ["../outside", "/etc@1", "..@1", "%2e%2e%2f@1", "v1/../v2@1", "a\0b@1", "@", "🦀@1", &long];

    for id in ids {
        prey.berth.delete(id).unwrap();
        let get = csi::ControllerGetVolumeRequest { volume_id: id.into() };
        let refused = prey.berth.controller(async |client| client.controller_get_volume(get).await);
        assert_eq!(refused.unwrap_err().code(), Code::NotFound, "{}", &id[..id.len().min(40)]);
        let staging = prey.host.path("kubelet/staging");
        let refused = prey
            .berth
            .node(async |client| client.node_stage_volume(requests::stage(id, &staging)).await);
        assert_eq!(refused.unwrap_err().code(), Code::NotFound);
        let unpublish = requests::unpublish(id, &prey.outside);
        prey.berth.node(async |client| client.node_unpublish_volume(unpublish).await).unwrap();
        let stats = csi::NodeGetVolumeStatsRequest {
            volume_id: id.into(),
            volume_path: prey.target.display().to_string(),
            ..Default::default()
        };
        let refused = prey.berth.node(async |client| client.node_get_volume_stats(stats).await);
        assert_eq!(refused.unwrap_err().code(), Code::NotFound);
    }

    assert_eq!(fingerprint_of_tree(&prey.outside), prey.before);
    prey.release();
    prey.require_clean_and_nothing_else_touched();
}

#[test]
fn a_target_that_is_no_place_for_a_volume_is_refused_and_left_alone() {
    let prey = Prey::new();
    let staging = requests::staging_path(&prey.host, &prey.id);
    let link = prey.host.path("kubelet/link");
    symlink(&prey.outside, &link).unwrap();
    let kubelet = prey.host.path("kubelet").display().to_string();
    let file = prey.outside.join("1").display().to_string();
    let targets =
        ["relative/path", "/", &format!("{kubelet}/../outside/x"), &file, link.to_str().unwrap()];

    for target in targets {
        let publish = requests::publish(&prey.id, &staging, Path::new(target));
        let refused =
            prey.berth.node(async |client| client.node_publish_volume(publish).await).unwrap_err();
        let expected = [Code::InvalidArgument, Code::FailedPrecondition];
        assert!(expected.contains(&refused.code()), "{target}: {refused:?}");
    }

    assert_eq!(fingerprint_of_tree(&prey.outside), prey.before);
    assert_eq!(fs::read_link(&link).unwrap(), prey.outside);
    prey.release();
}

#[test]
fn unpublishing_never_deletes_what_lies_at_the_target() {
    let prey = Prey::new();
    let unpublish = requests::unpublish(&prey.id, &prey.outside);

    let answer = prey.berth.node(async |client| client.node_unpublish_volume(unpublish).await);

    assert!(answer.is_ok() || answer.unwrap_err().code() == Code::FailedPrecondition);
    assert_eq!(fingerprint_of_tree(&prey.outside), prey.before);
    prey.release();
}

#[test]
fn nobody_but_the_owner_may_connect_to_the_socket() {
    use std::os::unix::fs::PermissionsExt;
    let host = Host::new();
    host.tmpfs("fast", "v1", MIB);
    let _berth = Berth::start(&host, &config(&host));

    let mode = fs::metadata(host.path("run/csi.sock")).unwrap().permissions().mode();

    assert_eq!(mode & 0o777, 0o600);
}
