//! Runs the administrator's program: no shell, a documented environment, its own process group, a time limit, and an
//! output that is always read and never kept whole. Whatever way it ends, its group ends with it, and what left the
//! group and still runs keeps the volume from being offered.
//!
//! The environment has `PATH` and these, and nothing of the agent's own: `BERTH_VOLUME` the volume's name, `BERTH_PATH`
//! where it is, `BERTH_MODE` `Filesystem` or `Block`, `BERTH_POOL`, `BERTH_NODE`, `BERTH_TENANCY` the tenancy that ended,
//! `BERTH_CAPACITY` in bytes. Exit status 0 says that the volume is clean; a directory has to be empty then.

use std::collections::VecDeque;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::Error;
use super::progress::Progress;
use super::wipe::Run;
use crate::host::process;
use crate::volume::LocalVolume;

/// Bytes of the output's end that are kept for the message.
const KEPT: usize = 4096;
/// How long a program that was told to end (SIGTERM) has before it is killed.
const GRACE: Duration = Duration::from_secs(5);
/// How often it is looked whether the program has ended or is to.
const LOOK: Duration = Duration::from_millis(20);
/// The programs that a program finds without their paths.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The longest that a program may take, whatever is recorded: a time that ends.
const LONGEST: Duration = Duration::from_hours(30 * 24);

/// Runs `command` for a volume; it has `limit` to end.
pub(super) fn run(
    volume: &LocalVolume,
    command: &[String],
    limit: Duration,
    run: &mut Run<'_>,
) -> Result<(), Error> {
    let limit = limit.min(LONGEST);
    let program = command.first().cloned().unwrap_or_default();
    let not_started = |source| Error::NotStarted { program: program.clone(), source };
    let (reader, writer) = std::io::pipe().map_err(not_started)?;
    let errors = writer.try_clone().map_err(not_started)?;
    let mut start = Command::new(&program);
    start
        .args(command.iter().skip(1))
        .env_clear()
        .envs(environment(volume))
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(writer)
        .stderr(errors)
        .process_group(0);
    // The writing ends that the builder holds would keep the output open for ever; it goes with this call.
    let child = process::spawn_bound(start, run.lock.inherited()).map_err(not_started)?;
    let running = Running { child, deadline: Instant::now() + limit };
    let output = Tail::of(reader);
    let noted = run.lock.note_group(running.child.id());
    let ended = noted.and_then(|()| running.wait(run.progress));
    if !run.lock.is_alone()? {
        return Err(Error::LeftBehind { program });
    }
    let output = output.finish();
    match ended? {
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(Error::Failed { program, status, output }),
        None => Err(Error::TimedOut { program, seconds: limit.as_secs(), output }),
    }
}

fn environment(volume: &LocalVolume) -> [(&'static str, String); 8] {
    [
        ("PATH", PATH.to_owned()),
        ("BERTH_VOLUME", volume.name.to_string()),
        ("BERTH_PATH", volume.status.path.to_string()),
        ("BERTH_MODE", volume.spec.mode.to_string()),
        ("BERTH_POOL", volume.spec.pool.to_string()),
        ("BERTH_NODE", volume.spec.node.to_string()),
        ("BERTH_TENANCY", volume.spec.tenancy.to_string()),
        ("BERTH_CAPACITY", volume.status.capacity.0.to_string()),
    ]
}

/// A program that runs. It does not outlive this.
struct Running {
    child: Child,
    deadline: Instant,
}

impl Running {
    /// Waits for the end: its status, or nothing when the time ran out. [`Error::Interrupted`] when the agent ends.
    fn wait(mut self, progress: &Progress) -> Result<Option<ExitStatus>, Error> {
        loop {
            if self.has_ended() {
                return Ok(self.killed());
            }
            if let Err(interrupted) = progress.check() {
                self.end();
                return Err(interrupted);
            }
            if Instant::now() >= self.deadline {
                self.end();
                return Ok(None);
            }
            thread::park_timeout(LOOK);
        }
    }

    fn has_ended(&self) -> bool {
        // What cannot be asked about is no child any more.
        process::has_ended(&self.child).unwrap_or(true)
    }

    /// Tells the whole process group to end, and kills it if it does not.
    fn end(&mut self) {
        process::terminate_group(self.child.id());
        let killed = Instant::now() + GRACE;
        while !self.has_ended() && Instant::now() < killed {
            thread::park_timeout(LOOK);
        }
        self.killed();
    }

    /// Kills what is left of the process group, and only then lets its number go.
    fn killed(&mut self) -> Option<ExitStatus> {
        process::kill_group(self.child.id());
        self.child.wait().ok()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.killed();
    }
}

/// The end of an output, read by a thread of its own, so that a program never waits for its reader.
struct Tail {
    text: Receiver<Vec<u8>>,
}

impl Tail {
    fn of(mut output: impl Read + Send + 'static) -> Self {
        let (sender, text) = channel();
        thread::spawn(move || {
            let mut buffer = [0; 8192];
            let mut tail: VecDeque<u8> = VecDeque::with_capacity(KEPT + buffer.len());
            while let Ok(length @ 1..) = output.read(&mut buffer) {
                tail.extend(&buffer[..length]);
                tail.drain(..tail.len().saturating_sub(KEPT));
            }
            // Nobody waits for it any longer when the program left a child behind that holds its output.
            let _ = sender.send(tail.into());
        });
        Self { text }
    }

    fn finish(self) -> String {
        match self.text.recv_timeout(Duration::from_secs(1)) {
            Ok(text) => String::from_utf8_lossy(&text).trim().to_owned(),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                "(a process that it left behind still holds its output)".to_owned()
            }
        }
    }
}

#[cfg(test)]
mod tests;
