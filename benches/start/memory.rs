//! What of a server is resident, and what of that is its own.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::report::Report;
use crate::site::Site;
use crate::support::Berth;

/// An API server that refuses every connection.
const NOBODY: &str = "\
apiVersion: v1
kind: Config
current-context: nobody
clusters: [{name: nobody, cluster: {server: \"https://127.0.0.1:1\", insecure-skip-tls-verify: true}}]
users: [{name: nobody, user: {token: none}}]
contexts: [{name: nobody, context: {cluster: nobody, user: nobody}}]
";

/// Seconds between two looks at everything.
const RESCAN: u64 = 5;

/// KiB that are resident (proc_pid_smaps(5)).
#[derive(Debug, Default)]
pub struct Memory {
    own: u64,
    program: u64,
    libraries: u64,
    threads: usize,
}

impl Memory {
    pub fn of(berth: &Berth) -> Self {
        let process = Path::new("/proc").join(berth.pid().as_raw_nonzero().to_string());
        let threads = fs::read_dir(process.join("task")).unwrap().count();
        let mut memory = Self { threads, ..Self::default() };
        let (mut name, mut resident) = (String::new(), 0);
        for line in fs::read_to_string(process.join("smaps")).unwrap().lines() {
            let kib = |key: &str| -> Option<u64> {
                line.strip_prefix(key)?.trim().trim_end_matches(" kB").parse().ok()
            };
            if let Some(kib) = kib("Rss:") {
                resident = kib;
            } else if let Some(own) = kib("Anonymous:") {
                memory.add(&name, own, resident - own);
            } else if !line.split_whitespace().next().is_some_and(|first| first.ends_with(':')) {
                let path = line.split_whitespace().nth(5);
                path.unwrap_or_default().clone_into(&mut name);
            }
        }
        memory
    }

    fn add(&mut self, name: &str, own: u64, of_file: u64) {
        self.own += own;
        if Path::new(name) == Path::new(env!("CARGO_BIN_EXE_berth")) {
            self.program += of_file;
        } else {
            self.libraries += of_file;
        }
    }

    pub fn tell(&self, report: &mut Report, what: &str) {
        let Self { own, program, libraries, threads } = self;
        report.row(&[&what, &(own + program + libraries), own, program, libraries, threads]);
    }
}

/// Waits until the server has looked twice more at everything.
pub fn until_two_rounds_later(berth: &Berth) {
    let end = std::time::Instant::now() + Duration::from_secs(2 * RESCAN + 1);
    berth.wait_for("two rounds", |_| (std::time::Instant::now() > end).then_some(()));
}

/// An agent with what a standalone server has left: it needs no API server to serve what its ledger knows.
pub fn node(site: &Site) -> Berth {
    let host = &site.host;
    fs::write(host.path("kubeconfig"), NOBODY).unwrap();
    fs::create_dir_all(host.path("kubelet")).unwrap();
    let berth = Berth::spawn_by(host, &site.config(), &[], |standalone| {
        let mut node = Command::new(standalone.get_program());
        node.arg("node").args(standalone.get_args().skip(1));
        node.arg("--kubelet-dir").arg(host.path("kubelet"));
        node.env("NODE_NAME", "node-a").env("KUBECONFIG", host.path("kubeconfig"));
        node.env("BERTH_RESCAN", RESCAN.to_string()).stderr(std::process::Stdio::null());
        node.spawn().unwrap()
    });
    // It is not ready without an API server, and serves all the same.
    let socket = host.path("run/csi.sock");
    let serves = |_: &Berth| std::os::unix::net::UnixStream::connect(&socket).ok().map(drop);
    berth.wait_for("its socket", serves);
    berth
}

/// A standalone server that looks at everything as often.
pub fn standalone(site: &Site) -> Berth {
    Berth::start_with(&site.host, &site.config(), &["--rescan", &RESCAN.to_string()])
}
