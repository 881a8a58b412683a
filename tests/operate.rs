//! What a person types, against a running server.

#![expect(clippy::unwrap_used, reason = "a test panics where something is not as it must be")]

mod support;

use std::fs::{self, File};
use std::process::{Command, Output, Stdio};

use berth::volume::{LocalVolume, Phase};
use rustix::process::Signal;
use support::{Berth, Host, MIB};

/// Runs `berth` with arguments and the endpoint of the host's server.
fn berth_with(host: &Host, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_berth"))
        .args(arguments)
        .env("BERTH_ENDPOINT", support::berth::endpoint(host))
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn complaint(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn start(host: &Host, arguments: &[&str]) -> Berth {
    let config = format!("pools: {{fast: {{path: {}}}}}", host.pool("fast").display());
    Berth::start_with(host, &config, arguments)
}

#[test]
fn volumes_are_shown_as_a_table_wide_and_as_json() {
    let host = Host::new();
    host.tmpfs("fast", "v1", 64 * MIB);
    let berth = start(&host, &[]);
    let name = berth.wait_phase("v1", Phase::Available).name.to_string();

    let table = stdout(&berth_with(&host, &["volumes"]));
    let wide = stdout(&berth_with(&host, &["volumes", "-o", "wide"]));
    let json = stdout(&berth_with(&host, &["volumes", "-o", "json", "--pool", "fast"]));
    let none = stdout(&berth_with(&host, &["volumes", "-o", "json", "--node", "node-b"]));
    let nothing = stdout(&berth_with(&host, &["volumes", "--node", "node-b"]));
    let mistaken = complaint(&berth_with(&host, &["volumes", "--pool", "slow"]));

    assert!(table.lines().nth(1).unwrap().starts_with(&name) && table.contains("64Mi"), "{table}");
    assert!(wide.contains(host.pool("fast").join("v1").to_str().unwrap()), "{wide}");
    let volumes: Vec<LocalVolume> = serde_json::from_str(&json).unwrap();
    assert_eq!(volumes[0].name.as_str(), name);
    assert_eq!(none, "[]\n");
    assert!(nothing.starts_with("There are no volumes on node node-b."), "{nothing}");
    assert_eq!(mistaken, "berth: pool slow is not configured: the pools are fast\n");
}

#[test]
fn what_is_in_a_pool_and_not_offered_is_said_beneath_the_volumes_and_as_json() {
    let host = Host::new();
    host.tmpfs("fast", "v1", MIB);
    fs::write(host.pool("fast").join("file"), "").unwrap();
    let berth = start(&host, &[]);
    berth.wait_phase("v1", Phase::Available);

    let table = stdout(&berth_with(&host, &["volumes"]));
    let text = stdout(&berth_with(&host, &["problems"]));
    let json = stdout(&berth_with(&host, &["problems", "-o", "json", "--pool", "fast"]));
    let none = stdout(&berth_with(&host, &["problems", "-o", "json", "--pool", "slow"]));

    let said = table.lines().last().unwrap();
    assert!(said.contains("fast/file is not offered: it is neither"), "{table}");
    assert_eq!(text, format!("{said}\n"));
    let problems: Vec<serde_json::Value> = serde_json::from_str(&json).unwrap();
    assert_eq!(problems[0]["kind"], "Unsuitable");
    assert_eq!(none, "[]\n");
}

#[test]
fn a_person_cordons_releases_cleans_and_forgets() {
    let host = Host::new();
    let source = host.tmpfs("fast", "v1", MIB);
    let berth = start(&host, &[]);
    let name = berth.wait_phase("v1", Phase::Available).name.to_string();

    assert!(stdout(&berth_with(&host, &["cordon", &name])).contains("it is Cordoned now"));
    assert!(berth.create("pvc-1", "fast", 1).is_err());
    assert!(stdout(&berth_with(&host, &["uncordon", &name])).contains("it is Available now"));

    let id = berth.create("pvc-1", "fast", 1).unwrap().volume_id;
    assert!(complaint(&berth_with(&host, &["clean", &name])).contains("berth release"));
    assert!(
        complaint(&berth_with(&host, &["release", &format!("{name}@1")]))
            .contains("latest tenancy")
    );
    assert!(stdout(&berth_with(&host, &["release", &id])).contains("released"));
    berth.wait_phase("v1", Phase::Available);

    assert!(
        complaint(&berth_with(&host, &["forget", &name])).contains("remove it from its pool first")
    );
    berth.create("pvc-2", "fast", 1).unwrap();
    support::unmount(&source);
    berth.wait_phase("v1", Phase::Lost);
    assert!(stdout(&berth_with(&host, &["forget", &name])).contains("forgotten"));
    assert!(berth.volumes().is_empty());
}

#[test]
fn without_a_server_a_command_says_where_it_looked() {
    let host = Host::new();

    let said = complaint(&berth_with(&host, &["volumes"]));

    assert!(said.contains("run/csi.sock") && said.contains("start `berth standalone`"), "{said}");
    assert_eq!(said.lines().count(), 1);
}

#[test]
fn a_second_server_touches_nothing_of_the_first() {
    let host = Host::new();
    host.tmpfs("fast", "v1", MIB);
    let berth = start(&host, &[]);
    let config = host.path("pools.yaml").display().to_string();
    let state = host.path("state").display().to_string();
    let second = |endpoint: &str| {
        let arguments = [
            "standalone",
            "--config",
            &config,
            "--state",
            &state,
            "--endpoint",
            endpoint,
            "--node",
            "node-a",
        ];
        complaint(&Command::new(env!("CARGO_BIN_EXE_berth")).args(arguments).output().unwrap())
    };

    let same_socket = second(&support::berth::endpoint(&host));
    let same_state = second(&format!("unix://{}", host.path("run/other.sock").display()));

    assert!(same_socket.contains("another server is listening"), "{same_socket}");
    assert!(same_state.contains("in use by another process"), "{same_state}");
    berth.create("pvc-1", "fast", 1).unwrap();
}

#[test]
fn a_configuration_is_explained_or_refused_with_its_line() {
    let host = Host::new();
    let good = host.path("good.yaml");
    let bad = host.path("bad.yaml");
    fs::write(&good, "pools:\n  fast: {path: /mnt/fast}\n").unwrap();
    fs::write(&bad, "pools:\n  fast:\n    path: /mnt/fast\n    clen: {method: none}\n").unwrap();

    let explained = stdout(&berth_with(&host, &["check-config", good.to_str().unwrap()]));
    let refused = complaint(&berth_with(&host, &["check-config", bad.to_str().unwrap()]));

    assert!(explained.contains("pool fast: mount points, given as directories"), "{explained}");
    assert!(refused.contains("bad.yaml:4:5: pools.fast.clen"), "{refused}");
}

#[test]
fn a_changed_configuration_is_taken_without_a_restart_and_a_broken_one_is_not() {
    let host = Host::new();
    host.tmpfs("fast", "v1", MIB);
    host.tmpfs("slow", "v2", MIB);
    let berth = start(&host, &[]);
    berth.wait_phase("v1", Phase::Available);
    let hang_up = || berth.signal(Signal::HUP);

    fs::write(host.path("pools.yaml"), "pools: {fast: {").unwrap();
    hang_up();
    berth.wait_for("the refusal", |berth| berth.log().contains("pools.yaml:1:").then_some(()));
    assert_eq!(berth.volumes().len(), 1);

    let (fast, slow) = (host.pool("fast"), host.pool("slow"));
    let both = format!(
        "pools: {{fast: {{path: {}}}, slow: {{path: {}}}}}",
        fast.display(),
        slow.display()
    );
    fs::write(host.path("pools.yaml"), both).unwrap();
    hang_up();
    berth.wait_phase("v2", Phase::Available);
}

#[test]
fn health_and_metrics_are_served_where_they_were_asked_for() {
    let host = Host::new();
    host.tmpfs("fast", "v1", MIB);
    let free =
        std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let berth = start(&host, &["--http", &free]);
    berth.wait_phase("v1", Phase::Available);
    let get = |path: &str| {
        use std::io::{Read, Write};
        let mut stream = std::net::TcpStream::connect(&free).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: berth\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };

    assert!(get("/healthz").starts_with("HTTP/1.1 200"));
    assert!(get("/readyz").starts_with("HTTP/1.1 200"));
    let metrics = berth.wait_for("the gauges", |_| {
        let metrics = get("/metrics");
        metrics.contains("phase=\"Available\"").then_some(metrics)
    });
    assert!(metrics.contains("berth_grpc_calls_total{method=\"Probe\",code=\"OK\"}"), "{metrics}");
    assert!(metrics.trim_end().ends_with("# EOF"));
}

/// Runs `berth` with its output where `stdout` leads.
fn berth_into(host: &Host, arguments: &[&str], stdout: impl Into<Stdio>) -> Output {
    Command::new(env!("CARGO_BIN_EXE_berth"))
        .args(arguments)
        .env("BERTH_ENDPOINT", support::berth::endpoint(host))
        .stdout(stdout)
        .output()
        .unwrap()
}

#[test]
fn a_reader_that_goes_away_is_no_failure_and_an_output_that_cannot_be_written_is_told() {
    let host = Host::new();
    host.tmpfs("fast", "v1", MIB);
    let berth = start(&host, &[]);
    let name = berth.wait_phase("v1", Phase::Available).name.to_string();
    let config = host.path("pools.yaml").display().to_string();

    for arguments in [
        ["volumes", "--output=json"].as_slice(),
        &["volumes"],
        &["cordon", &name],
        &["check-config", &config],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let closed = berth_into(&host, arguments, writer);
        let full = File::options().write(true).open("/dev/full").unwrap();
        let full = berth_into(&host, arguments, full);

        assert!(closed.status.success() && closed.stderr.is_empty(), "{arguments:?}: {closed:?}");
        assert_eq!(
            complaint(&full),
            "berth: the output could not be written: No space left on device (os error 28)\n"
        );
    }
}

#[test]
fn a_command_may_wait_until_the_server_is_ready() {
    let host = Host::new();
    host.tmpfs("fast", "v1", MIB);
    let config = format!("pools: {{fast: {{path: {}}}}}", host.pool("fast").display());
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| berth_with(&host, &["volumes", "--wait", "-o", "json"]));
        let _berth = Berth::spawn(&host, &config, &[]);

        let shown = stdout(&asked.join().unwrap());

        let volumes: Vec<LocalVolume> = serde_json::from_str(&shown).unwrap();
        assert_eq!(volumes.len(), 1);
    });
    let in_vain = complaint(&berth_with(&host, &["volumes", "--wait=1"]));
    assert!(in_vain.contains("no server answers at"), "{in_vain}");
}

#[test]
fn a_start_that_is_refused_leaves_no_socket() {
    let host = Host::new();
    host.tmpfs("fast", "v1", MIB);
    let config = format!("pools: {{fast: {{path: {}}}}}", host.pool("fast").display());
    fs::write(host.path("state/inventory.redb"), [0x5A; 4096]).unwrap();

    let refused = Berth::spawn(&host, &config, &[]).ended();

    assert_eq!(refused.code(), Some(1));
    assert_eq!(fs::read_dir(host.path("run")).unwrap().count(), 0);
}

#[test]
fn an_order_to_wipe_is_carried_out_however_often_the_last_one_failed() {
    let host = Host::new();
    host.tmpfs("fast", "v1", MIB);
    let mended = host.path("outside/mended");
    let script = format!("test -e {}", mended.display());
    let config = format!(
        "pools: {{fast: {{path: {}, clean: {{method: command, command: [/bin/sh, -c, '{script}']}}}}}}",
        host.pool("fast").display()
    );
    let berth = Berth::start(&host, &config);
    let name = berth.wait_phase("v1", Phase::Available).name.to_string();
    let id = berth.create("pvc-1", "fast", 1).unwrap().volume_id;
    berth.delete(&id).unwrap();
    berth.wait_for("three failures", |berth| {
        (berth.log().matches("it is tried again").count() >= 3).then_some(())
    });
    fs::write(mended, "").unwrap();

    let said = stdout(&berth_with(&host, &["clean", &name]));
    berth.wait_phase("v1", Phase::Available);

    assert!(said.contains("is to be wiped"), "{said}");
    let again = stdout(&berth_with(&host, &["clean", &name]));
    assert_eq!(again, format!("volume {name} is clean already; it is Available now\n"));
}

/// The heaps of a process beside its first: glibc reserves 64 MiB for each, at a multiple of that (malloc/arena.c).
fn heaps(process: u32) -> usize {
    const RESERVED: u64 = 64 * MIB;
    let maps = fs::read_to_string(format!("/proc/{process}/maps")).unwrap();
    let ranges: Vec<_> = maps
        .lines()
        .map(|line| {
            let mut fields = line.split_whitespace();
            let (begin, end) = fields.next().unwrap().split_once('-').unwrap();
            let number = |text| u64::from_str_radix(text, 16).unwrap();
            (number(begin), number(end), fields.next().unwrap())
        })
        .collect();
    let is_heap = |pair: &&[(u64, u64, &str)]| {
        let [(begin, used, rights), (rest, end, none)] = pair[..] else { return false };
        used == rest
            && end - begin == RESERVED
            && begin % RESERVED == 0
            && rights == "rw-p"
            && none == "---p"
    };
    ranges.windows(2).filter(is_heap).count()
}

#[test]
fn however_many_threads_look_at_volumes_they_share_a_few_heaps() {
    let host = Host::new();
    for number in 0..64 {
        host.tmpfs("fast", &format!("v{number}"), MIB);
    }

    let berth = start(&host, &[]);

    let status = fs::read_to_string(format!("/proc/{}/status", berth.pid().as_raw_nonzero()));
    let threads = status
        .unwrap()
        .lines()
        .find_map(|line| line.strip_prefix("Threads:")?.trim().parse::<u32>().ok());
    let heaps = heaps(berth.pid().as_raw_nonzero().get().unsigned_abs());
    // Each would have a heap of its own.
    assert!(threads > Some(5), "too few threads to tell: {threads:?}");
    assert!(heaps <= 3, "{heaps} heaps for {threads:?} threads");
}
