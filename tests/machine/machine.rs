//! The virtual machine: booted with disks, asked and told by commands, without power from one moment to the next.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::disk::Disk;
use super::{PATIENCE, until};

/// How long a boot may take before it counts as failed.
const BOOT: Duration = Duration::from_secs(90);
/// As much, of a processor that runs as fast as the host's.
const TRIAL: Duration = Duration::from_secs(20);

/// A place for a machine's disks, which outlive its boots.
pub(crate) struct Rack {
    directory: TempDir,
    state: Disk,
}

/// A disk and how it is attached.
#[derive(Clone, Copy)]
pub(crate) enum Slot<'a> {
    /// `/dev/vda`, `/dev/vdb`, … in the order of the slots.
    Virtio(&'a Disk),
    /// The same, without a serial number.
    Anonymous(&'a Disk),
    /// The same, without a command for zeros: the kernel writes them.
    Plain(&'a Disk),
    /// `/dev/nvme0n1`, `/dev/nvme1n1`, … in the order of the slots.
    Nvme(&'a Disk),
}

impl Rack {
    /// An empty rack, but for a disk for Berth's state.
    pub(crate) fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("berth-machine-").tempdir().unwrap();
        let state = Disk::new(directory.path(), "state", 64 << 20);
        Self { directory, state }
    }

    /// A new disk of `mebibytes`.
    pub(crate) fn disk(&self, serial: &str, mebibytes: u64) -> Disk {
        Disk::new(self.directory.path(), serial, mebibytes << 20)
    }

    /// The disk of Berth's state.
    pub(crate) fn state(&self) -> &Disk {
        &self.state
    }

    /// Switches a machine on, with its state mounted at `/state`.
    pub(crate) fn boot(&self, slots: &[Slot<'_>]) -> Machine {
        let slots = [slots, &[Slot::Virtio(&self.state)]].concat();
        let mut machine = Machine::switch_on(self.directory.path(), &slots, accelerator());
        // On a busy host the emulated kernel's timers stop now and then, before anything else has begun.
        for _ in 0..2 {
            if !machine.answers_within(BOOT) {
                machine.switch_off();
                machine = Machine::switch_on(self.directory.path(), &slots, accelerator());
            }
        }
        assert!(machine.answers_within(BOOT), "it does not boot:\n{}", machine.console());
        machine.sh(
            "state=/dev/$(disk state)\n\
             mount -t ext4 $state /state 2>/dev/null || { mkfs.ext4 -q $state && mount -t ext4 $state /state; }",
        );
        machine
    }
}

/// How qemu runs the machine's processor: by the host's where that works, which in a machine within a machine it may not
/// although it is offered. `BERTH_MACHINE_ACCEL` (`kvm`, `tcg`) decides without a trial.
fn accelerator() -> &'static str {
    static WORKS: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    WORKS.get_or_init(|| {
        std::env::var("BERTH_MACHINE_ACCEL").unwrap_or_else(|_| {
            let offered = File::options().read(true).write(true).open("/dev/kvm").is_ok();
            let directory = tempfile::tempdir().unwrap();
            let works = || Machine::switch_on(directory.path(), &[], "kvm").answers_within(TRIAL);
            if offered && works() { "kvm".into() } else { "tcg".into() }
        })
    })
}

/// A machine that runs. Dropping it switches it off.
pub(crate) struct Machine {
    qemu: Child,
    disks: Vec<Disk>,
    console: PathBuf,
    commands: u16,
    /// Where it takes gRPC.
    pub(crate) calls: u16,
    /// Where it takes HTTP.
    pub(crate) web: u16,
}

impl Machine {
    fn switch_on(directory: &Path, slots: &[Slot<'_>], accelerator: &str) -> Self {
        let cache = cache();
        let [commands, calls, web] = free_ports();
        let console = directory.join("console");
        // It ends with this process, however that ends.
        let mut qemu = Command::new("setpriv");
        qemu.args(["--pdeathsig", "KILL", "qemu-system-x86_64"])
            .args(["-accel", accelerator, "-M", "pc", "-smp", "2", "-m", "640", "-no-reboot"])
            .args(["-cpu", if accelerator == "kvm" { "host" } else { "qemu64" }])
            .args(["-nodefaults", "-no-user-config", "-display", "none"])
            .arg("-kernel")
            .arg(cache.join("vmlinuz"))
            .arg("-initrd")
            .arg(cache.join("initramfs"))
            // Emulated timers are late on a busy host, for which the kernel would give them up.
            .args(["-append", "console=ttyS0 panic=-1 loglevel=5 no_timer_check"])
            .arg("-serial")
            .arg(format!("file:{}", console.display()))
            .arg("-netdev")
            .arg(format!(
                "user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{commands}-:7000,\
                 hostfwd=tcp:127.0.0.1:{calls}-:7001,hostfwd=tcp:127.0.0.1:{web}-:7002"
            ))
            .args(["-device", "virtio-net-pci,netdev=net,romfile="]);
        for slot in slots {
            slot.attach(&mut qemu);
        }
        let said = File::create(directory.join("qemu")).unwrap();
        let qemu = qemu.stdin(Stdio::null()).stdout(Stdio::null()).stderr(said).spawn();
        let qemu = qemu.unwrap();
        let disks = slots.iter().map(|slot| slot.disk().clone()).collect();
        Self { qemu, disks, console, commands, calls, web }
    }

    fn answers_within(&self, patience: Duration) -> bool {
        let begun = Instant::now();
        let is_up = || self.ask("true", TRIAL / 4).is_some();
        let wait = || is_up() || begun.elapsed() > patience || self.is_off();
        until(PATIENCE, wait) && begun.elapsed() <= patience && !self.is_off()
    }

    fn is_off(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.qemu.id())).unwrap_or_default();
        stat.is_empty() || stat.contains(") Z ")
    }

    /// Runs a script in the machine, which must succeed, and gives what it printed.
    pub(crate) fn sh(&self, script: &str) -> String {
        let (status, printed) = self.try_sh(script).unwrap_or_else(|| {
            panic!("the machine does not answer to {script}; its console:\n{}", self.console())
        });
        assert_eq!(status, 0, "{script}:\n{printed}");
        printed
    }

    /// Runs a script in the machine; gives its status and what it printed, if the machine answers.
    pub(crate) fn try_sh(&self, script: &str) -> Option<(i32, String)> {
        self.ask(script, PATIENCE)
    }

    fn ask(&self, script: &str, patience: Duration) -> Option<(i32, String)> {
        let mut connection = TcpStream::connect((Ipv4Addr::LOCALHOST, self.commands)).ok()?;
        // qemu takes connections before the machine does.
        connection.set_read_timeout(Some(patience)).ok()?;
        write!(connection, "{}\n{script}", script.len()).ok()?;
        let mut reader = BufReader::new(connection);
        let mut head = String::new();
        reader.read_line(&mut head).ok()?;
        let (status, length) = head.trim().split_once(' ')?;
        let mut printed = vec![0; length.parse().ok()?];
        reader.read_exact(&mut printed).ok()?;
        Some((status.parse().ok()?, String::from_utf8_lossy(&printed).into_owned()))
    }

    /// What the kernel printed.
    pub(crate) fn console(&self) -> String {
        fs::read_to_string(&self.console).unwrap_or_default()
    }

    /// Takes the power away from under whoever speaks to it; [`Machine::cut`] has to follow.
    pub(crate) fn kill(&self) {
        let pid = Pid::from_child(&self.qemu);
        kill_process(pid, Signal::KILL).unwrap();
    }

    /// Takes the power away: what was in memory is gone, and of what the disks had not flushed some.
    pub(crate) fn cut(mut self) {
        self.switch_off();
    }

    fn switch_off(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
        for disk in self.disks.drain(..) {
            disk.lose_power();
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the machine's console:\n{}", self.console());
            let log = self.try_sh("cat /run/berth.log").map(|(_, log)| log);
            eprintln!("Berth's log:\n{}", log.unwrap_or_default());
        }
        self.switch_off();
    }
}

impl Slot<'_> {
    fn disk(&self) -> &Disk {
        match self {
            Self::Virtio(disk) | Self::Anonymous(disk) | Self::Plain(disk) | Self::Nvme(disk) => {
                disk
            }
        }
    }

    fn attach(&self, qemu: &mut Command) {
        let Disk { serial, socket, .. } = self.disk();
        let socket = socket.display();
        qemu.arg("-blockdev").arg(format!(
            "driver=nbd,node-name={serial},server.type=unix,server.path={socket},discard=unmap"
        ));
        let virtio = format!("virtio-blk-pci,drive={serial},rerror=report,werror=report");
        match self {
            Self::Virtio(_) => {
                qemu.arg("-device").arg(format!("{virtio},serial={serial}"));
            }
            Self::Anonymous(_) => {
                qemu.arg("-device").arg(virtio);
            }
            Self::Plain(_) => {
                let device = format!("{virtio},serial={serial},write-zeroes=off,discard=off");
                qemu.arg("-device").arg(device);
            }
            Self::Nvme(_) => {
                qemu.arg("-device").arg(format!("nvme,drive={serial},serial={serial}"));
            }
        }
    }
}

/// Where `tests/machine/build` put what a machine boots from.
fn cache() -> PathBuf {
    let home = || PathBuf::from(std::env::var_os("HOME").expect("HOME is set"));
    let cache =
        || std::env::var_os("XDG_CACHE_HOME").map_or_else(|| home().join(".cache"), PathBuf::from);
    let own = std::env::var_os("BERTH_MACHINE").map(PathBuf::from);
    let cache = own.unwrap_or_else(|| cache().join("berth-machine"));
    assert!(cache.join("initramfs").exists(), "there is no machine: tests/machine/run makes one");
    cache
}

/// Ports of this host that nobody has.
fn free_ports() -> [u16; 3] {
    let held = [(); 3].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    held.map(|listener| listener.local_addr().unwrap().port())
}
