//! A real etcd and a real kube-apiserver, on loopback, in a directory of their own; they end with this process.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ListParams, PostParams};
use serde_json::json;
use tempfile::TempDir;

use super::population::NAMESPACE;
use crate::usage;
use berth::inventory::crd;

/// The directory of the two programs.
pub const BINARIES: &str = "BERTH_CLUSTER_BIN";
const TOKEN: &str = "admin-token";

/// Both servers. Dropping it ends them.
pub struct Server {
    directory: TempDir,
    programs: Vec<Child>,
    pub port: u16,
}

impl Server {
    /// Starts them on the machine's own disk, with nothing but the kind of the volumes and Berth's namespace.
    pub async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let [etcd, peer, port] = free_ports();
        let mut server = Self { directory, programs: Vec::new(), port };
        let key = Command::new("openssl")
            .args(["genrsa", "-out", "sa.key", "2048"])
            .current_dir(server.directory.path())
            .output()
            .unwrap();
        assert!(key.status.success());
        let tokens = format!("{TOKEN},admin,1,system:masters\n");
        fs::write(server.directory.path().join("tokens.csv"), tokens).unwrap();
        let (client, peer) =
            (format!("http://127.0.0.1:{etcd}"), format!("http://127.0.0.1:{peer}"));
        server.program(
            "etcd",
            &format!(
                "--name=berth --data-dir=etcd --log-level=error --quota-backend-bytes=8589934592
                 --listen-client-urls={client} --advertise-client-urls={client}
                 --listen-peer-urls={peer} --initial-advertise-peer-urls={peer}
                 --initial-cluster=berth={peer}"
            ),
        );
        server.program(
            "kube-apiserver",
            &format!(
                "--etcd-servers={client} --bind-address=127.0.0.1 --secure-port={port}
                 --advertise-address=127.0.0.1 --endpoint-reconciler-type=none --cert-dir=certificates
                 --service-account-issuer=https://kubernetes.default.svc
                 --service-account-key-file=sa.key --service-account-signing-key-file=sa.key
                 --authorization-mode=RBAC --token-auth-file=tokens.csv"
            ),
        );
        server.prepare().await;
        server
    }

    fn program(&mut self, name: &str, arguments: &str) {
        let binary = PathBuf::from(std::env::var_os(BINARIES).unwrap()).join(name);
        let log = fs::File::create(self.directory.path().join(name).with_extension("log")).unwrap();
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(binary)
            .args(arguments.split_whitespace())
            .current_dir(self.directory.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.programs.push(child);
    }

    async fn prepare(&self) {
        let client = kube::Client::try_from(Self::config(self.port)).unwrap();
        until(async || {
            let asked = http::Request::get("/readyz").body(Vec::new()).unwrap();
            client.request_text(asked).await.is_ok_and(|answer| answer == "ok")
        })
        .await;
        let definitions: kube::Api<CustomResourceDefinition> = kube::Api::all(client.clone());
        let post = PostParams::default();
        definitions.create(&post, &crd::definition().unwrap()).await.unwrap();
        let namespaces: kube::Api<Namespace> = kube::Api::all(client.clone());
        let namespace = serde_json::from_value(json!({"metadata": {"name": NAMESPACE}})).unwrap();
        namespaces.create(&post, &namespace).await.unwrap();
        let objects: kube::Api<crd::Object> = kube::Api::all(client);
        until(async || objects.list(&ListParams::default()).await.is_ok()).await;
    }

    /// How to reach it, by a port that leads there.
    pub fn config(port: u16) -> kube::Config {
        let mut config = kube::Config::new(format!("https://127.0.0.1:{port}").parse().unwrap());
        // It made its certificate itself.
        config.accept_invalid_certs = true;
        config.auth_info.token = Some(TOKEN.to_owned().into());
        config
    }

    pub fn kubeconfig(&self) -> String {
        super::controller::kubeconfig(&format!("https://127.0.0.1:{}", self.port), TOKEN)
    }

    /// What etcd and the API server have run for so far, and KiB that the API server has resident.
    pub fn usage(&self) -> (Duration, Duration, u64) {
        let [etcd, api] = &self.programs[..] else { panic!("two programs") };
        (
            usage::processor_time(etcd.id()),
            usage::processor_time(api.id()),
            usage::memory(api.id()).resident,
        )
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for program in self.programs.iter_mut().rev() {
            let _ = program.kill();
            let _ = program.wait();
        }
    }
}

/// Ports that nobody listens on now.
fn free_ports<const COUNT: usize>() -> [u16; COUNT] {
    let listeners = [(); COUNT].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

/// Waits until something holds.
pub async fn until(holds: impl AsyncFn() -> bool) {
    while !holds().await {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
