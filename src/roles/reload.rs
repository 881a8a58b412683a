//! The configuration, read again when it changes: no restart for a new pool.
//!
//! The file's content is compared every few seconds, and at once on SIGHUP. Comparing content instead of watching the
//! path holds for everything that is done to configuration files: edits in place, renames over it, and the symlink that
//! Kubernetes swaps when a ConfigMap changes. A file that is refused changes nothing: the pools that are in force stay.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use jiff::Timestamp;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::observe::metrics::Metrics;
use crate::pool::Pools;
use crate::pool::config::{self, ConfigError};

/// How often the file is looked at.
const PERIOD: Duration = Duration::from_secs(5);

/// Sends the pools of the file at `path` whenever its content has changed and is taken, until it is cancelled.
///
/// `pools` holds what was read at the start.
pub async fn watch_file(
    path: PathBuf,
    pools: watch::Sender<Arc<Pools>>,
    metrics: Metrics,
    cancel: CancellationToken,
) -> anyhow::Result<()> {
    let mut asked = signal(SignalKind::hangup()).context("SIGHUP cannot be listened to")?;
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut file = Watched { path, pools, metrics, seen: None };
    loop {
        let now = tokio::select! {
            _ = ticks.tick() => false,
            _ = asked.recv() => true,
            () = cancel.cancelled() => return Ok(()),
        };
        file.look(now).await?;
    }
}

/// What the file was when it was looked at last: its text, or why it could not be read.
type Seen = Result<String, String>;

/// What came of a look at the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    /// It is what it was.
    Unchanged,
    /// Its pools are in force.
    Taken,
    /// It was refused, and the log says why; the pools that were in force still are.
    Refused,
}

struct Watched {
    path: PathBuf,
    pools: watch::Sender<Arc<Pools>>,
    metrics: Metrics,
    seen: Option<Seen>,
}

impl Watched {
    /// Looks at the file, and takes it if it has changed. `asked`: a person asked, and gets a line in the log either way.
    async fn look(&mut self, asked: bool) -> anyhow::Result<Look> {
        let path = self.path.clone();
        let read = tokio::task::spawn_blocking(move || config::read(&path)).await?;
        let seen = read.as_ref().map(String::clone).map_err(reason);
        if !asked && self.seen.as_ref() == Some(&seen) {
            return Ok(Look::Unchanged);
        }
        // The first look finds what was read at the start, unless the file was changed in between; sending it once
        // more costs one scan and misses nothing.
        let first = self.seen.replace(seen).is_none();
        let now = Timestamp::now().as_duration().as_secs_f64();
        let pools = read.and_then(|text| config::parse(&text, &self.path));
        self.metrics.configured(pools.is_ok(), now);
        Ok(match pools {
            Ok(pools) => {
                if asked || !first {
                    info!(file = %self.path.display(), pools = pools.len(), "configuration taken");
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

    fn watched(path: &Path) -> (Watched, watch::Receiver<Arc<Pools>>) {
        let (pools, receiver) = watch::channel(Arc::new(config::load(path).unwrap()));
        let metrics = Metrics::default();
        (Watched { path: path.to_owned(), pools, metrics, seen: None }, receiver)
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
        let (sender, mut pools) = watch::channel(Arc::new(config::load(&path).unwrap()));
        let cancel = CancellationToken::new();
        let watching =
            tokio::spawn(watch_file(path.clone(), sender, Metrics::default(), cancel.clone()));
        pools.changed().await.unwrap();

        fs::write(&path, pool("new")).unwrap();
        pools.changed().await.unwrap();
        cancel.cancel();

        watching.await.unwrap().unwrap();
        assert_eq!(names(&pools), ["new"]);
    }
}
