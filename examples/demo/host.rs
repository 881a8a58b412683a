//! The host of the demonstration: its disks, its server, and what is told of both.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use berth::csi::Endpoint;
use berth::host::loopback::LoopDevice;
use berth::host::namespace;
use berth::volume::{LocalVolume, VolumeId};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::cluster::Orchestrator;

/// A mebibyte.
pub const MIB: u64 = 1 << 20;
/// The disks, in mebibytes.
const DISKS: [u64; 5] = [64, 128, 256, 512, 1024];
/// How long anything may take before the demonstration gives up.
const PATIENCE: Duration = Duration::from_secs(30);

pub struct Host {
    directory: TempDir,
    device: Option<LoopDevice>,
    server: Option<Child>,
    began: Instant,
    last: Instant,
}

impl Host {
    /// Makes five disks bind-mounted where the pool looks for them and, for root, a loop device.
    pub fn prepare(unprivileged: bool) -> anyhow::Result<Self> {
        let began = Instant::now();
        let directory = tempfile::Builder::new().prefix("berth-demo-").tempdir()?;
        let mut host = Self { directory, device: None, server: None, began, last: began };
        namespace::mount_tmpfs(host.directory.path(), 16 * MIB)?;
        for name in ["disks", "fast-disks", "raw-disks", "kubelet", "run"] {
            fs::create_dir(host.path(name))?;
        }
        println!(
            "Berth, the life of a volume. Nothing outside a private mount namespace is changed."
        );
        for (number, size) in DISKS.iter().enumerate() {
            let disk = host.path("disks").join(format!("disk{}", number + 1));
            let entry = host.path("fast-disks").join(format!("v{}", number + 1));
            fs::create_dir(&disk)?;
            fs::create_dir(&entry)?;
            namespace::mount_tmpfs(&disk, size * MIB)?;
            namespace::bind(&disk, &entry)?;
        }
        if unprivileged {
            println!("(Not run as root: without the raw block device.)");
        } else {
            host.attach_device()?;
        }
        host.step("five disks of 64 MiB to 1 GiB prepared and bind-mounted in fast-disks/");
        Ok(host)
    }

    fn attach_device(&mut self) -> anyhow::Result<()> {
        let file = tempfile::tempfile_in("/tmp").or_else(|_| tempfile::tempfile())?;
        file.set_len(32 * MIB)?;
        match LoopDevice::attach(&file) {
            Ok(device) => {
                std::os::unix::fs::symlink(device.path(), self.path("raw-disks/d1"))?;
                self.device = Some(device);
            }
            Err(error) => println!("(Without the raw block device: {error}.)"),
        }
        Ok(())
    }

    /// Starts `berth standalone`, built beside this program, and waits until it is ready.
    pub async fn start_server(&mut self) -> anyhow::Result<Orchestrator> {
        let mut pools = format!(
            "pools:\n  fast-disks:\n    path: {}\n    mode: Filesystem\n    clean: {{method: delete}}\n",
            self.path("fast-disks").display()
        );
        if self.has_device() {
            let raw = self.path("raw-disks");
            pools = format!(
                "{pools}  raw-disks:\n    path: {}\n    mode: Block\n    clean: {{method: zero, verify: true}}\n",
                raw.display()
            );
        }
        fs::write(self.path("pools.yaml"), pools)?;
        let log = File::create(self.path("server.log"))?;
        let server = Command::new(binary()?)
            .args(["standalone", "--node", "node-a", "--config"])
            .arg(self.path("pools.yaml"))
            .arg("--state")
            .arg(self.path("state"))
            .args(["--endpoint", &self.endpoint().to_string()])
            .stderr(log)
            .spawn()
            .context("the server cannot be started")?;
        self.server = Some(server);
        let mut orchestrator = Orchestrator::connect(&self.endpoint())?;
        let deadline = Instant::now() + PATIENCE;
        while !orchestrator.is_ready().await {
            self.require_server()?;
            ensure!(Instant::now() < deadline, "the server is not ready; its log:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(orchestrator)
    }

    fn require_server(&mut self) -> anyhow::Result<()> {
        if let Some(status) =
            self.server.as_mut().and_then(|server| server.try_wait().ok().flatten())
        {
            bail!("the server ended with {status}; its log:\n{}", self.log());
        }
        Ok(())
    }

    /// Asks the server to end, and makes sure that it did so in order.
    pub fn stop_server(&mut self) -> anyhow::Result<()> {
        let mut server = self.server.take().context("no server runs")?;
        let told = kill_process(Pid::from_child(&server), Signal::TERM);
        if told.is_err() {
            let _ = server.kill();
        }
        told.context("the server could not be told to end")?;
        let status = server.wait()?;
        ensure!(status.success(), "the server ended with {status}; its log:\n{}", self.log());
        Ok(())
    }

    /// Waits until the volume of a tenancy may be claimed again.
    pub async fn wait_available(&mut self, id: &str) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !self.volume(id)?.is_claimable() {
            ensure!(
                Instant::now() < deadline,
                "{id} is not offered again; the log:\n{}",
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }

    /// Where the volume of a tenancy is on this host.
    pub fn source(&self, id: &str) -> anyhow::Result<PathBuf> {
        Ok(self.volume(id)?.status.path.as_str().into())
    }

    fn volume(&self, id: &str) -> anyhow::Result<LocalVolume> {
        let name = id.parse::<VolumeId>()?.volume;
        let volumes: Vec<LocalVolume> =
            serde_json::from_str(&self.berth(&["volumes", "-o", "json"])?)?;
        volumes
            .into_iter()
            .find(|volume| volume.name == name)
            .with_context(|| format!("{id} is not listed"))
    }

    /// Prints what `berth volumes` prints.
    pub fn show_volumes(&mut self) -> anyhow::Result<()> {
        let shown = self.berth(&["volumes"])?;
        println!("\n      $ berth volumes");
        for line in shown.lines() {
            println!("      {line}");
        }
        self.last = Instant::now();
        Ok(())
    }

    fn berth(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = Command::new(binary()?)
            .args(arguments)
            .args(["--endpoint", &self.endpoint().to_string()])
            .output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    }

    pub fn has_device(&self) -> bool {
        self.device.is_some()
    }

    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.directory.path().join(name)
    }

    fn endpoint(&self) -> Endpoint {
        // A temporary directory's path is short and has no NUL.
        let text = format!("unix://{}/run/csi.sock", self.directory.path().display());
        text.parse().unwrap_or_else(|error| panic!("{error}"))
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("server.log")).unwrap_or_default()
    }

    /// Says what comes next.
    pub fn tell(&mut self, text: &str) {
        println!("\n{text}");
        self.last = Instant::now();
    }

    /// Says what was done, and how long it took.
    pub fn step(&mut self, text: &str) {
        let took = self.last.elapsed().as_secs_f64() * 1000.0;
        println!("  {took:8.1} ms  {text}");
        self.last = Instant::now();
    }

    /// Says something beside.
    pub fn say(&mut self, text: &str) {
        println!("               {text}");
        self.last = Instant::now();
    }

    /// Says how long all of it took.
    pub fn finish(&self) {
        println!(
            "\nDone in {:.1} s. Next: README.md, then docs/concepts.md.",
            self.began.elapsed().as_secs_f64()
        );
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _ = server.kill();
            let _ = server.wait();
        }
        // What is mounted on the directory would keep it from being removed.
        let _ = namespace::detach(self.directory.path());
    }
}

/// `berth`, which is built beside the examples.
fn binary() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let folder = own.parent().and_then(Path::parent).context("this program lies nowhere")?;
    let berth = folder.join("berth");
    ensure!(berth.exists(), "{} is not built: run `make demo`", berth.display());
    Ok(berth)
}
