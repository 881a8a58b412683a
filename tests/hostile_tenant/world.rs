//! A pool with a tenant's volume, a neighbour's, and a decoy beside them, on whichever file system.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use berth::csi::proto::operator_v1alpha1 as operator;
use berth::volume::{CleanReason, LocalVolume, Phase};

use crate::census::{census, looks, require_empty};
use crate::support::{self, Berth, Host, MIB, requests};

/// How long a wipe may be without a sign of life before a test gives up on it.
const PATIENCE: Duration = Duration::from_mins(2);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// How long attackers race the cleaner: some seconds, or a minute where everything is to be proved.
pub(crate) fn race_time() -> Duration {
    Duration::from_secs(if proves() { 60 } else { 3 })
}

/// Whether everything is to be proved, however long that takes.
pub(crate) fn proves() -> bool {
    std::env::var("BERTH_PROVE").is_ok_and(|set| set != "0" && !set.is_empty())
}

/// Whether the machine can make that file system.
pub(crate) fn can_make(fs_type: &str) -> bool {
    let found = ["/usr/sbin", "/sbin", "/usr/bin"];
    let can = fs_type == "tmpfs"
        || fs_type == "overlay"
        || found.iter().any(|place| Path::new(place).join(format!("mkfs.{fs_type}")).exists());
    if !can {
        eprintln!("skipped: there is no mkfs.{fs_type}");
    }
    can
}

/// A volume `v1` that a tenant holds, `v2` that another does, and what must not change.
pub(crate) struct World {
    pub(crate) host: Host,
    pub(crate) berth: Berth,
    /// The tenant's volume.
    pub(crate) id: String,
    /// Where the tenant has it.
    pub(crate) target: PathBuf,
    /// Where the node has it.
    pub(crate) source: PathBuf,
    /// A directory on the same file system, in which the attackers may do what they like.
    pub(crate) aside: PathBuf,
    /// A directory on the same file system that must not change.
    pub(crate) decoy: PathBuf,
    guarded: Vec<PathBuf>,
    before: Vec<Vec<String>>,
    looked: String,
}

impl World {
    /// Plain directories, which share a file system of type `fs_type` with the decoy.
    pub(crate) fn of_directories(fs_type: &str, clean: &str) -> Self {
        let mut host = Host::new();
        let ground = host.path("ground");
        fs::create_dir(&ground).unwrap();
        match fs_type {
            "tmpfs" => support::mount(&["-t", "tmpfs", "tmpfs"], &ground),
            "overlay" => {
                for name in ["lower", "upper", "work"] {
                    fs::create_dir(host.path(name)).unwrap();
                }
                let at = |name| host.path(name).display().to_string();
                let (lower, upper, work) = (at("lower"), at("upper"), at("work"));
                let options = format!("lowerdir={lower},upperdir={upper},workdir={work}");
                support::mount(&["-t", "overlay", "-o", &options, "overlay"], &ground);
            }
            _ => {
                let device = host.device(400 * MIB);
                make_filesystem(fs_type, &device);
                support::mount(&["-t", fs_type, device.to_str().unwrap()], &ground);
            }
        }
        for entry in ["v1", "v2"] {
            fs::create_dir_all(ground.join("pool").join(entry)).unwrap();
        }
        Self::begin(host, &ground, &ground.join("pool"), clean)
    }

    /// Whole file systems of type `fs_type`, one for each volume; the decoy is elsewhere.
    pub(crate) fn of_mounts(fs_type: &str, clean: &str) -> Self {
        let mut host = Host::new();
        let pool = host.pool("pool");
        for entry in ["v1", "v2"] {
            let device = host.device(400 * MIB);
            make_filesystem(fs_type, &device);
            let path = host.directory("pool", entry);
            support::mount(&["-t", fs_type, device.to_str().unwrap()], &path);
        }
        let ground = host.path("ground");
        fs::create_dir(&ground).unwrap();
        Self::begin(host, &ground, &pool, clean)
    }

    fn begin(host: Host, ground: &Path, pool: &Path, clean: &str) -> Self {
        let (decoy, aside) = (ground.join("decoy"), ground.join("aside"));
        fs::create_dir(&aside).unwrap();
        plant(&decoy);
        let (path, source) = (pool.display(), pool.join("v1"));
        let config = format!(
            "pools: {{fast: {{path: {path}, accept: [mount, directory], clean: {clean}}}}}"
        );
        let looked = looks(&source);
        let berth = Berth::start(&host, &config);
        for entry in ["v1", "v2"] {
            berth.wait_phase(entry, Phase::Available);
        }
        let take = |name: &str| {
            let id = berth.create(name, "fast", 1).unwrap().volume_id;
            let target = berth.publish(&host, &id).unwrap();
            (id, target)
        };
        // Either volume may be given first.
        let mut tenants = [take("pvc-1"), take("pvc-2")];
        if !tenants[0].0.starts_with(berth.volume("v1").unwrap().name.as_str()) {
            tenants.swap(0, 1);
        }
        let [(id, target), (_, neighbour)] = tenants;
        plant(&neighbour.join("data"));
        let guarded = vec![decoy.clone(), pool.join("v2")];
        let mut world = Self {
            host,
            berth,
            id,
            target,
            source,
            aside,
            decoy,
            guarded,
            before: Vec::new(),
            looked,
        };
        world.before = world.census();
        world
    }

    fn census(&self) -> Vec<Vec<String>> {
        self.guarded.iter().map(|path| census(path)).collect()
    }

    /// Takes the volume away from its tenant, and lets it be wiped.
    pub(crate) fn release(&self) {
        // A program that another test starts has what is open here for a moment, and an orchestrator asks again.
        self.berth.wait_for("the volume to be taken away", |berth| {
            berth.unpublish(&self.host, &self.id).ok()
        });
        self.berth.delete(&self.id).unwrap();
    }

    pub(crate) fn volume(&self) -> LocalVolume {
        self.berth.volume("v1").unwrap()
    }

    /// Has the wipe tried again at once.
    pub(crate) fn clean_again(&self) {
        let request = operator::CleanVolumeRequest { name: self.volume().name.to_string() };
        self.berth.operator(async |client| client.clean_volume(request).await).unwrap();
    }

    /// Waits until the wipe says of itself what has these words, for this reason.
    pub(crate) fn wait_said(&self, reason: CleanReason, words: &str) -> String {
        self.berth.wait_for(&format!("{reason:?}: {words}"), |_| {
            let clean = self.volume().status.conditions.clean;
            (clean.reason == reason && clean.message.contains(words))
                .then(|| clean.message.to_string())
        })
    }

    /// Waits until the volume is offered again, and checks everything; the wipe is tried again whenever it failed.
    pub(crate) fn require_clean(&self) {
        self.until_offered();
        require_empty(&self.source);
        assert_eq!(looks(&self.source), self.looked);
        self.require_nothing_else_touched();
        self.require_next_tenant_finds_nothing();
    }

    /// Waits until the volume is offered again, as long as something becomes of its wipe. One that failed is tried again.
    fn until_offered(&self) {
        let (mut last, mut begun) = (None, Instant::now());
        loop {
            let LocalVolume { status, .. } = &self.volume();
            if self.volume().is_claimable() {
                return;
            }
            let clean = &status.conditions.clean;
            let now = Some((clean.message.clone(), status.cleaning.clone()));
            if last != now {
                (last, begun) = (now, Instant::now());
                if clean.reason == CleanReason::WipeFailed {
                    self.clean_again();
                }
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "not offered again: {status:?}; {}",
                self.berth.log()
            );
            std::thread::park_timeout(PAUSE);
        }
    }

    pub(crate) fn require_nothing_else_touched(&self) {
        for (before, now) in self.before.iter().zip(self.census()) {
            let differs = before.iter().zip(&now).find(|(one, other)| one != other);
            assert!(*before == now, "{differs:?}; {} and {} entries", before.len(), now.len());
        }
    }

    fn require_next_tenant_finds_nothing(&self) {
        let next = self.berth.create("pvc-next", "fast", 1).unwrap().volume_id;
        let target = self.berth.publish(&self.host, &next).unwrap();
        require_empty(&target);
        fs::write(target.join("the next tenant's"), "data").unwrap();
        self.berth.unpublish(&self.host, &next).unwrap();
        self.berth.delete(&next).unwrap();
    }

    /// How full the volume is at its target; that of one which was taken away fails.
    pub(crate) fn stats(&self) -> bool {
        let request = berth::csi::proto::csi_v1::NodeGetVolumeStatsRequest {
            volume_id: self.id.clone(),
            volume_path: requests::text(&self.target),
            ..Default::default()
        };
        self.berth.node(async |client| client.node_get_volume_stats(request).await).is_ok()
    }
}

fn make_filesystem(fs_type: &str, device: &Path) {
    // With room for as many files as the attackers make.
    let arguments: &[&str] = if fs_type == "ext4" { &["-F", "-N", "200000"] } else { &["-f"] };
    let mut command = std::process::Command::new(format!("mkfs.{fs_type}"));
    support::run(command.args(arguments).arg("-q").arg(device));
}

/// A tree in which every kind of thing is, each with something that is easily changed by mistake.
fn plant(at: &Path) {
    fs::create_dir_all(at.join("deep/deeper")).unwrap();
    for number in 0..40 {
        fs::write(at.join(number.to_string()), format!("kept {number}")).unwrap();
        fs::write(at.join("deep/deeper").join(number.to_string()), "kept").unwrap();
    }
    fs::create_dir(at.join("closed")).unwrap();
    fs::set_permissions(at.join("closed"), std::os::unix::fs::PermissionsExt::from_mode(0o2700))
        .unwrap();
    symlink("deep", at.join("link")).unwrap();
    let none = rustix::fs::XattrFlags::empty();
    // A tmpfs of an old kernel has none.
    let _ = rustix::fs::setxattr(at.join("1"), "user.kept", b"kept", none);
}
