//! `berth check-config`: what the files of pools mean, in plain words.

use std::fmt::Write as _;

use crate::pool::config::ConfigError;
use crate::pool::{Accept, Loaded, Pool, Sources};
use crate::volume::{CleanMethod, CleanPolicy, Mode, NewVolumes};

/// What the pools of the files mean, after what each key of the static provisioner's becomes.
pub(super) fn report(sources: &Sources) -> Result<String, ConfigError> {
    let Loaded { pools, report: lines } = sources.load()?;
    let mut report = String::new();
    // Writing to a String does not fail.
    for line in &lines {
        let _ = writeln!(report, "{line}");
    }
    for pool in pools.values() {
        let _ = write!(report, "{}", described(pool));
    }
    let warnings = match lines.iter().filter(|line| line.is_warning).count() {
        0 => "no problem".to_owned(),
        1 => "no problem, 1 warning".to_owned(),
        many => format!("no problem, {many} warnings"),
    };
    let count = pools.len();
    let noun = if count == 1 { "pool" } else { "pools" };
    let _ = writeln!(report, "{sources}: {count} {noun}, {warnings}");
    Ok(report)
}

fn described(pool: &Pool) -> String {
    let mut lines = vec![
        format!("pool {}: {}", pool.name, what(pool)),
        format!("  found in {} by names {}", pool.path.display(), pool.globs.join(", ")),
        format!("  {}", found_with_data(pool.new_volumes)),
        format!("  {}", wiped(pool)),
    ];
    if let Some(capacity) = pool.capacity {
        lines.push(format!("  each plain directory counts for {capacity}"));
    }
    if pool.mode == Mode::Filesystem && pool.accept.device {
        lines.push(format!(
            "  devices are formatted with {} unless a claim asks for another type",
            pool.fs_type.name()
        ));
    }
    if !pool.mount_options.is_empty() {
        lines.push(format!("  every mount gets {}", pool.mount_options.join(",")));
    }
    lines.join("\n") + "\n"
}

fn what(pool: &Pool) -> String {
    let Accept { mount, directory, device } = pool.accept;
    let kinds =
        [(mount, "mount points"), (directory, "plain directories"), (device, "block devices")];
    let kinds: Vec<_> = kinds.iter().filter(|(is, _)| *is).map(|(_, kind)| *kind).collect();
    let given = match pool.mode {
        Mode::Filesystem => "given as directories",
        Mode::Block => "given as raw devices",
    };
    format!("{}, {given}", kinds.join(" and "))
}

fn found_with_data(policy: NewVolumes) -> &'static str {
    match policy {
        NewVolumes::RequireEmpty => {
            "one that is found holding data is Dirty until a person decides (`berth clean`)"
        }
        NewVolumes::Clean => "one that is found holding data is WIPED and offered",
        NewVolumes::Accept => "one that is found holding data is offered with it",
    }
}

/// A line, or one for directories and one for devices.
fn wiped(pool: &Pool) -> String {
    let Some(devices) = &pool.clean_devices else {
        return format!("after a tenancy {}", how(&pool.clean, pool.accept.device));
    };
    let (directories, devices) = (how(&pool.clean, false), how(devices, true));
    format!("after a tenancy in a directory {directories}\n  after a tenancy on a device {devices}")
}

/// What a policy does; `device`: a device may be meant.
fn how(CleanPolicy { method, verify }: &CleanPolicy, device: bool) -> String {
    let how = match method {
        CleanMethod::Delete if device => {
            "everything in it is removed; a device is made blank".to_owned()
        }
        CleanMethod::Delete => "everything in it is removed".to_owned(),
        CleanMethod::Reformat => "a new file system is made".to_owned(),
        CleanMethod::None => {
            "NOTHING is removed; the next tenant finds what the last one left".to_owned()
        }
        CleanMethod::Discard => {
            "its blocks are discarded, or zeroed where that is not certain to read back as zeros"
                .to_owned()
        }
        CleanMethod::Zero => "every block is overwritten with zeros".to_owned(),
        CleanMethod::Shred { passes } => {
            format!("every block is overwritten {passes} times with random data, then with zeros")
        }
        CleanMethod::Command { command, timeout } => {
            format!("{} is run, for at most {timeout} s", command.join(" "))
        }
    };
    let read_back = if *verify { ", and the result is read back" } else { "" };
    format!("{how}{read_back}")
}
