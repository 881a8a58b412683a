use super::super::lock::Lock;
use super::*;
use crate::volume::fixture::released;

fn shell(script: &str, limit: Duration) -> Result<(), Error> {
    started(&["/bin/sh", "-c", script], limit)
}

fn started(command: &[&str], limit: Duration) -> Result<(), Error> {
    let locks = tempfile::tempdir().unwrap();
    let mut lock = Lock::take(locks.path(), &released().name).unwrap();
    let command: Vec<_> = command.iter().map(|word| (*word).to_owned()).collect();
    let mut wipe = Run {
        host: crate::host::namespace::HostNamespace::default(),
        progress: &Progress::default(),
        lock: &mut lock,
    };
    run(&released(), &command, limit, &mut wipe)
}

const LONG: Duration = Duration::from_mins(10);

#[test]
fn a_program_sees_the_documented_environment_and_nothing_else() {
    let said =
        shell("env | sort | cut -d= -f1 | tr '\\n' ' '; exit 1", LONG).unwrap_err().sentence();

    let expected = "BERTH_CAPACITY BERTH_MODE BERTH_NODE BERTH_PATH BERTH_POOL BERTH_TENANCY BERTH_VOLUME PATH PWD";
    assert!(said.contains(expected), "{said}");
}

#[test]
fn a_program_that_fails_is_quoted_with_the_end_of_its_output() {
    let script = "head -c 200000 /dev/zero | tr '\\0' x; echo; echo the end >&2; exit 3";

    let error = shell(script, LONG).unwrap_err();

    let Error::Failed { status, output, .. } = error else { panic!("{error:?}") };
    assert_eq!(status.code(), Some(3));
    assert!(output.ends_with("the end") && output.len() <= KEPT, "{}", output.len());
}

#[test]
fn a_program_that_takes_too_long_is_ended_with_all_that_it_started() {
    let directory = tempfile::tempdir().unwrap();
    let pid = directory.path().join("pid");
    let script = format!("sleep 600 & echo $! > {}; wait", pid.display());

    let error = shell(&script, Duration::from_millis(300)).unwrap_err();

    assert!(matches!(error, Error::TimedOut { .. }), "{error:?}");
    assert!(is_gone(&number(&pid)));
}

#[test]
fn a_program_that_is_not_there_is_named() {
    let error = started(&["/nowhere/wipe"], LONG).unwrap_err();

    assert!(error.to_string().contains("/nowhere/wipe"), "{error}");
}

fn number(file: &std::path::Path) -> String {
    std::fs::read_to_string(file).unwrap().trim().to_owned()
}

/// Whether a process has gone, or is dead and not waited for by whoever inherited it.
fn is_gone(process: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"));
    stat.is_err() || stat.unwrap().contains(") Z ")
}

#[test]
fn what_a_program_left_running_ends_with_it_though_it_succeeded() {
    let directory = tempfile::tempdir().unwrap();
    let pid = directory.path().join("pid");

    shell(&format!("sleep 600 & echo $! > {}", pid.display()), LONG).unwrap();

    assert!(is_gone(&number(&pid)));
}

#[test]
fn a_program_that_leaves_a_process_out_of_reach_has_not_wiped() {
    let directory = tempfile::tempdir().unwrap();
    let pid = directory.path().join("pid");
    let script = format!(
        "setsid sh -c 'echo $$ > {0}; exec sleep 600' & while ! test -s {0}; do :; done",
        pid.display()
    );

    let error = shell(&script, LONG).unwrap_err();

    assert!(matches!(error, Error::LeftBehind { .. }), "{error:?}");
    process::kill_group(number(&pid).parse().unwrap());
}
