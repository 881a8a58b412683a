//! How long it takes to build `berth`: everything anew, and after one file was touched. What it is built of is there already.

use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::time::{Instant, SystemTime};

use crate::report::Report;
use crate::samples::shown;

const SOURCE: &str = env!("CARGO_MANIFEST_DIR");
/// What is touched: all of the library is compiled again.
const TOUCHED: &str = "src/lib.rs";

pub fn run(report: &mut Report) {
    cargo(&["fetch", "--locked"], Path::new("unused"));
    report.table(&["`cargo build --locked --bin berth`", "everything:", "after a change:"]);
    for (what, arguments) in [("as it is released", &["--release"][..]), ("unoptimised", &[])] {
        let target = tempfile::tempdir().unwrap();
        let build = || {
            let begun = Instant::now();
            cargo(&[&["build", "--locked", "--bin", "berth"], arguments].concat(), target.path());
            begun.elapsed()
        };
        let cold = build();
        touch();
        report.row(&[&what, &shown(cold), &shown(build())]);
    }
    report.end();
}

fn cargo(arguments: &[&str], target: &Path) {
    let mut command = Command::new(env!("CARGO"));
    command.args(arguments).current_dir(SOURCE).env("CARGO_TARGET_DIR", target);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn touch() {
    let file = File::options().append(true).open(Path::new(SOURCE).join(TOUCHED)).unwrap();
    file.set_modified(SystemTime::now()).unwrap();
}
