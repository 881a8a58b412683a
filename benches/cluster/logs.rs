//! When calls began and ended, from what Berth and containerd wrote in their logs.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use serde_json::Value;

use super::harness::{Cluster, eventually};

/// When a call began and when it ended.
pub type Call = (SystemTime, SystemTime);

impl Cluster {
    /// The first call of `method` after `since` about `what`, a volume or a claim, as the Berth that answered it logged it.
    pub async fn call(&self, method: &str, what: &str, since: SystemTime) -> Call {
        eventually(&format!("{method} is in a log"), async || {
            let mut texts =
                self.logs_of_berth().into_iter().map(|path| fs::read_to_string(path).unwrap());
            texts.find_map(|text| call(&text, method, what, since))
        })
        .await
    }

    /// The logs of every Berth that runs.
    pub fn logs_of_berth(&self) -> Vec<PathBuf> {
        let mut logs = Vec::new();
        for node in ["node-a", "node-b"] {
            let pods = fs::read_dir(self.state.join(node).join("log/pods")).unwrap().flatten();
            let berths =
                pods.map(|pod| pod.path().join("berth")).filter_map(|at| fs::read_dir(at).ok());
            logs.extend(berths.flatten().flatten().map(|file| file.path()));
        }
        logs
    }

    /// When a pod's sandbox was begun and was there, and when its only container had been started.
    pub async fn started(&self, node: &str, pod: &str) -> [SystemTime; 3] {
        let path = self.state.join("log").join(format!("containerd-{node}.log"));
        eventually("containerd has logged the pod's start", async || {
            started(&fs::read_to_string(&path).unwrap(), pod)
        })
        .await
    }
}

/// A line of Berth's log, without what containerd puts before it.
fn entry(line: &str) -> Option<Value> {
    serde_json::from_str(&line[line.find('{')?..]).ok()
}

/// The time that a line of Berth's log was written at.
pub fn time(entry: &Value) -> Option<SystemTime> {
    Some(entry["timestamp"].as_str()?.parse::<Timestamp>().ok()?.into())
}

fn call(text: &str, method: &str, what: &str, since: SystemTime) -> Option<Call> {
    let calls = text.lines().filter(|line| line.contains(method)).filter_map(entry);
    let mut calls = calls.filter_map(|entry| {
        let span = &entry["span"];
        let is = span["method"] == method && (span["volume"] == what || span["claim"] == what);
        let ended = time(&entry).filter(|ended| is && *ended > since)?;
        Some((ended - Duration::from_secs_f64(entry["millis"].as_f64()? / 1e3), ended))
    });
    calls.next()
}

/// The latest message in any of Berth's logs, of those that begin with `message`.
pub fn latest(text: &str, message: &str) -> Option<SystemTime> {
    let mut entries = text.lines().rev().filter(|line| line.contains(message)).filter_map(entry);
    time(&entries.find(|entry| entry["message"] == message)?)
}

fn started(text: &str, pod: &str) -> Option<[SystemTime; 3]> {
    let find =
        |parts: &[&str]| text.lines().find(|line| parts.iter().all(|part| line.contains(part)));
    let at = |line: &str| -> Option<SystemTime> {
        let time = line.strip_prefix("time=\"")?.split('"').next()?;
        Some(time.parse::<Timestamp>().ok()?.into())
    };
    let id = |line: &str| Some(line.rsplit("id \\\"").next()?.split('\\').next()?.to_owned());
    let named = format!("RunPodSandbox for name:\\\"{pod}\\\"");
    let (begun, made) = (find(&[&named])?, find(&[&named, "returns sandbox id"])?);
    let sandbox = format!("within sandbox \\\"{}\\\"", id(made)?);
    let container = id(find(&["CreateContainer", &sandbox, "returns container id"])?)?;
    let started = find(&["StartContainer", &container, "returns successfully"])?;
    Some([at(begun)?, at(made)?, at(started)?])
}
