//! Disks of the virtual machine, played by this process so that they fail as disks do: with a volatile cache, of which a
//! power cut leaves what was flushed and, of the rest, what chance will; with I/O errors; with no answer at all. What is on one
//! is read here, not through the machine.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::fs::File;
use std::hash::BuildHasher;
use std::io;
use std::os::unix::fs::FileExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use super::PATIENCE;
use super::nbd::{Ask, Connection, Request};

/// What is lost or kept as one.
const BLOCK: usize = 4096;
/// Blocks that a cache holds before it writes some of them by itself.
const CACHE: usize = 2048;
const EIO: u32 = 5;

/// One disk. It outlives the machines that it is put in.
#[derive(Clone)]
pub(crate) struct Disk {
    pub(crate) serial: String,
    pub(crate) socket: PathBuf,
    shared: Arc<Shared>,
}

struct Shared {
    size: u64,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    medium: File,
    /// What was written and not flushed; none is zeros.
    cache: HashMap<u64, Option<Box<[u8; BLOCK]>>>,
    /// Bytes that were written, zeroes too.
    written: u64,
    fault: Fault,
    /// Whether the fault has struck since it was set.
    struck: bool,
    /// Which machine it is in; requests of an earlier one are not carried out any more.
    life: u64,
}

/// What is wrong with a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// It answers nothing any more.
    Hang,
    /// As soon as so many bytes in all were written, it answers nothing any more.
    HangAt(u64),
    /// It answers everything with an error.
    Fail,
    /// As soon as so many bytes in all were written, it answers everything that writes with an error.
    FailWritesAt(u64),
}

impl Disk {
    /// A new disk, all zeros.
    pub(crate) fn new(directory: &Path, serial: &str, size: u64) -> Self {
        let medium = tempfile::tempfile_in(directory).unwrap();
        medium.set_len(size).unwrap();
        let socket = directory.join(format!("{serial}.nbd"));
        let state = State {
            medium,
            cache: HashMap::new(),
            written: 0,
            fault: Fault::None,
            struck: false,
            life: 0,
        };
        let shared = Shared { size, state: Mutex::new(state), changed: Condvar::new() };
        let disk = Self { serial: serial.to_owned(), socket, shared: Arc::new(shared) };
        let (listener, shared) =
            (UnixListener::bind(&disk.socket).unwrap(), Arc::clone(&disk.shared));
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                // A machine without power hangs up in the middle of anything.
                thread::spawn(move || shared.serve(connection));
            }
        });
        disk
    }

    /// Sets what is wrong with it from now on.
    pub(crate) fn set(&self, fault: Fault) {
        let mut state = self.shared.lock();
        (state.fault, state.struck) = (fault, false);
        self.shared.changed.notify_all();
    }

    /// Lets it hang as soon as `bytes` more were written.
    pub(crate) fn hang_after(&self, bytes: u64) {
        let written = self.shared.lock().written;
        self.set(Fault::HangAt(written + bytes));
    }

    /// Lets it fail whatever writes as soon as `bytes` more were written.
    pub(crate) fn fail_writes_after(&self, bytes: u64) {
        let written = self.shared.lock().written;
        self.set(Fault::FailWritesAt(written + bytes));
    }

    /// Waits until what is wrong with it has been felt.
    pub(crate) fn wait_for_fault(&self) {
        let state = self.shared.lock();
        let waited = self.shared.changed.wait_timeout_while(state, PATIENCE, |state| !state.struck);
        let (state, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        let fault = state.fault;
        assert!(!waited.timed_out(), "{}: {fault:?} was waited for in vain", self.serial);
    }

    /// What a power cut does: of what was not flushed each block is kept or lost by chance. A fault ends with it.
    pub(crate) fn lose_power(&self) {
        let mut state = self.shared.lock();
        let chance = RandomState::new();
        let cache = std::mem::take(&mut state.cache);
        for (number, block) in cache {
            if chance.hash_one(number) % 2 == 0 {
                state.put(number, block.as_deref()).unwrap();
            }
        }
        (state.fault, state.struck, state.life) = (Fault::None, false, state.life + 1);
        self.shared.changed.notify_all();
    }

    /// Fills all of it with a byte, past its cache.
    pub(crate) fn fill(&self, byte: u8) {
        let state = self.shared.lock();
        let step = vec![byte; 1 << 20];
        let mut offset = 0;
        while offset < self.shared.size {
            state.medium.write_all_at(&step, offset).unwrap();
            offset += 1 << 20;
        }
    }

    /// Writes `text` at its beginning, past its cache.
    pub(crate) fn write_at_start(&self, text: &str) {
        self.shared.lock().medium.write_all_at(text.as_bytes(), 0).unwrap();
    }

    /// How many of its bytes are not zero, its cache counted.
    pub(crate) fn bytes_left(&self) -> usize {
        self.content().iter().filter(|byte| **byte != 0).count()
    }

    /// Whether `text` is anywhere on it.
    pub(crate) fn holds(&self, text: &str) -> bool {
        let content = self.content();
        content.windows(text.len()).any(|window| window == text.as_bytes())
    }

    /// All of it, as the machine would read it.
    pub(crate) fn content(&self) -> Vec<u8> {
        let length = usize::try_from(self.shared.size).unwrap();
        self.shared.lock().read(0, length).unwrap()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, stream: UnixStream) -> io::Result<()> {
        let mut connection = Connection::accept(stream, self.size)?;
        let life = self.lock().life;
        while let Some(request) = connection.next()? {
            match self.carry_out(&request, life) {
                None => return Ok(()),
                Some(Ok(read)) => connection.answer(&request, Ok(&read))?,
                Some(Err(_)) => connection.answer(&request, Err(EIO))?,
            }
        }
        Ok(())
    }

    /// Carries a request out, unless the power goes before it is.
    fn carry_out(&self, request: &Request, life: u64) -> Option<io::Result<Vec<u8>>> {
        let mut state = self.lock();
        while state.life == life && state.hangs() {
            state.struck = true;
            self.changed.notify_all();
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.life != life {
            return None;
        }
        if state.fails(&request.ask) {
            state.struck = true;
            self.changed.notify_all();
            return Some(Err(io::Error::other("as it was told to")));
        }
        Some(state.act(request))
    }
}

impl State {
    fn hangs(&self) -> bool {
        match self.fault {
            Fault::Hang => true,
            Fault::HangAt(written) => self.written >= written,
            Fault::None | Fault::Fail | Fault::FailWritesAt(_) => false,
        }
    }

    fn fails(&self, ask: &Ask) -> bool {
        match self.fault {
            Fault::Fail => true,
            Fault::FailWritesAt(written) => {
                self.written >= written && matches!(ask, Ask::Write { .. } | Ask::Zero { .. })
            }
            Fault::None | Fault::Hang | Fault::HangAt(_) => false,
        }
    }

    fn act(&mut self, request: &Request) -> io::Result<Vec<u8>> {
        match &request.ask {
            Ask::Read { offset, length } => return self.read(*offset, *length),
            Ask::Write { offset, bytes } => {
                self.written += bytes.len() as u64;
                self.write(*offset, bytes)?;
            }
            Ask::Zero { offset, length } => {
                self.written += length;
                self.write(*offset, &vec![0; usize::try_from(*length).map_err(io::Error::other)?])?;
            }
            Ask::Trim => {}
            Ask::Flush => self.flush(0)?,
        }
        if request.durable {
            self.flush(0)?;
        }
        if self.cache.len() > CACHE {
            self.flush(CACHE / 2)?;
        }
        Ok(Vec::new())
    }

    fn read(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.medium.read_exact_at(&mut bytes, offset)?;
        let mut done = 0;
        while done < length {
            let (number, within, part) = step(offset, done, length);
            match self.cache.get(&number) {
                Some(Some(block)) => {
                    bytes[done..done + part].copy_from_slice(&block[within..within + part]);
                }
                Some(None) => bytes[done..done + part].fill(0),
                None => {}
            }
            done += part;
        }
        Ok(bytes)
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut done = 0;
        while done < bytes.len() {
            let (number, within, part) = step(offset, done, bytes.len());
            let mut block = Box::new([0; BLOCK]);
            if part < BLOCK {
                block.copy_from_slice(&self.read(number * BLOCK as u64, BLOCK)?);
            }
            block[within..within + part].copy_from_slice(&bytes[done..done + part]);
            let is_zero = block.iter().all(|byte| *byte == 0);
            self.cache.insert(number, (!is_zero).then_some(block));
            done += part;
        }
        Ok(())
    }

    /// Writes all but `keep` of the blocks in the cache, in no order.
    fn flush(&mut self, keep: usize) -> io::Result<()> {
        let cache = std::mem::take(&mut self.cache);
        let many = cache.len().saturating_sub(keep);
        for (place, (number, block)) in cache.into_iter().enumerate() {
            if place < many {
                self.put(number, block.as_deref())?;
            } else {
                self.cache.insert(number, block);
            }
        }
        Ok(())
    }

    fn put(&self, number: u64, block: Option<&[u8; BLOCK]>) -> io::Result<()> {
        self.medium.write_all_at(block.unwrap_or(&[0; BLOCK]), number * BLOCK as u64)
    }
}

/// Of `length` bytes from `offset` on, of which so many are `done`: the next block, where in it they begin, and how many.
fn step(offset: u64, done: usize, length: usize) -> (u64, usize, usize) {
    let at = offset + done as u64;
    let within = usize::try_from(at % BLOCK as u64).unwrap_or_default();
    (at / BLOCK as u64, within, (BLOCK - within).min(length - done))
}
