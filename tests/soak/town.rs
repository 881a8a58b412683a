//! The whole soak: the host, its tenants, and a stretch of load after which everything rests and is audited.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::audit::{Auditor, Expected};
use crate::calls::Calls;
use crate::dice::Dice;
use crate::facts::{Fact, Facts};
use crate::noise::Noise;
use crate::server::{Server, configure, log, wait_for};
use crate::site::{self, Kind, Site};
use crate::support::Host;
use crate::tenant::{Is, Tenant, Town, target};
use crate::visitor::Visitor;

/// Callers at a time; each has tenants of its own.
const WORKERS: usize = 6;

/// All of it.
pub struct Soak {
    pub host: Host,
    pub town: Town,
    pub calls: Calls,
    pub dice: Dice,
    /// How long there was load.
    pub loaded: Duration,
    sites: Vec<Site>,
    workers: Vec<Worker>,
    visitor: (Visitor, Dice),
    noise: Dice,
    auditor: Auditor,
}

/// One caller.
struct Worker {
    tenants: Vec<Tenant>,
    dice: Dice,
}

impl Soak {
    pub fn begin(seed: u64) -> Self {
        let _ = std::fs::remove_file(log());
        let mut host = Host::new();
        let auditor = Auditor::new(&host.path(""));
        let sites = site::make(&mut host);
        let mut workers: Vec<_> = (0..WORKERS)
            .map(|number| Worker { tenants: Vec::new(), dice: Dice::new(seed, number as u64) })
            .collect();
        let pools =
            site::tenants().flat_map(|(pool, kind, count)| (0..count).map(move |_| (pool, kind)));
        for (number, (pool, kind)) in pools.enumerate() {
            workers[number % WORKERS].tenants.push(Tenant::new(number, pool, kind));
        }
        let town = Town {
            kubelet: host.path("kubelet"),
            facts: Facts::default(),
            may_grow: has_capability(24),
            given: std::sync::Mutex::default(),
        };
        configure(&host, &site::whole(&host));
        Self {
            calls: Calls::new(&crate::support::berth::endpoint(&host)),
            dice: Dice::new(seed, 100),
            loaded: Duration::ZERO,
            visitor: (Visitor::new(999), Dice::new(seed, 101)),
            noise: Dice::new(seed, 102),
            host,
            town,
            sites,
            workers,
            auditor,
        }
    }

    /// Lets everybody live while `rule` runs, which is given the host, the dice and whether it has to stop early.
    pub fn live(&mut self, rule: impl FnOnce(&Host, &Town, &mut Dice, &dyn Fn() -> bool)) {
        let (began, stop) = (Instant::now(), AtomicBool::new(false));
        let socket = crate::support::berth::endpoint(&self.host);
        let host = &self.host;
        let town = &self.town;
        std::thread::scope(|scope| {
            for worker in &mut self.workers {
                let (socket, stop) = (&socket, &stop);
                scope.spawn(move || or_stop(stop, || worker.live(town, socket, stop)));
            }
            let (visitor, dice) = &mut self.visitor;
            let (socket, halt) = (&socket, &stop);
            scope.spawn(move || {
                or_stop(halt, || {
                    let calls = Calls::new(socket);
                    while !halt.load(Ordering::Relaxed) {
                        visitor.live(host, town, &calls, dice);
                    }
                });
            });
            let (path, facts) = (self.host.path(""), &town.facts);
            let (sites, dice, stop) = (&self.sites, &mut self.noise, &stop);
            scope.spawn(move || {
                or_stop(stop, || Noise { host: &path, sites, facts, dice }.make(stop));
            });
            or_stop(stop, || rule(host, town, &mut self.dice, &|| stop.load(Ordering::Relaxed)));
            stop.store(true, Ordering::Relaxed);
        });
        self.loaded += began.elapsed();
    }

    /// Everything rests: what is configured is everything, and every call gets its answer. Then it is audited.
    pub fn rest(&mut self, server: &Server) {
        self.settle(server);
        self.audit(server);
    }

    fn settle(&mut self, server: &Server) {
        configure(&self.host, &site::whole(&self.host));
        server.signal(Signal::HUP);
        let Self { host, town, calls, dice, workers, visitor, .. } = self;
        wait_for("a volume that is gone to be forgotten", || {
            if visitor.0.settle(host) { Ok(()) } else { Err("it is recorded".into()) }
        });
        let tenants = workers.iter_mut().flat_map(|worker| &mut worker.tenants);
        for tenant in tenants.chain([&mut visitor.0.tenant]) {
            wait_for("a call to be answered", || {
                tenant.settle(town, calls, dice);
                if tenant.is_certain() { Ok(()) } else { Err(format!("{tenant:?}")) }
            });
        }
    }

    /// What an auditor finds now.
    pub fn differences(&mut self, server: &Server) -> Vec<String> {
        let (expected, auditor) = self.expected(server);
        let found = auditor.differences(&expected);
        found.into_iter().chain(Auditor::contents(&expected)).collect()
    }

    /// A place at which a tenant has its volume as a directory now.
    pub fn any_target(&self) -> PathBuf {
        let tenants = self.workers.iter().flat_map(|worker| &worker.tenants);
        let mut there = tenants.filter(|tenant| tenant.kind == Kind::Tmpfs).filter_map(|tenant| {
            let number = tenant.targets.iter().position(|target| *target == Is::Yes)?;
            Some(target(&self.town.kubelet, tenant.id.as_ref()?, number))
        });
        there.next().expect("nobody has anything")
    }

    fn expected(&mut self, server: &Server) -> (Expected<'_>, &mut Auditor) {
        let visitor = &self.visitor.0;
        let tenants = self.workers.iter().flat_map(|worker| &worker.tenants);
        let expected = Expected {
            host: self.host.path(""),
            sites: self.sites.iter().chain(visitor.site()).collect(),
            tenants: tenants.chain([&visitor.tenant]).collect(),
            server: server.pid(),
        };
        (expected, &mut self.auditor)
    }

    fn audit(&mut self, server: &Server) {
        let (expected, auditor) = self.expected(server);
        wait_for("the auditor to find no difference", || {
            let found = auditor.differences(&expected);
            if found.is_empty() { Ok(()) } else { Err(found.join("\n")) }
        });
        let found = Auditor::contents(&expected);
        assert!(found.is_empty(), "the auditor finds:\n{}", found.join("\n"));
        self.town.facts.count(Fact::Audits);
    }

    /// Everybody leaves; everything is free, clean and empty.
    pub fn empty(&mut self, server: &Server) {
        let Self { town, calls, dice, workers, visitor, .. } = self;
        let tenants = workers.iter_mut().flat_map(|worker| &mut worker.tenants);
        for tenant in tenants.chain([&mut visitor.0.tenant]) {
            wait_for("a tenant to leave", || {
                if tenant.id.is_none() && tenant.is_certain() {
                    return Ok(());
                }
                tenant.leave(town, calls, dice);
                Err(format!("{tenant:?}"))
            });
        }
        self.audit(server);
        self.visitor.0.leave();
        self.audit(server);
    }

    /// How many tenants have a volume.
    pub fn held(&self) -> usize {
        let tenants = self.workers.iter().flat_map(|worker| &worker.tenants);
        tenants.filter(|tenant| tenant.id.is_some()).count()
    }
}

impl Worker {
    fn live(&mut self, town: &Town, socket: &str, stop: &AtomicBool) {
        let calls = Calls::new(socket);
        while !stop.load(Ordering::Relaxed) {
            let tenant = self.dice.index(self.tenants.len());
            self.tenants[tenant].live(town, &calls, &mut self.dice);
        }
    }
}

/// Does `work`, and if it fails has the others stop before it tells.
fn or_stop(stop: &AtomicBool, work: impl FnOnce()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(work)) {
        stop.store(true, Ordering::Relaxed);
        resume_unwind(panic);
    }
}

/// Whether this process has the capability of this number (capabilities(7)).
fn has_capability(number: u32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
    u64::from_str_radix(line.trim(), 16).unwrap() & (1 << number) != 0
}
