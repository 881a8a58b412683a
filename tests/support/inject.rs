//! Faults between the server and the kernel: each call that changes something on the host, a durable write, a mount, a
//! removal, an ioctl, can be made to fail, or to be the one before which the server is killed.
//!
//! Nothing in the product takes part. The server is started from a thread that has loaded a seccomp filter, which the
//! server, its threads and the programs that it starts inherit: before each call of the list the kernel stops the caller
//! and asks this process (seccomp_unotify(2)). So the calls of all threads and programs are seen in one order, and a fault
//! comes before the call has changed anything. Needs root and Linux 5.5.

mod calls;

use std::fs::{self, File};
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::{Child, Command};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;

use libseccomp::{
    ScmpAction, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpNotifReq, ScmpNotifResp,
    ScmpNotifRespFlags, ScmpSyscall,
};
use nix::sched::{CloneFlags, setns, unshare};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, PidfdGetfdFlags, Signal, getpid, kill_process, pidfd_getfd, pidfd_open,
};

pub use calls::Call;

/// How long a call that was held for a kill waits for its caller to be dead. One that is not, since it is a program of
/// the server's that outlives it, goes on then.
const LAST_BREATH: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };

/// What becomes of a call.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// The server is killed (SIGKILL) before it.
    Kill,
    /// It fails, and so do those that follow, as many times in all.
    Fail {
        /// With this error.
        errno: Errno,
        /// So often.
        times: u32,
    },
}

/// A fault and when it comes.
#[derive(Debug, Clone, Copy)]
pub struct Armed {
    /// Calls that pass before it.
    pub after: u32,
    /// Whether only calls of this name are counted and fail.
    pub only: Option<&'static str>,
    /// The fault.
    pub fault: Fault,
}

/// Stands between one server and the kernel.
pub struct Injector {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared(Mutex<State>);

#[derive(Default)]
struct State {
    armed: Option<Armed>,
    /// Every call that changes something, in the order in which they came.
    calls: Vec<Call>,
    /// Those that a fault met.
    met: Vec<Call>,
    killed: bool,
}

/// What is answered to the kernel.
enum Answer {
    Go,
    Fail(Errno),
    /// Nothing, for now: the server is being killed.
    Hold,
}

impl std::fmt::Debug for Injector {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Injector").finish_non_exhaustive()
    }
}

impl Injector {
    /// Starts the server in this thread's mount namespace; a fault may be armed before its first call.
    pub fn launch(command: Command, armed: Option<Armed>) -> (Child, Self) {
        let shared = Arc::new(Shared::default());
        shared.lock().armed = armed;
        let namespace = File::open("/proc/thread-self/ns/mnt").unwrap();
        let (started, child) = channel();
        let launch = Launch { command, namespace, shared: Arc::clone(&shared), started };
        launcher().send(launch).unwrap();
        (child.recv().unwrap(), Self { shared })
    }

    /// Lets a fault come, counted from now.
    pub fn arm(&self, armed: Armed) {
        self.shared.lock().armed = Some(armed);
    }

    /// Ends the fault, if it has not come or still lasts.
    pub fn heal(&self) {
        self.shared.lock().armed = None;
    }

    /// The calls so far that change something.
    pub fn calls(&self) -> Vec<Call> {
        self.shared.lock().calls.clone()
    }

    /// The calls that a fault has met.
    pub fn met(&self) -> Vec<Call> {
        self.shared.lock().met.clone()
    }

    /// Whether the server was killed.
    pub fn killed(&self) -> bool {
        self.shared.lock().killed
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn decide(&self, server: Pid, request: &ScmpNotifReq) -> Answer {
        let call = Call::of(request);
        let mut state = self.lock();
        if state.killed {
            return Answer::Hold;
        }
        let Some(call) = call else { return Answer::Go };
        state.calls.push(call.clone());
        let Some(fault) = state.due(&call) else { return Answer::Go };
        state.met.push(call);
        match fault {
            Fault::Fail { errno, .. } => Answer::Fail(errno),
            Fault::Kill => {
                state.killed = true;
                kill_process(server, Signal::KILL).unwrap();
                Answer::Hold
            }
        }
    }
}

impl State {
    /// Counts a call; the fault that meets it.
    fn due(&mut self, call: &Call) -> Option<Fault> {
        let armed = self.armed.as_mut()?;
        if armed.only.is_some_and(|only| only != call.name) {
            return None;
        }
        if armed.after > 0 {
            armed.after -= 1;
            return None;
        }
        let fault = armed.fault;
        match &mut armed.fault {
            Fault::Fail { times, .. } if *times > 1 => *times -= 1,
            _ => self.armed = None,
        }
        Some(fault)
    }
}

/// A server that is to be started.
struct Launch {
    command: Command,
    namespace: File,
    shared: Arc<Shared>,
    started: Sender<Child>,
}

/// The servers of this process.
#[derive(Default)]
struct Servers {
    known: Mutex<Known>,
    started: Condvar,
}

#[derive(Default)]
struct Known {
    /// Whether one is being started, that is not among the `running` yet.
    starting: bool,
    running: Vec<(Pid, Arc<Shared>)>,
}

/// The one thread with the filter (the library knows one in a process), which starts every server.
fn launcher() -> &'static Sender<Launch> {
    static LAUNCHER: OnceLock<Sender<Launch>> = OnceLock::new();
    LAUNCHER.get_or_init(|| {
        let (launches, waiting) = channel::<Launch>();
        let (loaded, listener) = channel();
        let servers = Arc::<Servers>::default();
        let serving = Arc::clone(&servers);
        // A thread without the filter: it must not wait for itself.
        thread::spawn(move || serving.serve(&listener.recv().unwrap()));
        thread::spawn(move || {
            // A thread that shares its working directory cannot change its mount namespace.
            unshare(CloneFlags::CLONE_FS).unwrap();
            loaded.send(load_filter()).unwrap();
            for launch in &waiting {
                servers.start(launch);
            }
        });
        launches
    })
}

impl Servers {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(&self, mut launch: Launch) {
        setns(&launch.namespace, CloneFlags::CLONE_NEWNS).unwrap();
        self.lock().starting = true;
        let child = launch.command.spawn().unwrap();
        let mut known = self.lock();
        known.running.retain(|(_, shared)| Arc::strong_count(shared) > 1);
        known.running.push((Pid::from_child(&child), launch.shared));
        known.starting = false;
        drop(known);
        self.started.notify_all();
        launch.started.send(child).unwrap();
    }

    /// The server that a thread is of, or that has started the program that it is of.
    fn of(&self, thread: u32) -> Option<(Pid, Arc<Shared>)> {
        let (process, parent) = process_of(thread)?;
        if process == getpid() {
            return None;
        }
        let starting = |known: &mut Known| known.starting;
        let known = self.started.wait_while(self.lock(), starting);
        let known = known.unwrap_or_else(PoisonError::into_inner);
        let is_it = |(pid, _): &&(Pid, _)| *pid == process || *pid == parent;
        known.running.iter().find(is_it).cloned()
    }

    /// Answers the kernel.
    fn serve(&self, listener: &OwnedFd) {
        let mut held = Vec::new();
        loop {
            let mut ready = [PollFd::new(listener, PollFlags::IN)];
            let patience = (!held.is_empty()).then_some(&LAST_BREATH);
            if poll(&mut ready, patience) == Ok(0) {
                for id in held.drain(..) {
                    respond(listener, id, None);
                }
                continue;
            }
            // Whoever asked may be dead by now.
            let Ok(request) = ScmpNotifReq::receive(listener.as_raw_fd()) else { continue };
            let server = self.of(request.pid);
            match server.map_or(Answer::Go, |(pid, shared)| shared.decide(pid, &request)) {
                Answer::Go => respond(listener, request.id, None),
                Answer::Fail(errno) => respond(listener, request.id, Some(errno)),
                Answer::Hold => held.push(request.id),
            }
        }
    }
}

/// The process that a thread is of, and that one's parent.
fn process_of(thread: u32) -> Option<(Pid, Pid)> {
    let status = fs::read_to_string(format!("/proc/{thread}/status")).ok()?;
    let number = |key| status.lines().find_map(|line| line.strip_prefix(key)?.trim().parse().ok());
    Some((Pid::from_raw(number("Tgid:")?)?, Pid::from_raw(number("PPid:")?)?))
}

fn respond(listener: &OwnedFd, id: u64, errno: Option<Errno>) {
    let none = ScmpNotifRespFlags::empty();
    let answer = match errno {
        Some(errno) => ScmpNotifResp::new_error(id, -errno.raw_os_error(), none),
        None => ScmpNotifResp::new_continue(id, none),
    };
    // It fails where whoever asked is dead.
    let _ = answer.respond(listener.as_raw_fd());
}

/// Has the kernel ask before each call of the list that this thread, or what it starts, makes from now on.
fn load_filter() -> OwnedFd {
    let mut filter = ScmpFilterContext::new(ScmpAction::Allow).unwrap();
    filter.set_ctl_nnp(false).unwrap();
    for name in calls::ALL {
        let call = ScmpSyscall::from_name(name).unwrap();
        let Some(argument) = calls::flags_at(name) else {
            filter.add_rule(ScmpAction::Notify, call).unwrap();
            continue;
        };
        for flag in calls::CHANGING {
            let has = ScmpCompareOp::MaskedEqual(flag);
            let has = [ScmpArgCompare::new(argument, has, flag)];
            filter.add_rule_conditional(ScmpAction::Notify, call, &has).unwrap();
        }
    }
    filter.load().unwrap();
    let own = pidfd_open(getpid(), PidfdFlags::empty()).unwrap();
    let listener = filter.get_notify_fd().unwrap();
    pidfd_getfd(own, listener, PidfdGetfdFlags::empty()).unwrap()
}
