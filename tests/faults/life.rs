//! A volume's whole life, with one fault in it: the caller does what a kubelet and a provisioner do, repeats what failed,
//! and whatever can be seen is compared with what must be there after each step.

mod caller;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use berth::volume::Phase;
use tonic::Code;

use crate::kind::{Kind, mounts};
use crate::support::inject::{Armed, Call, Fault, Injector};
use crate::support::{Berth, Host, requests};

/// How long anything may take before a test gives up on it.
const PATIENCE: Duration = Duration::from_mins(1);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(3);
/// How many failures a caller meets before a fault that lasts is over.
const FAILURES: u32 = 2;
/// How long a fault may last that no caller notices.
const LASTS: Duration = Duration::from_millis(1500);

/// The steps of a life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    /// The server's first start, on an empty state directory.
    Start,
    Create,
    Stage,
    Publish,
    /// The server is killed and started again while the volume is published.
    Restart,
    Unpublish,
    Unstage,
    /// The claim ends, and the volume is wiped.
    Delete,
}

pub(crate) const STEPS: [Step; 8] = [
    Step::Start,
    Step::Create,
    Step::Stage,
    Step::Publish,
    Step::Restart,
    Step::Unpublish,
    Step::Unstage,
    Step::Delete,
];

/// Where in a life a fault comes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Point {
    pub(crate) step: Step,
    /// How many calls of the step pass before it.
    pub(crate) after: u32,
    pub(crate) fault: Fault,
}

/// What a life has shown.
#[derive(Debug, Default)]
pub(crate) struct Lived {
    /// The calls of each step that change something.
    pub(crate) calls: BTreeMap<Step, Vec<Call>>,
    /// The calls that the fault met.
    pub(crate) met: Vec<Call>,
}

/// How far its caller is with a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stands {
    Free,
    Held,
    Staged,
    Published,
}

struct Life {
    kind: Kind,
    host: Host,
    source: PathBuf,
    config: String,
    server: Option<(Berth, Injector)>,
    point: Option<Point>,
    step: Step,
    failures: u32,
    lived: Lived,
    /// What the caller knows: the volume's id, and how far it is with it.
    id: Option<String>,
    stands: Stands,
    wrote: bool,
}

/// Lives one life; panics where a rule does not hold.
pub(crate) fn live(kind: Kind, point: Option<Point>) -> Lived {
    let mut host = Host::new();
    host.keep_disks_in_memory();
    let source = kind.make(&mut host);
    let config = kind.config(&host);
    let mut life = Life {
        kind,
        host,
        source,
        config,
        server: None,
        point,
        step: Step::Start,
        failures: 0,
        lived: Lived::default(),
        id: None,
        stands: Stands::Free,
        wrote: false,
    };
    for step in STEPS {
        life.take(step);
    }
    life.next_tenant();
    life.end();
    life.lived
}

impl Life {
    /// Takes one step, with the fault in it if it is there that one comes, and looks at everything after it.
    fn take(&mut self, step: Step) {
        (self.step, self.failures) = (step, 0);
        let armed = self.point.filter(|point| point.step == step);
        let armed = armed.map(|p| Armed { after: p.after, only: None, fault: p.fault });
        let before = self.server.as_ref().map_or(0, |(_, injector)| injector.calls().len());
        let starts = matches!(step, Step::Start | Step::Restart);
        if starts {
            if let Some((berth, injector)) = self.server.take() {
                self.lived.met.extend(injector.met());
                berth.kill();
            }
            self.start(armed);
        } else if let Some(armed) = armed {
            self.injector().arm(armed);
        }
        self.act(step);
        self.settle(step);
        if let Some(Point { fault: Fault::Fail { .. }, .. }) = self.point {
            self.injector().heal();
        }
        let calls = self.injector().calls();
        let seen = calls.get(if starts { 0 } else { before }..).unwrap_or_default().to_vec();
        self.lived.calls.insert(step, seen);
        self.check();
        // Nothing fails from now on. A kill may come late: which calls a step makes differs a little each time.
        let over = |point: &Point| point.step == step && matches!(point.fault, Fault::Fail { .. });
        self.point = self.point.filter(|point| !over(point));
    }

    fn holds(&self) -> bool {
        self.stands >= Stands::Held
    }

    fn staged(&self) -> bool {
        self.stands >= Stands::Staged
    }

    fn published(&self) -> bool {
        self.stands >= Stands::Published
    }

    fn act(&mut self, step: Step) {
        match step {
            Step::Start => {
                self.until("it to be free", |life| Ok(life.is(Phase::Available)?.then_some(())));
            }
            Step::Restart => {}
            Step::Create => {
                let id = self.until("the claim", |life| life.create("pvc-1").map(Some));
                (self.id, self.stands) = (Some(id), Stands::Held);
            }
            Step::Stage => {
                self.stands = Stands::Staged;
                self.until("it to be staged", |life| life.stage().map(Some));
            }
            Step::Publish => {
                self.stands = Stands::Published;
                // A kubelet begins with the stage again, whatever failed.
                self.until("it to be published", |life| {
                    if life.failures > 0 {
                        life.stage()?;
                    }
                    life.publish().map(Some)
                });
                self.kind.write(&self.target());
                self.wrote = true;
            }
            Step::Unpublish => {
                self.stands = Stands::Staged;
                self.until("it to be unpublished", |life| life.unpublish().map(Some));
            }
            Step::Unstage => {
                self.stands = Stands::Held;
                self.until("it to be unstaged", |life| life.unstage().map(Some));
            }
            Step::Delete => self.delete(),
        }
    }

    fn delete(&mut self) {
        self.stands = Stands::Free;
        let id = self.id.take().unwrap();
        self.until("the claim to end", |life| life.berth().delete(&id).map(Some));
        self.until("the wipe", |life| {
            let volume = life.volume()?;
            if volume.status.conditions.clean.reason.as_str().contains("Fail") {
                life.injector().heal();
            }
            Ok(volume.is_claimable().then_some(()))
        });
        assert_eq!(self.kind.remains_on(&self.source), None, "it is offered with data on it");
    }

    /// Waits for what a step leaves to be recorded after its answer.
    fn settle(&mut self, step: Step) {
        if !matches!(step, Step::Publish | Step::Unpublish | Step::Restart) {
            return;
        }
        let target = requests::text(&self.target());
        self.until("it to be recorded", |life| {
            let volume = life.volume()?;
            let recorded = volume.status.published.iter().any(|place| place.path == target);
            Ok((recorded == life.published()).then_some(()))
        });
    }

    /// Everything that must be so whenever a step has ended.
    fn check(&mut self) {
        self.check_mounts(true);
        self.check_data();
        let volume = self.until("the inventory", |life| life.volume().map(Some));
        let held = volume.spec.claim.as_ref().map(|claim| claim.name.to_string());
        assert_eq!(held, self.holds().then(|| "pvc-1".into()), "{volume:?}");
        let id = volume.id().map(|id| id.to_string());
        assert_eq!(id.filter(|_| self.holds()), self.id, "the claim has another volume");
        if self.holds() {
            self.until("a rival to be refused", |life| match life.create("rival") {
                Err(status) if status.code() == Code::ResourceExhausted => Ok(Some(())),
                Ok(id) => panic!("{id} was given to a rival"),
                Err(status) => Err(status),
            });
        }
    }

    /// Exactly the mounts that must be there, each once; in the midst of a step (`!done`) its own may be missing.
    fn check_mounts(&self, done: bool) {
        let root = self.host.path("");
        let mut expected = BTreeMap::from([(root.clone(), 1)]);
        if matches!(self.kind, Kind::Tmpfs | Kind::Reformatted) {
            expected.insert(self.source.clone(), 1);
        }
        if self.staged() && self.kind.is_mounted_when_staged() {
            expected.insert(self.staging(), 1);
        }
        if self.published() {
            expected.insert(self.target(), 1);
        }
        let found = mounts(&root);
        if done {
            assert_eq!(found, expected, "mounts");
            assert_eq!(self.target().exists(), self.published(), "the target");
            return;
        }
        let stacked: Vec<_> = found.iter().filter(|(_, count)| **count > 1).collect();
        assert!(stacked.is_empty(), "stacked: {stacked:?}");
    }

    /// The tenant has what it wrote for as long as it holds the volume.
    fn check_data(&self) {
        // What is on a device is seen where it is mounted.
        let seen = self.published() || self.kind != Kind::Formatted;
        if self.wrote && self.holds() && seen {
            let place = if self.published() { self.target() } else { self.source.clone() };
            assert!(self.kind.is_whole(&place), "a tenant lost its data: {}", place.display());
        }
    }

    /// Another tenant gets the volume, finds nothing, and gives it back.
    fn next_tenant(&mut self) {
        self.point = None;
        self.injector().heal();
        let id = self.until("the next claim", |life| life.create("pvc-2").map(Some));
        self.id = Some(id.clone());
        self.until("it to be staged", |life| life.stage().map(Some));
        self.until("it to be published", |life| life.publish().map(Some));
        assert_eq!(
            self.kind.remains(&self.target()),
            None,
            "the next tenant sees the first's data"
        );
        self.until("it to be unpublished", |life| life.unpublish().map(Some));
        self.until("it to be unstaged", |life| life.unstage().map(Some));
        self.until("the claim to end", |life| life.berth().delete(&id).map(Some));
        self.until("the wipe", |life| Ok(life.is(Phase::Available)?.then_some(())));
        self.id = None;
        self.check_mounts(true);
    }

    fn end(&mut self) {
        let (berth, injector) = self.server.take().unwrap();
        self.lived.met.extend(injector.met());
        let log = berth.log();
        assert!(!log.contains("panicked"), "{log}");
        assert!(berth.stop().success(), "it did not end well");
        self.check_mounts(true);
        assert!(self.kind.is_let_go(&self.source), "somebody has the device open");
        assert_eq!(fs::read_dir(self.host.path("state/wipes")).map_or(0, Iterator::count), 0);
    }
}
