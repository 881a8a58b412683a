use super::*;
use crate::volume::fixture::released;

fn shell(script: &str, limit: Duration) -> Result<(), Error> {
    let command = ["/bin/sh", "-c", script].map(str::to_owned);
    run(&released(), &command, limit, &Progress::default())
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
    let child = std::fs::read_to_string(pid).unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.trim()));
    // Gone, or dead and not waited for by whoever inherited it.
    assert!(stat.is_err() || stat.unwrap().contains(") Z "));
}

#[test]
fn a_program_that_is_not_there_is_named() {
    let command = ["/nowhere/wipe".to_owned()];

    let error = run(&released(), &command, LONG, &Progress::default()).unwrap_err();

    assert!(error.to_string().contains("/nowhere/wipe"), "{error}");
}
