//! Another mount namespace, for tests: a container's, a leftover one, or the host's.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Command, Stdio};

use super::HostNamespace;
use crate::host::process;

/// Processes in a mount namespace of their own.
pub(crate) struct Other {
    child: Child,
    said: BufReader<ChildStdout>,
}

impl Other {
    /// Runs `script` where nothing follows this namespace, and waits until it says that it is ready.
    pub(crate) fn with(script: &str) -> Self {
        Self::propagating("private", script)
    }

    /// Runs `script` where mounts propagate as `unshare --propagation` is told, and waits until it says that it is ready.
    pub(crate) fn propagating(how: &str, script: &str) -> Self {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", how, "sh", "-ec", script]);
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let said = BufReader::new(child.stdout.take().unwrap());
        let mut other = Self { child, said };
        other.wait_ready();
        other
    }

    /// Lets the script read a line, and waits until it says that it is ready again.
    pub(crate) fn go_on(&mut self) {
        writeln!(self.child.stdin.as_mut().unwrap()).unwrap();
        self.wait_ready();
    }

    /// This namespace as the host's.
    pub(crate) fn as_host(&self) -> HostNamespace {
        HostNamespace { process: self.child.id() }
    }

    pub(crate) fn end(self) {
        drop(self);
    }

    fn wait_ready(&mut self) {
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        process::kill_group(self.child.id());
        self.child.wait().unwrap();
    }
}
