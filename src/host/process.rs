//! Programs that are started: that they end with whoever waits for them, and that everything that they started does.

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command};
use std::ptr;

use nix::errno::Errno;
use nix::libc;
use nix::sys::prctl;
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::{Pid, getpid, getppid};
use rustix::io::{FdFlags, fcntl_setfd};

/// Starts a program, by its absolute path and with the environment that `command` names and no other. It is killed when
/// the calling thread ends, however that comes about (prctl(2), `PR_SET_PDEATHSIG`), and it inherits `kept`. What the
/// program starts in turn is not killed; it does inherit `kept`, unless it is made not to.
pub fn spawn_bound(mut command: Command, kept: Option<BorrowedFd<'_>>) -> io::Result<Child> {
    let (parent, kept) = (getpid(), kept.map(|kept| kept.as_raw_fd()));
    let image = Image::of(&command)?;
    let bind = move || {
        prctl::set_pdeathsig(Signal::SIGKILL)?;
        // Too late for that if it has ended since the fork.
        if getppid() != parent {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if let Some(kept) = kept {
            // SAFETY: the caller of this function holds the descriptor, of which this process has a copy.
            fcntl_setfd(unsafe { BorrowedFd::borrow_raw(kept) }, FdFlags::empty())?;
        }
        Err(image.execute())
    };
    // SAFETY: a few system calls on values that were there before the fork; nothing is allocated and no lock taken.
    unsafe { command.pre_exec(bind) };
    command.spawn()
}

/// What execve(2) takes. The standard library would have a shell run what is no program (execvp(3)).
struct Image {
    program: CString,
    arguments: Pointers,
    environment: Pointers,
}

impl Image {
    fn of(command: &Command) -> io::Result<Self> {
        let program = command.get_program();
        if !Path::new(program).is_absolute() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let arguments = std::iter::once(program).chain(command.get_args()).map(OsStr::to_owned);
        let variables = command.get_envs().filter_map(|(name, value)| Some((name, value?)));
        let variables = variables.map(|(name, value)| [name, value].join(OsStr::new("=")));
        Ok(Self {
            program: CString::new(program.as_bytes())?,
            arguments: Pointers::to(arguments)?,
            environment: Pointers::to(variables)?,
        })
    }

    /// Becomes the program; gives why not.
    fn execute(&self) -> io::Error {
        let (arguments, environment) = (&self.arguments.list, &self.environment.list);
        // SAFETY: each list ends with a null pointer, and the others lead to texts that `self` keeps and nobody changes.
        unsafe { libc::execve(self.program.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
        io::Error::last_os_error()
    }
}

/// Texts as C has them: a list of pointers that ends with a null one.
struct Pointers {
    list: Vec<*const libc::c_char>,
    _texts: Vec<CString>,
}

// SAFETY: the pointers lead into the texts beside them, which are on the heap and are never changed.
unsafe impl Send for Pointers {}
// SAFETY: as above; reading them needs no order.
unsafe impl Sync for Pointers {}

impl Pointers {
    fn to(texts: impl Iterator<Item = OsString>) -> io::Result<Self> {
        let texts = texts.map(|text| CString::new(text.into_vec()));
        let texts = texts.collect::<Result<Vec<_>, _>>()?;
        let list = texts.iter().map(|text| text.as_ptr()).chain([ptr::null()]).collect();
        Ok(Self { list, _texts: texts })
    }
}

/// Whether a child has ended. It keeps its number, and its group its own, until it is waited for.
pub fn has_ended(child: &Child) -> io::Result<bool> {
    let how = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT | WaitPidFlag::WNOHANG;
    let number = i32::try_from(child.id()).map_err(io::Error::other)?;
    match waitid(Id::Pid(Pid::from_raw(number)), how) {
        Ok(WaitStatus::StillAlive) | Err(Errno::EINTR) => Ok(false),
        Ok(_) => Ok(true),
        Err(errno) => Err(errno.into()),
    }
}

/// Asks every process of a group to end (SIGTERM). One that has ended is no error.
pub fn terminate_group(leader: u32) {
    signal(leader, Some(Signal::SIGTERM));
}

/// Ends every process of a group (SIGKILL). One that has ended is no error.
pub fn kill_group(leader: u32) {
    signal(leader, Some(Signal::SIGKILL));
}

/// Sends a signal to a group, or none; says whether the group has a process.
fn signal(leader: u32, signal: Option<Signal>) -> bool {
    // 0 and 1 would mean this process's own group and everybody.
    match i32::try_from(leader) {
        Ok(leader @ 2..) => killpg(Pid::from_raw(leader), signal) != Err(Errno::ESRCH),
        _ => false,
    }
}

/// A process group, in words that another process understands later: the number of its leader, when that was started,
/// and in which boot.
pub fn describe_group(leader: u32) -> String {
    format!("{leader} {} {}", started(leader).unwrap_or_default(), boot())
}

/// The number of the described group if a process of it may still run.
///
/// No number is given to a new process while a group has it: where another process has the leader's number, the group
/// is gone.
pub fn surviving_group(described: &str) -> Option<u32> {
    let mut words = described.split_whitespace();
    let (leader, start, booted) = (words.next()?.parse().ok()?, words.next()?, words.next()?);
    let reused = started(leader).is_some_and(|now| now != start);
    (booted == boot() && !reused && signal(leader, None)).then_some(leader)
}

/// When a process was started, in clock ticks since the boot (proc_pid_stat(5)).
fn started(process: u32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name, in parentheses, may hold anything; the start is the twentieth word after it.
    let (_, after) = stat.rsplit_once(") ")?;
    after.split(' ').nth(19).map(str::to_owned)
}

fn boot() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_program_is_killed_when_the_thread_that_started_it_ends() {
        let (mut reader, writer) = io::pipe().unwrap();
        let start = move || {
            let mut command = Command::new("/bin/sleep");
            command.arg("600").stdout(writer);
            spawn_bound(command, None).unwrap()
        };

        let mut child = std::thread::spawn(start).join().unwrap();

        // Ends with the last process that holds the other end.
        reader.read_to_end(&mut Vec::new()).unwrap();
        assert!(!child.wait().unwrap().success());
    }

    #[test]
    fn a_descriptor_is_inherited_by_the_program_and_by_what_it_starts() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().try_lock().unwrap();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "sleep 600 & wait"]).process_group(0);
        let mut child = spawn_bound(command, Some(file.as_file().as_fd())).unwrap();
        let again = std::fs::File::open(file.path()).unwrap();

        drop(file.into_file());

        assert!(again.try_lock().is_err());
        kill_group(child.id());
        child.wait().unwrap();
        again.lock().unwrap();
    }

    #[test]
    fn a_group_survives_its_leader_and_is_known_again_until_its_last_process_has_gone() {
        let (mut reader, writer) = io::pipe().unwrap();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "sleep 600 & true"]).stdout(writer).process_group(0);
        let mut child = spawn_bound(command, None).unwrap();
        let leader = child.id();
        let described = describe_group(leader);
        child.wait().unwrap();

        assert_eq!(surviving_group(&described), Some(leader));
        kill_group(leader);
        reader.read_to_end(&mut Vec::new()).unwrap();
        while surviving_group(&described).is_some() {
            std::thread::yield_now();
        }
        // This very process has the number by now, and was not started then.
        let own = describe_group(std::process::id());
        let (number, rest) = own.split_once(' ').unwrap();
        assert_eq!(surviving_group(&format!("{number} 1{rest}")), None);
    }
    #[test]
    fn what_is_no_program_is_not_run_by_a_shell() {
        let directory = tempfile::tempdir().unwrap();
        let script = directory.path().join("script");
        std::fs::write(&script, "exit 0\n").unwrap();
        let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&script, executable).unwrap();

        let error = spawn_bound(Command::new(&script), None).unwrap_err();

        assert_eq!(error.raw_os_error(), Some(libc::ENOEXEC));
        assert!(spawn_bound(Command::new("sh"), None).is_err(), "it was looked for");
    }
}
