//! Power cuts (SIGKILL) at random moments of a storm of claims, mounts, writes and wipes: after each restart the inventory
//! is checked, and at the end every volume is free, clean and empty.

#![expect(clippy::unwrap_used, reason = "a test panics where something is not as it must be")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use berth::csi::proto::csi_v1 as csi;
use berth::volume::Phase;
use csi::controller_client::ControllerClient;
use csi::node_client::NodeClient;
use rustix::process::{Signal, kill_process};
use support::{Berth, HeldMkfs, Host, MIB, requests};
use tonic::Code;
use tonic::transport::Channel;

/// Volumes of the host; half of them tmpfs mounts, half plain directories.
const VOLUMES: usize = 8;
/// Tenants at a time; more than there are volumes, so that some are refused.
const TENANTS: usize = 10;
/// Power cuts.
const CUTS: u32 = 12;
/// Longer than a server takes to end that has no call in flight.
const MOMENT: Duration = Duration::from_secs(1);

/// Numbers that look random, from a seed that is printed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// What one tenant knows of its volume: what was acknowledged, and nothing else.
#[derive(Debug, Default, Clone)]
struct Tenant {
    name: String,
    /// The volume that it was given and has not given back for certain.
    id: Option<String>,
    /// Whether its file is on the volume for certain.
    wrote: bool,
    /// Whether a delete was sent whose answer it does not know.
    deleting: bool,
}

struct Calls<'a> {
    host: &'a Host,
    controller: ControllerClient<Channel>,
    node: NodeClient<Channel>,
}

impl Calls<'_> {
    /// One step of a tenant's life. Any call may fail, as its server may die; the next storm repeats it.
    async fn step(
        &mut self,
        tenant: &mut Tenant,
        generation: &mut u32,
    ) -> Result<(), tonic::Status> {
        let Some(id) = tenant.id.clone() else {
            let request = requests::create(&tenant.name, "fast", 1);
            let created = self.controller.create_volume(request).await?.into_inner();
            tenant.id = Some(created.volume.unwrap().volume_id);
            return Ok(());
        };
        if !tenant.wrote && !tenant.deleting {
            return self.publish_and_write(tenant, &id).await;
        }
        tenant.deleting = true;
        self.give_back(&id).await?;
        *generation += 1;
        *tenant =
            Tenant { name: format!("{}-{generation}", &tenant.name[..7]), ..Tenant::default() };
        Ok(())
    }

    async fn publish_and_write(
        &mut self,
        tenant: &mut Tenant,
        id: &str,
    ) -> Result<(), tonic::Status> {
        let (staging, target) =
            (requests::staging_path(self.host, id), requests::target_path(self.host, id));
        fs::create_dir_all(&staging).unwrap();
        self.node.node_stage_volume(requests::stage(id, &staging)).await?;
        self.node.node_publish_volume(requests::publish(id, &staging, &target)).await?;
        for entry in fs::read_dir(&target).unwrap() {
            let found = entry.unwrap().file_name().into_string().unwrap();
            assert_eq!(found, tenant.name, "a tenant was shown another's file");
        }
        fs::write(target.join(&tenant.name), &tenant.name).unwrap();
        tenant.wrote = true;
        Ok(())
    }

    async fn give_back(&mut self, id: &str) -> Result<(), tonic::Status> {
        let (staging, target) =
            (requests::staging_path(self.host, id), requests::target_path(self.host, id));
        self.node.node_unpublish_volume(requests::unpublish(id, &target)).await?;
        self.node.node_unstage_volume(requests::unstage(id, &staging)).await?;
        let request = csi::DeleteVolumeRequest { volume_id: id.into(), ..Default::default() };
        self.controller.delete_volume(request).await.map(drop)
    }
}

struct Storm {
    host: Host,
    sources: Vec<PathBuf>,
    config: String,
    tenants: Vec<Tenant>,
    dice: Dice,
    generation: u32,
}

impl Storm {
    fn new(seed: u64) -> Self {
        let host = Host::new();
        let entries = (0..VOLUMES).map(|number| format!("v{number}"));
        let sources = entries.map(|entry| match entry.as_bytes()[1] % 2 {
            0 => host.tmpfs("fast", &entry, MIB),
            _ => host.directory("fast", &entry),
        });
        let sources = sources.collect();
        let config = format!(
            "pools: {{fast: {{path: {}, accept: [mount, directory]}}}}",
            host.pool("fast").display()
        );
        let tenant = |number| Tenant { name: format!("pvc-{number:03}"), ..Tenant::default() };
        let tenants = (0..TENANTS).map(tenant).collect();
        Self { host, sources, config, tenants, dice: Dice(seed), generation: 0 }
    }

    /// Lets the tenants live until the power is cut.
    fn rage(&mut self) {
        let berth = Berth::start(&self.host, &self.config);
        self.check(&berth);
        let life = Duration::from_micros(2_000 + self.dice.roll(60_000));
        let pid = berth.pid();
        let over = AtomicBool::new(false);
        let (channel, runtime) = berth.connection();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                // The moment is the dice's; nothing waits for it to pass.
                let began = Instant::now();
                while began.elapsed() < life {
                    std::thread::yield_now();
                }
                kill_process(pid, Signal::KILL).unwrap();
                over.store(true, Ordering::SeqCst);
            });
            let mut calls = Calls {
                host: &self.host,
                controller: ControllerClient::new(channel.clone()),
                node: NodeClient::new(channel.clone()),
            };
            while !over.load(Ordering::SeqCst) {
                let tenant = usize::try_from(self.dice.roll(TENANTS as u64)).unwrap();
                let step = calls.step(&mut self.tenants[tenant], &mut self.generation);
                if let Err(status) = runtime.block_on(step) {
                    Self::allow(&status);
                }
            }
        });
        drop(berth);
    }

    /// What a caller may be told while servers die under it and volumes are few.
    fn allow(status: &tonic::Status) {
        let allowed = [
            Code::Unavailable,
            Code::ResourceExhausted,
            Code::Aborted,
            Code::Cancelled,
            Code::Unknown,
            Code::FailedPrecondition,
        ];
        assert!(allowed.contains(&status.code()), "{status:?}");
    }

    /// What must hold after every power cut.
    fn check(&self, berth: &Berth) {
        let volumes = berth.volumes();
        assert_eq!(volumes.len(), VOLUMES, "a volume was lost");
        let claims: Vec<_> = volumes
            .iter()
            .filter_map(|v| v.spec.claim.as_ref().map(|c| c.name.to_string()))
            .collect();
        assert_eq!(
            claims.iter().collect::<BTreeSet<_>>().len(),
            claims.len(),
            "a name holds two volumes"
        );
        let held: BTreeMap<_, _> =
            volumes.iter().filter_map(|volume| Some((volume.id()?.to_string(), volume))).collect();
        for tenant in self.tenants.iter().filter(|tenant| !tenant.deleting) {
            let Some(id) = &tenant.id else { continue };
            let volume = held.get(id).unwrap_or_else(|| panic!("{tenant:?} lost its claim"));
            assert_eq!(volume.spec.claim.as_ref().unwrap().name.as_str(), tenant.name);
            let file = PathBuf::from(&volume.status.path).join(&tenant.name);
            assert!(!tenant.wrote || file.exists(), "{tenant:?} lost its data");
        }
        for volume in volumes.iter().filter(|volume| volume.is_claimable()) {
            let files = fs::read_dir(&volume.status.path).unwrap().count();
            assert_eq!(files, 0, "{} is offered with data on it", volume.name);
        }
    }

    /// Every tenant gives back what it has; everything is clean again.
    fn end(mut self) {
        let berth = Berth::start(&self.host, &self.config);
        self.check(&berth);
        for tenant in &mut self.tenants {
            if tenant.id.is_none() {
                // Whether its last create was heard it does not know: asking again tells.
                tenant.id =
                    berth.create(&tenant.name, "fast", 1).ok().map(|volume| volume.volume_id);
            }
            if let Some(id) = &tenant.id {
                berth.unpublish(&self.host, id).unwrap();
                berth.delete(id).unwrap();
            }
        }
        for number in 0..VOLUMES {
            berth.wait_phase(&format!("v{number}"), Phase::Available);
        }
        for source in &self.sources {
            assert_eq!(
                fs::read_dir(source).unwrap().count(),
                0,
                "{} is not empty",
                source.display()
            );
        }
        assert!(berth.stop().success());
    }
}

#[test]
fn power_cuts_at_random_moments_lose_no_claim_leak_no_data_and_leave_everything_clean_in_the_end() {
    let seed = std::env::var("BERTH_SEED").ok().and_then(|seed| seed.parse().ok());
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let seed = seed.unwrap_or(u64::try_from(now.as_nanos() & u128::from(u64::MAX)).unwrap() | 1);
    println!("BERTH_SEED={seed}");
    let mut storm = Storm::new(seed);
    for _ in 0..CUTS {
        storm.rage();
    }
    assert!(storm.generation > 0, "no tenancy ended: the storm was none");
    storm.end();
}

/// A server with a call in its middle: a device that is being formatted for the tenant who stages it.
struct InFlight {
    host: Host,
    berth: Berth,
    mkfs: HeldMkfs,
    call: tokio::task::JoinHandle<Result<(), tonic::Status>>,
}

impl InFlight {
    fn begin() -> Self {
        let mut host = Host::new();
        host.block("fast", "d1", 64 * MIB);
        let mkfs = HeldMkfs::new(&host);
        let config =
            format!("pools: {{fast: {{path: {}, accept: [device]}}}}", host.pool("fast").display());
        let berth = Berth::start(&host, &config);
        berth.wait_phase("d1", Phase::Available);
        let id = berth.create("pvc-1", "fast", 1).unwrap().volume_id;
        let staging = requests::staging_path(&host, &id);
        fs::create_dir_all(&staging).unwrap();
        let (channel, runtime) = berth.connection();
        let stage = requests::stage(&id, &staging);
        let call = runtime.spawn(async move {
            NodeClient::new(channel).node_stage_volume(stage).await.map(drop)
        });
        berth.wait_for("the device to be formatted", |_| mkfs.has_begun().then_some(()));
        Self { host, berth, mkfs, call }
    }

    /// Sends SIGTERM, and waits until the server has taken it up.
    fn terminate(&self) {
        self.berth.signal(Signal::TERM);
        self.berth.wait_for("the server to begin to end", |berth| {
            berth.log().contains("ending: calls in flight finish").then_some(())
        });
    }
}

#[test]
fn a_call_in_flight_is_ended_and_answered_when_the_server_is_asked_to_end() {
    let mut flight = InFlight::begin();
    flight.terminate();
    // A server that waits for no call would be gone long before the call can end.
    let told = Instant::now();
    flight.berth.wait_for("a moment to pass", |_| (told.elapsed() >= MOMENT).then_some(()));
    flight.mkfs.let_go();

    let (_, runtime) = flight.berth.connection();
    let answer = runtime.block_on(flight.call).unwrap();

    assert_eq!(answer.map_err(|status| status.to_string()), Ok(()));
    assert!(flight.berth.ended().success());
    assert!(!flight.host.path("run/csi.sock").exists());
}

#[test]
fn a_second_signal_ends_the_server_at_once_whatever_is_in_flight() {
    let mut flight = InFlight::begin();
    flight.terminate();
    flight.berth.signal(Signal::TERM);

    let began = Instant::now();
    let status = flight.berth.ended();

    assert_eq!(status.code(), Some(1));
    // Far less than calls in flight are given to end.
    assert!(began.elapsed() < Duration::from_secs(8), "it took {:?}", began.elapsed());
    let log = fs::read_to_string(flight.host.path("berth.log")).unwrap();
    assert!(log.contains("ended by a second SIGTERM"), "{log}");
    flight.mkfs.let_go();
}
