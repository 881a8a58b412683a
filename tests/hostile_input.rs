//! Hostile input over the real socket: every call, with ids, paths, contexts, capabilities, flags and sizes of any kind.
//! Afterwards nothing outside has changed by a byte, the server lives, nothing is mounted but what was asked for beneath
//! the orchestrator's directory, and no answer was a fault of the server's.
//!
//! `BERTH_PROVE=1` runs sixty times as many sequences of calls. The parsers alone have fuzz targets, whose corpus is
//! replayed by `src/hostile`: see `fuzz/README.md`.

#![expect(clippy::unwrap_used, reason = "a test panics where something is not as it must be")]

#[path = "hostile_input/calls.rs"]
mod calls;
mod support;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use berth::csi::proto::csi_v1 as csi;
use berth::host::mountinfo::MountTable;
use berth::volume::Phase;
use calls::{Call, calls};
use csi::volume_capability::access_mode::Mode;
use csi::volume_capability::{AccessType, MountVolume};
use proptest::prelude::*;
use proptest::test_runner::{TestCaseError, TestRunner};
use support::{Berth, Host, MIB, fingerprint_of_tree, requests};
use tonic::Code;

/// Bytes of the largest message that the server takes.
const MESSAGE: usize = 4 << 20;

/// A host with volumes of each kind, an orchestrator's directory with traps in it, and things outside that must not
/// change.
struct Scene {
    host: Host,
    berth: Berth,
    id: String,
    kept: Vec<(PathBuf, Vec<String>)>,
}

impl Scene {
    fn new() -> Self {
        let mut host = Host::new();
        host.tmpfs("fast", "v0", MIB);
        host.tmpfs("fast", "v1", 2 * MIB);
        host.directory("fast", "plain");
        host.block("raw", "disk", 4 * MIB);
        for path in ["outside/empty", "outside/a/b", "kubelet/pods/real", "kubelet/foreign"] {
            fs::create_dir_all(host.path(path)).unwrap();
        }
        for path in ["outside/file", "outside/a/b/file", "kubelet/foreign/file"] {
            fs::write(host.path(path), path).unwrap();
        }
        fs::write(host.path("outside/none"), "").unwrap();
        symlink(host.path("outside"), host.path("kubelet/link")).unwrap();
        symlink("loop", host.path("kubelet/loop")).unwrap();
        symlink(host.pool("fast"), host.path("kubelet/pool")).unwrap();
        fs::create_dir(host.path("kubelet/pods/bound")).unwrap();
        let outside = host.path("outside").display().to_string();
        support::mount(&["--bind", &outside], &host.path("kubelet/pods/bound"));
        let berth = Berth::start_with(&host, &config(&host), &["--mount-root", &kubelet(&host)]);
        berth.wait_phase("v1", Phase::Available);
        let id = berth.create("pvc-live", "fast", MIB).unwrap().volume_id;
        let kept = ["outside", "kubelet/foreign"].map(|path| host.path(path));
        let kept = kept.map(|path| (path.clone(), fingerprint_of_tree(&path))).into();
        Self { host, berth, id, kept }
    }

    /// Nothing that is not Berth's has changed, and nothing is mounted where nothing may be.
    fn require_intact(&self) {
        for (path, before) in &self.kept {
            assert_eq!(&fingerprint_of_tree(path), before, "{} has changed", path.display());
        }
        let (root, kubelet) = (self.host.path(""), self.host.path("kubelet"));
        let administrators = ["", "pools/fast/v0", "pools/fast/v1", "kubelet/pods/bound"];
        let administrators = administrators.map(|path| self.host.path(path));
        for mount in MountTable::read().unwrap().iter() {
            let point = &mount.mount_point;
            let is_own = administrators.iter().any(|own| own == point);
            let is_tenants = point.starts_with(&kubelet)
                && !point.starts_with(kubelet.join("pods/bound"))
                && !point.starts_with(kubelet.join("foreign"));
            assert!(!point.starts_with(&root) || is_own || is_tenants, "{mount:?}");
        }
        for own in &administrators[1..] {
            assert_eq!(support::mounts_at(own), 1, "{}", own.display());
        }
        assert!(!self.berth.volumes().is_empty(), "the server answers no more");
    }
}

fn kubelet(host: &Host) -> String {
    requests::text(&host.path("kubelet"))
}

fn config(host: &Host) -> String {
    format!(
        "pools: {{fast: {{path: {}, accept: [mount, directory]}}, raw: {{path: {}, mode: Block, newVolumes: accept}}}}",
        host.pool("fast").display(),
        host.pool("raw").display()
    )
}

#[test]
fn whatever_is_called_in_whatever_order_nothing_outside_changes_and_nothing_is_the_servers_fault() {
    // A tree of requests of any kind takes more than a test's own stack.
    let builder = std::thread::Builder::new().stack_size(256 << 20);
    let called = builder.spawn(call_in_whatever_order).unwrap();
    if let Err(panic) = called.join() {
        std::panic::resume_unwind(panic);
    }
}

fn call_in_whatever_order() {
    let scene = Scene::new();
    let cases = if std::env::var_os("BERTH_PROVE").is_some() { 720 } else { 12 };
    let config = ProptestConfig {
        cases,
        max_shrink_iters: 40,
        failure_persistence: None,
        ..Default::default()
    };

    let ran = TestRunner::new(config).run(&calls(), |calls| {
        for call in calls {
            let told = format!("{call:?}").chars().take(600).collect::<String>();
            if let Err(refused) = scene.make(call) {
                let fault = matches!(
                    refused.code(),
                    Code::Internal | Code::Unknown | Code::DataLoss | Code::Unimplemented
                );
                let short = refused.message().len() < 20_000 && refused.details().is_empty();
                if fault || !short {
                    return Err(TestCaseError::fail(format!("{told}: {refused:?}")));
                }
            }
        }
        scene.require_intact();
        Ok(())
    });

    if let Err(error) = ran {
        panic!("{error}");
    }
}

#[test]
fn a_place_outside_the_orchestrators_directory_is_refused_by_every_call_and_left_alone() {
    let scene = Scene::new();
    let staging = scene.host.path("kubelet/staging");
    let stage = requests::stage(&scene.id, &staging);
    scene.berth.node(async |client| client.node_stage_volume(stage).await).unwrap();

    for place in [
        "~/outside/empty",
        "~/outside/new",
        "~/outside/none",
        "~/outside/empty/",
        "~//outside/./empty/.",
        "~/kubelet/../outside/empty",
        "~/kubelet/link/empty",
        "~/kubelet/link/new",
        "~/kubelet/link/a/b",
        "~/kubelet/pods/bound/empty",
        "~/kubelet/pods/bound/new",
        "~/kubelet/loop/x",
        "~/kubelet",
        "~/kubelet/",
        "~/kubelet/.",
        "~/kubelet2/x",
        "~/ｋubelet/x",
        "~/kubelet/pool/v0",
        "~/pools/fast/v0",
        "/proc/self/root/tmp/x",
        "/etc/x",
        "/",
    ] {
        let path = PathBuf::from(scene.here(place));
        let call = |call| scene.make(call).map_err(|status| status.code());
        let (volume_id, text) = (scene.id.clone(), requests::text(&path));
        let (stage, publish) =
            (requests::stage(&volume_id, &path), requests::publish(&volume_id, &staging, &path));
        for refused in [
            call(Call::Stage(stage)),
            call(Call::Publish(publish)),
            call(Call::Unpublish(requests::unpublish(&volume_id, &path))),
            call(Call::Unstage(requests::unstage(&volume_id, &path))),
        ] {
            assert_eq!(refused, Err(Code::InvalidArgument), "{place}");
        }
        let stats = csi::NodeGetVolumeStatsRequest {
            volume_id: volume_id.clone(),
            volume_path: text.clone(),
            ..Default::default()
        };
        let expand =
            csi::NodeExpandVolumeRequest { volume_id, volume_path: text, ..Default::default() };
        for refused in [call(Call::Stats(stats)), call(Call::Expand(expand))] {
            assert_eq!(refused, Err(Code::NotFound), "{place}");
        }
        scene.require_intact();
    }
}

#[test]
fn a_name_in_another_normalisation_is_another_place_and_each_is_taken_away_alone() {
    let scene = Scene::new();
    let names =
        ["é", "e\u{301}", "ｔ", "t\u{200b}"].map(|name| scene.host.path("kubelet").join(name));
    let staging = scene.host.path("kubelet/staging");
    let stage = requests::stage(&scene.id, &staging);
    scene.berth.node(async |client| client.node_stage_volume(stage).await).unwrap();
    let publish = |target: &Path| {
        let request = requests::publish(&scene.id, &staging, target);
        scene.berth.node(async |client| client.node_publish_volume(request).await)
    };

    for name in &names {
        publish(name).unwrap();
    }
    let unpublish = requests::unpublish(&scene.id, &names[0]);
    scene.berth.node(async |client| client.node_unpublish_volume(unpublish).await).unwrap();

    let mounted: Vec<_> = names.iter().map(|name| support::mounts_at(name)).collect();
    assert_eq!((mounted, names[0].exists()), (vec![0, 1, 1, 1], false));
    scene.require_intact();
}

#[test]
fn a_message_is_taken_up_to_four_mebibytes_and_refused_beyond() {
    let scene = Scene::new();
    let delete = |length: usize| {
        let volume_id = "x".repeat(length);
        scene.make(Call::Delete(csi::DeleteVolumeRequest { volume_id, ..Default::default() }))
    };

    // An id that no volume has is deleted already.
    delete(MESSAGE - 64).unwrap();
    for length in [MESSAGE, MESSAGE + 1, 2 * MESSAGE, 8 * MESSAGE] {
        let refused = delete(length).unwrap_err();
        let expected = [Code::OutOfRange, Code::ResourceExhausted];
        assert!(expected.contains(&refused.code()), "{length}: {refused:?}");
    }

    scene.require_intact();
}

#[test]
fn a_capability_that_nobody_can_have_is_refused_whatever_it_is_made_of() {
    let scene = Scene::new();
    let mount = |flags: &[&str]| {
        let mount_flags = flags.iter().map(ToString::to_string).collect();
        AccessType::Mount(MountVolume { mount_flags, ..Default::default() })
    };
    for (kind, mode) in [
        (mount(&["suid", "dev"]), Mode::SingleNodeWriter),
        (mount(&["bind", "remount,rw"]), Mode::SingleNodeWriter),
        (mount(&["ro\0"]), Mode::SingleNodeWriter),
        (mount(&["context=system_u:object_r:etc_t:s0"]), Mode::SingleNodeWriter),
        (mount(&[]), Mode::MultiNodeMultiWriter),
        (mount(&[]), Mode::Unknown),
        (mount(&["ro"]), Mode::SingleNodeWriter),
    ] {
        let capability = requests::capability(kind, mode);
        let mut create = requests::create("pvc-other", "fast", 1);
        create.volume_capabilities = vec![capability.clone()];
        let mut stage = requests::stage(&scene.id, &scene.host.path("kubelet/staging"));
        stage.volume_capability = Some(capability.clone());

        for refused in [scene.make(Call::Create(create)), scene.make(Call::Stage(stage))] {
            assert_eq!(
                refused.map_err(|status| status.code()),
                Err(Code::InvalidArgument),
                "{capability:?}"
            );
        }
    }
    scene.require_intact();
}
