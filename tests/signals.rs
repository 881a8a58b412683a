//! Signals that come while the server starts: a start may take long, as on a disk that does not answer.

#![expect(clippy::unwrap_used, reason = "a test panics where something is not as it must be")]

mod support;

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

use rustix::process::Signal;
use support::{Berth, Host, run};

/// A server whose start waits: a part of its configuration is a pipe into which nobody has written yet.
struct Starting {
    berth: Berth,
    pipe: PathBuf,
    text: String,
}

impl Starting {
    fn begin(host: &Host) -> Self {
        let pipe = host.path("map.yaml");
        run(Command::new("mkfifo").arg(&pipe));
        let text = format!("map: {{hostDir: {}}}", host.pool("map").display());
        let config = format!("pools: {{fast: {{path: {}}}}}", host.pool("fast").display());
        let more = ["--storage-class-map", pipe.to_str().unwrap()];
        Self { berth: Berth::spawn(host, &config, &more), pipe, text }
    }

    /// Sends a signal as soon as the server has said what becomes of it.
    fn signal(&self, signal: Signal) {
        let status = format!("/proc/{}/status", self.berth.pid().as_raw_nonzero());
        self.berth.wait_for("signals to be listened to", |_| {
            let status = fs::read_to_string(&status).unwrap();
            let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
            let caught = u64::from_str_radix(caught.trim(), 16).unwrap();
            (caught & 1 << (signal.as_raw() - 1) != 0).then_some(())
        });
        self.berth.signal(signal);
    }

    /// Lets the start go on.
    fn go_on(self) -> Berth {
        let mut pipe = File::options().write(true).open(&self.pipe).unwrap();
        // What is read again later is a file.
        let file = self.pipe.with_extension("new");
        fs::write(&file, &self.text).unwrap();
        fs::rename(&file, &self.pipe).unwrap();
        pipe.write_all(self.text.as_bytes()).unwrap();
        self.berth
    }
}

#[test]
fn a_server_that_is_told_to_read_its_configuration_again_while_it_starts_goes_on() {
    let host = Host::new();
    let starting = Starting::begin(&host);

    starting.signal(Signal::HUP);
    let berth = starting.go_on();

    berth.wait_ready();
    assert!(berth.stop().success());
}

#[test]
fn a_server_that_is_told_to_end_while_it_starts_ends_as_any_other() {
    let host = Host::new();
    let starting = Starting::begin(&host);

    starting.signal(Signal::TERM);
    let berth = starting.go_on();

    assert!(berth.ended().success());
    assert!(!host.path("run/csi.sock").exists(), "its socket is left");
}
