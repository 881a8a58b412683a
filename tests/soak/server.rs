//! The real binary, in lives that end in every way, and the channel of each call to it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::thread::park_timeout;
use std::time::{Duration, Instant};

use berth::csi::proto::csi_v1::ProbeRequest;
use berth::csi::proto::csi_v1::identity_client::IdentityClient;
use rustix::process::{Pid, Signal, kill_process};
use tokio::runtime::Runtime;
use tonic::transport::Channel;

use crate::support::Host;
use crate::support::berth::{endpoint, standalone};

/// How long anything may take. It only bounds a failure.
pub const PATIENCE: Duration = Duration::from_mins(5);
/// What takes longer is told, with what it waited for last.
const LONG: Duration = Duration::from_secs(10);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(2);

/// Looks again and again until `condition` gives something, or else says why not.
pub fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Result<T, String>) -> T {
    let began = Instant::now();
    let mut last = String::new();
    loop {
        match condition() {
            Ok(found) => {
                if began.elapsed() > LONG {
                    println!("{} s for {what}: {last}", began.elapsed().as_secs());
                }
                return found;
            }
            Err(why) => last = why,
        }
        assert!(began.elapsed() < PATIENCE, "waited in vain for {what}: {last}");
        park_timeout(PAUSE);
    }
}

/// Looks again and again until `is_over`: a pace, where there is nothing to wait for.
pub fn until(is_over: impl Fn() -> bool) {
    while !is_over() {
        park_timeout(PAUSE);
    }
}

/// A running server.
pub struct Server {
    child: Child,
    pub socket: String,
}

impl Server {
    /// Starts it, and waits for nothing.
    pub fn spawn(host: &Host) -> Self {
        let log = File::options().create(true).append(true).open(log()).unwrap();
        let child = standalone(host)
            .arg("--mount-root")
            .arg(host.path("kubelet"))
            .args(["--wipes", "8"])
            .stderr(log)
            .spawn()
            .unwrap();
        Self { child, socket: endpoint(host) }
    }

    /// Waits until it says that it is ready.
    pub fn wait_ready(&mut self, runtime: &Runtime) {
        wait_for("the server to be ready", || {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "the server ended by itself: {ended:?}");
            let ready = runtime.block_on(async {
                let mut client = IdentityClient::new(connect(&self.socket));
                client.probe(ProbeRequest {}).await
            });
            match ready.map(|answer| answer.into_inner().ready) {
                Ok(Some(true)) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal, once the server has said what becomes of it: before that it is the kernel that ends a process.
    pub fn signal(&self, signal: Signal) {
        wait_for("signals to be listened to", || {
            let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
            let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
            let caught = u64::from_str_radix(caught.trim(), 16).unwrap();
            let is_caught = caught & 1 << (signal.as_raw() - 1) != 0;
            if is_caught { Ok(()) } else { Err(status) }
        });
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Ends it as a power cut would.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to end, which it has to do well and in time.
    pub fn stop(mut self) {
        self.signal(Signal::TERM);
        let status = wait_for("the server to end after SIGTERM", || {
            self.child.try_wait().unwrap().ok_or_else(|| "it runs on".to_owned())
        });

        assert!(status.success(), "the server ended with {status}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// A connection of its own, as the kubelet makes for each call.
pub fn connect(socket: &str) -> Channel {
    berth::cli::client::connect(&socket.parse().unwrap()).unwrap()
}

/// Puts a configuration into the place of the last, at once and whole.
pub fn configure(host: &Host, text: &str) {
    fs::write(host.path("pools.new"), text).unwrap();
    fs::rename(host.path("pools.new"), host.path("pools.yaml")).unwrap();
}

/// Where all lives log.
pub fn log() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("soak.log")
}
