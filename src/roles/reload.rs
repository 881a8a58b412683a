//! The configuration, read again when it changes: no restart for a new pool.
//!
//! The files' content is compared every few seconds, and at once on SIGHUP. Comparing content instead of watching the
//! path holds for everything that is done to configuration files: edits in place, renames over it, and the symlink that
//! Kubernetes swaps when a ConfigMap changes. A file that is refused changes nothing: the pools that are in force stay.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use jiff::Timestamp;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::observe::metrics::Metrics;
use crate::pool::config::ConfigError;
use crate::pool::storage_class_map::Line;
use crate::pool::{Loaded, Pools, Sources, Texts};

/// How often the files are looked at.
const PERIOD: Duration = Duration::from_secs(5);

/// Sends the pools of `sources` whenever their content has changed and is taken, until it is cancelled.
///
/// `pools` holds what was read at the start.
pub async fn watch_files(
    sources: Sources,
    pools: watch::Sender<Arc<Pools>>,
    metrics: Metrics,
    cancel: CancellationToken,
) -> anyhow::Result<()> {
    let mut asked = signal(SignalKind::hangup()).context("SIGHUP cannot be listened to")?;
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut files = Watched { sources, pools, metrics, seen: None };
    loop {
        let now = tokio::select! {
            _ = ticks.tick() => false,
            _ = asked.recv() => true,
            () = cancel.cancelled() => return Ok(()),
        };
        files.look(now).await?;
    }
}

/// What the files were when they were looked at last: their texts, or why one could not be read.
type Seen = Result<Texts, String>;

/// What came of a look at the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    /// They are what they were.
    Unchanged,
    /// Their pools are in force.
    Taken,
    /// One was refused, and the log says why; the pools that were in force still are.
    Refused,
}

struct Watched {
    sources: Sources,
    pools: watch::Sender<Arc<Pools>>,
    metrics: Metrics,
    seen: Option<Seen>,
}

impl Watched {
    /// Looks at the files, and takes them if one has changed. `asked`: a person asked, and gets a line in the log either way.
    async fn look(&mut self, asked: bool) -> anyhow::Result<Look> {
        let sources = self.sources.clone();
        let read = tokio::task::spawn_blocking(move || sources.read()).await?;
        let seen = read.as_ref().map(Texts::clone).map_err(reason);
        if !asked && self.seen.as_ref() == Some(&seen) {
            return Ok(Look::Unchanged);
        }
        // The first look finds what was read at the start, unless the file was changed in between; sending it once
        // more costs one scan and misses nothing.
        let first = self.seen.replace(seen).is_none();
        let now = Timestamp::now().as_duration().as_secs_f64();
        let loaded = read.and_then(|texts| texts.parse());
        self.metrics.configured(loaded.is_ok(), now);
        Ok(match loaded {
            Ok(Loaded { pools, report }) => {
                if asked || !first {
                    info!(files = %self.sources, pools = pools.len(), "configuration taken");
                    tell(&report);
                }
                self.pools.send_replace(Arc::new(pools));
                Look::Taken
            }
            Err(error) => {
                let why = reason(&error);
                error!(error = why, "configuration refused; the old one stays in force");
                Look::Refused
            }
        })
    }
}

/// Logs what a person should read of a file of the static provisioner.
pub fn tell(report: &[Line]) {
    for line in report.iter().filter(|line| line.is_warning) {
        warn!(key = line.key, "{}", line.text);
    }
}

/// An error with what lies beneath it, in one text.
fn reason(error: &ConfigError) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use tempfile::TempDir;

    use super::*;

    fn pool(name: &str) -> String {
        format!("pools: {{{name}: {{path: /mnt/{name}}}}}\n")
    }

    fn sources(path: &Path) -> Sources {
        Sources { config: Some(path.to_owned()), storage_class_map: None }
    }

    fn watched(path: &Path) -> (Watched, watch::Receiver<Arc<Pools>>) {
        let sources = sources(path);
        let (pools, receiver) = watch::channel(Arc::new(sources.load().unwrap().pools));
        let metrics = Metrics::default();
        (Watched { sources, pools, metrics, seen: None }, receiver)
    }

    fn names(pools: &watch::Receiver<Arc<Pools>>) -> Vec<String> {
        pools.borrow().keys().map(ToString::to_string).collect()
    }

    fn success(file: &Watched) -> bool {
        file.metrics.render().contains("berth_config_reload_success 1\n")
    }

    #[tokio::test]
    async fn a_change_of_the_file_is_taken_once() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("pools.yaml");
        fs::write(&path, pool("old")).unwrap();
        let (mut file, pools) = watched(&path);
        file.look(false).await.unwrap();

        fs::write(&path, pool("new")).unwrap();
        let first = file.look(false).await.unwrap();
        let second = file.look(false).await.unwrap();

        assert_eq!((first, second), (Look::Taken, Look::Unchanged));
        assert_eq!(names(&pools), ["new"]);
        assert!(success(&file));
    }

    #[tokio::test]
    async fn a_file_that_is_wrong_or_gone_changes_nothing_and_is_said_once() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("pools.yaml");
        fs::write(&path, pool("old")).unwrap();
        let (mut file, pools) = watched(&path);

        fs::write(&path, "pools: {").unwrap();
        let wrong = [file.look(false).await.unwrap(), file.look(false).await.unwrap()];
        fs::remove_file(&path).unwrap();
        let gone = [file.look(false).await.unwrap(), file.look(false).await.unwrap()];

        assert_eq!(wrong, [Look::Refused, Look::Unchanged]);
        assert_eq!(gone, [Look::Refused, Look::Unchanged]);
        assert_eq!(names(&pools), ["old"]);
        assert!(!success(&file));
    }

    #[tokio::test]
    async fn a_config_map_whose_symlink_is_swapped_is_taken() {
        let directory = TempDir::new().unwrap();
        let within = |name: &str| directory.path().join(name);
        for name in ["one", "two"] {
            fs::create_dir(within(name)).unwrap();
            fs::write(within(name).join("pools.yaml"), pool(name)).unwrap();
        }
        symlink("one", within("..data")).unwrap();
        symlink("..data/pools.yaml", within("pools.yaml")).unwrap();
        let (mut file, pools) = watched(&within("pools.yaml"));
        file.look(false).await.unwrap();

        symlink("two", within("..data_tmp")).unwrap();
        fs::rename(within("..data_tmp"), within("..data")).unwrap();

        assert_eq!(file.look(false).await.unwrap(), Look::Taken);
        assert_eq!(names(&pools), ["two"]);
    }

    #[tokio::test]
    async fn a_change_of_the_provisioners_file_is_taken_too() {
        let directory = TempDir::new().unwrap();
        let (path, map) = (directory.path().join("pools.yaml"), directory.path().join("map.yaml"));
        fs::write(&path, pool("own")).unwrap();
        fs::write(&map, "one: {hostDir: /srv/one}\n").unwrap();
        let (mut file, pools) = watched(&path);
        file.sources.storage_class_map = Some(map.clone());
        file.look(false).await.unwrap();

        fs::write(&map, "two: {hostDir: /srv/two, selector: []}\n").unwrap();

        assert_eq!(file.look(false).await.unwrap(), Look::Taken);
        assert_eq!(names(&pools), ["own", "two"]);
    }

    #[tokio::test]
    async fn a_person_who_asks_is_answered_even_if_nothing_changed() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("pools.yaml");
        fs::write(&path, pool("old")).unwrap();
        let (mut file, _pools) = watched(&path);
        file.look(false).await.unwrap();

        assert_eq!(file.look(true).await.unwrap(), Look::Taken);
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_is_noticed_without_being_asked_and_the_watch_ends_when_it_is_told_to() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("pools.yaml");
        fs::write(&path, pool("old")).unwrap();
        let files = sources(&path);
        let (sender, mut pools) = watch::channel(Arc::new(files.load().unwrap().pools));
        let cancel = CancellationToken::new();
        let watching = tokio::spawn(watch_files(files, sender, Metrics::default(), cancel.clone()));
        pools.changed().await.unwrap();

        fs::write(&path, pool("new")).unwrap();
        pools.changed().await.unwrap();
        cancel.cancel();

        watching.await.unwrap().unwrap();
        assert_eq!(names(&pools), ["new"]);
    }
}
