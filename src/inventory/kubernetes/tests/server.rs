//! An etcd and a kube-apiserver of this test process: on loopback, in a directory of their own, gone with the process
//! however that ends.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use http::{Method, Request};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, PostParams};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{MutexGuard, OnceCell};

use super::*;

/// The directory of `etcd` and `kube-apiserver`.
const BINARIES: &str = "BERTH_CLUSTER_BIN";
const TOKEN: &str = "admin-token";

static SERVER: OnceCell<()> = OnceCell::const_new();
static RUNNING: OnceLock<Server> = OnceLock::new();
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Why there is no cluster here.
pub(super) fn missing() -> Option<String> {
    let set = std::env::var_os(BINARIES).is_some();
    (!set).then(|| format!("{BINARIES} names no directory with etcd and kube-apiserver"))
}

pub(super) struct Server {
    directory: PathBuf,
    etcd: u16,
    port: u16,
    /// Ends with the process, and takes the directory with it.
    _etcd: Process,
    api: Mutex<Option<Process>>,
}

impl Server {
    /// The server of this process, started by whoever asks first.
    pub(super) async fn get() -> &'static Self {
        SERVER.get_or_init(Self::boot).await;
        Self::now()
    }

    /// The server that runs.
    pub(super) fn now() -> &'static Self {
        RUNNING.get().expect("it has been started")
    }

    async fn boot() {
        let server = Self::start();
        server.wait().await;
        RUNNING.set(server).ok().expect("it is started once");
        let definitions: kube::Api<CustomResourceDefinition> = kube::Api::all(Self::now().client());
        let definition = crd::definition().unwrap();
        definitions.create(&PostParams::default(), &definition).await.unwrap();
        let objects: kube::Api<crd::Object> = kube::Api::all(Self::now().client());
        until("the kind is served", || async {
            objects.list(&ListParams::default()).await.is_ok()
        })
        .await;
    }

    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap().keep();
        let [etcd, peer, port] = free_ports();
        let key = Command::new("openssl")
            .args(["genrsa", "-out", "sa.key", "2048"])
            .current_dir(&directory)
            .output()
            .unwrap();
        assert!(key.status.success(), "{}", String::from_utf8_lossy(&key.stderr));
        let tokens = format!("{TOKEN},admin,1,system:masters\n");
        fs::write(directory.join("tokens.csv"), tokens).unwrap();
        let (client, peer) =
            (format!("http://127.0.0.1:{etcd}"), format!("http://127.0.0.1:{peer}"));
        let process = Process::start(
            &directory,
            "etcd",
            &format!(
                "--name=berth --data-dir=etcd --unsafe-no-fsync --log-level=error
                 --listen-client-urls={client} --advertise-client-urls={client}
                 --listen-peer-urls={peer} --initial-advertise-peer-urls={peer}
                 --initial-cluster=berth={peer}"
            ),
            "rm -rf \"$PWD\"",
        );
        let api = Mutex::new(Some(start_api_server(&directory, etcd, port)));
        Self { directory, etcd, port, _etcd: process, api }
    }

    /// One test at a time.
    pub(super) async fn turn(&self) -> MutexGuard<'static, ()> {
        TURN.lock().await
    }

    /// Ends the API server, without a chance to say goodbye.
    pub(super) fn kill_api_server(&self) {
        drop(self.api.lock().unwrap().take());
    }

    /// Starts the API server again, at the same address.
    pub(super) async fn start_api_server(&self) {
        let process = start_api_server(&self.directory, self.etcd, self.port);
        *self.api.lock().unwrap() = Some(process);
        self.wait().await;
    }

    async fn wait(&self) {
        let client = self.client();
        until("the API server is ready", || async {
            let asked = Request::get("/readyz").body(Vec::new()).unwrap();
            client.request_text(asked).await.is_ok_and(|answer| answer == "ok")
        })
        .await;
    }

    pub(super) fn config(&self) -> kube::Config {
        Self::config_at(self.port)
    }

    /// As [`Server::config`], by another port that leads there.
    pub(super) fn config_at(port: u16) -> kube::Config {
        let mut config = kube::Config::new(format!("https://127.0.0.1:{port}").parse().unwrap());
        // It made its certificate itself.
        config.accept_invalid_certs = true;
        config.auth_info.token = Some(TOKEN.to_owned().into());
        config
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn client(&self) -> kube::Client {
        kube::Client::try_from(self.config()).unwrap()
    }

    /// Removes every volume and reservation, whoever holds what.
    pub(super) async fn empty(&self) {
        let objects: kube::Api<crd::Object> = kube::Api::all(self.client());
        let leases: kube::Api<Lease> = kube::Api::namespaced(self.client(), NAMESPACE);
        let all = objects.list(&ListParams::default()).await.unwrap();
        let held = all.items.into_iter().filter(|object| object.metadata.finalizers.is_some());
        let free = Patch::Merge(json!({"metadata": {"finalizers": null}}));
        stream::iter(held)
            .for_each_concurrent(16, |object| async {
                let name = object.metadata.name.unwrap();
                // One that was being deleted is gone with its last finalizer.
                objects.patch(&name, &PatchParams::default(), &free).await.ok();
            })
            .await;
        let (delete, everything) = (DeleteParams::default(), ListParams::default());
        objects.delete_collection(&delete, &everything).await.unwrap();
        leases.delete_collection(&delete, &everything).await.unwrap();
        until("everything is gone", || async {
            let left = objects.list(&everything).await.unwrap().items.len();
            left + leases.list(&everything).await.unwrap().items.len() == 0
        })
        .await;
    }

    /// Makes etcd forget every version but the newest, as it does every five minutes.
    pub(super) async fn compact(&self) {
        let newest = self.etcd_request("range", r#"{"key":"AA=="}"#).await;
        let revision = newest["header"]["revision"].as_str().unwrap().to_owned();
        let body = format!(r#"{{"revision":"{revision}","physical":true}}"#);
        self.etcd_request("compaction", &body).await;
    }

    /// A request to etcd's own HTTP gateway.
    async fn etcd_request(&self, what: &str, body: &str) -> Value {
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", self.etcd)).await.unwrap();
        let request = format!(
            "{} /v3/kv/{what} HTTP/1.0\r\nContent-Length: {}\r\n\r\n{body}",
            Method::POST,
            body.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(" 200 "), "{answer}");
        serde_json::from_str(body).unwrap()
    }
}

fn start_api_server(directory: &Path, etcd: u16, port: u16) -> Process {
    let arguments = format!(
        "--etcd-servers=http://127.0.0.1:{etcd} --bind-address=127.0.0.1 --secure-port={port}
         --advertise-address=127.0.0.1 --endpoint-reconciler-type=none --cert-dir=certificates
         --service-account-issuer=https://kubernetes.default.svc
         --service-account-key-file=sa.key --service-account-signing-key-file=sa.key
         --authorization-mode=RBAC --token-auth-file=tokens.csv"
    );
    Process::start(directory, "kube-apiserver", &arguments, "")
}

/// A process that is killed when this is dropped, or when this process ends in whatever way: its shell waits for the end
/// of a pipe that only this process holds open.
struct Process {
    shell: Child,
}

impl Process {
    /// Starts `program` in `directory`; `afterwards` is run when it has ended.
    fn start(directory: &Path, program: &str, arguments: &str, afterwards: &str) -> Self {
        let binary = PathBuf::from(std::env::var_os(BINARIES).unwrap()).join(program);
        let log = fs::File::create(directory.join(program).with_extension("log")).unwrap();
        let script = format!(r#""$@" & pid=$!; read -r _; kill -9 $pid; wait $pid; {afterwards}"#);
        let shell = Command::new("sh")
            .args(["-c", &script, "sh"])
            .arg(&binary)
            .args(arguments.split_whitespace())
            .current_dir(directory)
            .stdin(Stdio::piped())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Self { shell }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        self.shell.wait().unwrap();
    }
}

/// Ports that nobody listens on now.
fn free_ports<const COUNT: usize>() -> [u16; COUNT] {
    let listeners = [(); COUNT].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

/// Waits until `holds`, which it does within two minutes.
async fn until<F: Future<Output = bool>>(what: &str, holds: impl Fn() -> F) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < Duration::from_mins(2), "it never came that {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
