//! Registration with the plugin manager of the real kubelet (`tests/kubelet`): its watcher, its reconciler and its gRPC
//! client, which sends its socket's path as `:authority`.
#![expect(clippy::unwrap_used, reason = "a test panics where something is not as it must be")]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use berth::kubelet::{Options, Registration, State};
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Longer than the kubelet takes for anything, its back-off after a refusal included.
const LONG: Duration = Duration::from_mins(1);

const DRIVER: &str = "berth.dev";
const ENDPOINT: &str = "/var/lib/kubelet/plugins/berth.dev/csi.sock";

/// Builds `tests/kubelet`, once.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kubelet");
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kubelet");
        let mut go = Command::new("go");
        go.args(["build", "-o"]).arg(&program).arg(".").current_dir(folder).env("GOWORK", "off");
        let output = go.output().unwrap_or_else(|error| {
            panic!("`go` does not start ({error}): install Go 1.26 from https://go.dev/dl")
        });
        assert!(
            output.status.success(),
            "`go build` in tests/kubelet failed; it needs Go 1.26 and, the first time, the Go module proxy:\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
        program
    })
}

/// A kubelet that runs.
struct Kubelet {
    process: Child,
    commands: ChildStdin,
    events: mpsc::UnboundedReceiver<serde_json::Value>,
}

impl Kubelet {
    fn start(registry: &Path) -> Self {
        let mut start = Command::new(program());
        start.arg(registry).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = start.spawn().unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let (sender, events) = mpsc::unbounded_channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let _ = sender.send(serde_json::from_str(&line).unwrap());
            }
        });
        Self { commands: process.stdin.take().unwrap(), process, events }
    }

    fn tell(&mut self, command: &str) {
        writeln!(self.commands, "{command}").unwrap();
    }

    /// Waits for the next call of this name; others may come before.
    async fn event(&mut self, name: &str) -> serde_json::Value {
        let next = async {
            loop {
                match self.events.recv().await {
                    Some(event) if event["event"] == name => return event,
                    Some(_) => {}
                    None => panic!("the kubelet has ended"),
                }
            }
        };
        timeout(LONG, next).await.unwrap_or_else(|_| panic!("no {name} came"))
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// An agent that registers, and the kubelet's directory.
struct Node {
    directory: TempDir,
    socket: PathBuf,
    state: watch::Receiver<State>,
    cancel: CancellationToken,
    task: JoinHandle<()>,
}

impl Node {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let socket = Options::socket_in(directory.path(), DRIVER);
        let options = Options {
            driver: DRIVER.to_owned(),
            endpoint: ENDPOINT.to_owned(),
            socket: socket.clone(),
        };
        let registration = Registration::new(options);
        let (state, cancel) = (registration.state(), CancellationToken::new());
        let task = tokio::spawn(registration.run(cancel.clone()));
        Self { directory, socket, state, cancel, task }
    }

    fn registry(&self) -> PathBuf {
        self.directory.path().join("plugins_registry")
    }

    fn kubelet(&self) -> Kubelet {
        Kubelet::start(&self.registry())
    }

    async fn until(&mut self, wanted: impl Fn(&State) -> bool) -> State {
        timeout(LONG, self.state.wait_for(wanted)).await.unwrap().unwrap().clone()
    }

    async fn registered(&mut self) {
        self.until(|state| *state == State::Registered).await;
    }
}

#[tokio::test]
async fn the_kubelet_registers_the_driver_and_does_again_when_it_restarts() {
    let mut node = Node::new();
    let mut kubelet = node.kubelet();

    let call = kubelet.event("register").await;
    node.registered().await;
    drop(kubelet);
    let mut restarted = node.kubelet();
    let again = restarted.event("register").await;

    assert_eq!(call, again);
    assert_eq!((&call["name"], &call["endpoint"]), (&DRIVER.into(), &ENDPOINT.into()));
    assert_eq!(call["versions"], serde_json::json!(["1.0.0"]));
}

#[tokio::test]
async fn a_socket_that_somebody_removed_is_registered_again() {
    let mut node = Node::new();
    let mut kubelet = node.kubelet();
    node.registered().await;

    fs::remove_file(&node.socket).unwrap();

    kubelet.event("deregister").await;
    kubelet.event("register").await;
    node.registered().await;
}

#[tokio::test]
async fn a_kubelet_whose_directory_was_replaced_finds_the_driver_when_it_restarts() {
    let mut node = Node::new();
    let kubelet = node.kubelet();
    node.registered().await;

    fs::rename(node.registry(), node.directory.path().join("away")).unwrap();
    node.until(|state| *state == State::Waiting).await;
    drop(kubelet);
    let mut restarted = node.kubelet();

    restarted.event("register").await;
    node.registered().await;
}

#[tokio::test]
async fn a_refusal_is_shown_with_its_reason_until_the_kubelet_takes_the_driver() {
    let mut node = Node::new();
    let mut kubelet = node.kubelet();
    node.registered().await;
    kubelet.tell("refuse the node has no CSINode");
    fs::remove_file(&node.socket).unwrap();

    let refused = node.until(|state| matches!(state, State::Refused(_))).await;
    kubelet.tell("accept");
    node.registered().await;

    assert!(refused.to_string().ends_with("the node has no CSINode"), "{refused}");
}

#[tokio::test]
async fn the_kubelet_forgets_a_driver_that_ends() {
    let mut node = Node::new();
    let mut kubelet = node.kubelet();
    node.registered().await;

    node.cancel.cancel();
    node.task.await.unwrap();

    kubelet.event("deregister").await;
}
