//! The chores of the Makefile: that the demonstration runs wherever it says it does and leaves nothing behind, and that
//! what a chore needs is looked for before it begins.

#![expect(clippy::unwrap_used, reason = "a test panics where something is not as it must be")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use support::{Host, MIB};

/// The demonstration, built as it is now.
fn demo() -> PathBuf {
    let berth = Path::new(env!("CARGO_BIN_EXE_berth"));
    let mut build = Command::new(env!("CARGO"));
    build.args([
        "build",
        "--quiet",
        "--locked",
        "--offline",
        "--bin",
        "berth",
        "--example",
        "demo",
    ]);
    if berth.parent().unwrap().ends_with("release") {
        build.arg("--release");
    }
    support::run(&mut build);
    berth.with_file_name("examples").join("demo")
}

fn require_whole(shown: &Output) {
    let (out, complaint) =
        (String::from_utf8_lossy(&shown.stdout), String::from_utf8_lossy(&shown.stderr));
    assert!(shown.status.success(), "{out}{complaint}");
    assert!(
        out.contains("deleted, wiped and offered again") && out.contains("\nDone in "),
        "{out}"
    );
}

#[test]
fn the_demonstration_needs_no_other_program_and_leaves_nothing_behind() {
    let host = Host::new();
    let place = host.path("outside");

    let shown = Command::new(demo()).env("TMPDIR", &place).env("PATH", &place).output().unwrap();

    require_whole(&shown);
    assert_eq!(fs::read_dir(place).unwrap().count(), 0);
}

#[test]
fn the_demonstration_runs_as_a_root_that_may_not_mount() {
    let host = Host::new();
    let place = host.path("outside");
    let powerless = |program: &Path, arguments: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--bounding-set=-sys_admin", "--inh-caps=-sys_admin"]);
        command.arg(program).args(arguments).env("TMPDIR", &place).output().unwrap()
    };
    if !powerless(Path::new("unshare"), &["-Urm", "true"]).status.success() {
        eprintln!("not tested: this machine has no user namespaces");
        return;
    }
    assert!(!powerless(Path::new("unshare"), &["-m", "true"]).status.success());

    let shown = powerless(&demo(), &[]);

    require_whole(&shown);
    assert_eq!(fs::read_dir(place).unwrap().count(), 0);
}

#[test]
fn a_host_vanishes_with_its_test_whatever_is_mounted_there() {
    let host = Host::new();
    let place = host.path("");
    host.tmpfs("fast", "v1", MIB);

    drop(host);

    assert!(!place.exists());
}

/// The lines of the README that a person is told to paste.
fn by_hand() -> String {
    let readme = include_str!("../README.md");
    let (_, after) = readme.split_once("\nBy hand, ").unwrap();
    let lines = after.lines().skip(1).skip_while(|line| line.is_empty());
    lines.map_while(|line| line.strip_prefix("    ")).collect::<Vec<_>>().join("\n")
}

#[test]
fn what_the_readme_says_to_paste_shows_a_volume() {
    let host = Host::new();
    let place = host.path("outside");
    fs::create_dir_all(place.join("target/release")).unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_berth"), place.join("target/release/berth"))
        .unwrap();
    for directory in ["/mnt", "/var/lib", "/run"] {
        support::mount(&["-t", "tmpfs", "tmpfs"], Path::new(directory));
    }
    let pasted = by_hand();
    assert!(pasted.contains("\nmake build\n") && pasted.contains(" &\n"), "{pasted}");
    // The binary is built, and the server is ended with the shell that a person would go on with.
    let script = format!("{}\nkill $!\nwait $!\n", pasted.replace("make build", "true"));

    let shell =
        Command::new("sh").args(["-e", "-c", &script]).current_dir(&place).output().unwrap();

    let (out, complaint) =
        (String::from_utf8_lossy(&shell.stdout), String::from_utf8_lossy(&shell.stderr));
    assert!(shell.status.success(), "{complaint}");
    let volume = out.lines().find(|line| line.contains("/mnt/fast-disks/v1"));
    assert!(volume.is_some_and(|line| line.contains("Available")), "{out}{complaint}");
}

/// A directory of programs that stand before the machine's: what each prints, and a list of the calls of all.
struct Toolbox {
    host: Host,
}

impl Toolbox {
    fn new(programs: &[(&str, &str)]) -> Self {
        let host = Host::new();
        let toolbox = Self { host };
        for (name, prints) in programs {
            let program = toolbox.path().join(name);
            let calls = toolbox.calls();
            let text =
                format!("#!/bin/sh\necho {name} \"$@\" >> {}\necho {prints}\n", calls.display());
            fs::write(&program, text).unwrap();
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        }
        toolbox
    }

    fn path(&self) -> PathBuf {
        self.host.path("outside")
    }

    fn calls(&self) -> PathBuf {
        self.host.path("calls")
    }

    /// Runs a program of the project's directory with these tools before the others.
    fn run(&self, program: &str, arguments: &[&str]) -> Output {
        Command::new(program)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .env_clear()
            .env("PATH", format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", self.path().display()))
            .args(arguments)
            .output()
            .unwrap()
    }
}

#[test]
fn a_toolchain_that_is_too_old_is_said_to_be_missing() {
    for (cargo, go, lacks) in [
        ("cargo 1.95.0 (f2d3ce0bd 2026-03-21)", "go1.26.8", ""),
        ("cargo 2.0.0", "devel go1.27-3a9c", ""),
        ("cargo 1.94.1 (abc 2026-01-01)", "go1.26rc1", "Rust"),
        ("cargo 1.100.0", "go1.9.7", "Go"),
        ("nothing", "nothing", "Rust Go"),
    ] {
        let toolbox = Toolbox::new(&[("cargo", &format!("'{cargo}'")), ("go", &format!("'{go}'"))]);

        let said = toolbox.run("tools/need", &["cargo", "go"]);

        let complaint = String::from_utf8_lossy(&said.stderr);
        for tool in ["Rust", "Go"] {
            let lacked = complaint.contains(&format!("missing: {tool} 1."));
            assert_eq!(lacked, lacks.contains(tool), "{cargo}, {go}: {complaint}");
        }
        assert_eq!(said.status.success(), lacks.is_empty());
    }
}

#[test]
fn everything_that_the_tests_need_is_looked_for_before_the_first_of_them_begins() {
    let toolbox = Toolbox::new(&[("cargo", "cargo 1.95.0"), ("go", "go1.20")]);

    let said = toolbox.run("make", &["test"]);

    let complaint = String::from_utf8_lossy(&said.stderr);
    assert!(!said.status.success() && complaint.contains("missing: Go 1.26"), "{complaint}");
    let calls = fs::read_to_string(toolbox.calls()).unwrap();
    assert_eq!(calls.lines().collect::<Vec<_>>(), ["cargo --version", "go env GOVERSION"]);
}
