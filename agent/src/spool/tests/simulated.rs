//! A disk in memory that fails as real ones do.
//!
//! Every file has bytes that a reader sees (the page cache) and bytes that survive a loss
//! of power; every name likewise. [`SimulatedDisk::crash`] loses the difference, in part
//! or whole, as the test wishes.

use crate::spool::disk::{Disk, Entry, Writer};
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

/// Linux's error numbers of disks.
pub(crate) const EIO: i32 = 5;
pub(crate) const EACCES: i32 = 13;
pub(crate) const EMFILE: i32 = 24;
pub(crate) const ENOSPC: i32 = 28;
pub(crate) const EROFS: i32 = 30;

/// What is wrong with the disk at present.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Faults {
    /// Nothing can be created, written, cut, renamed or removed, for this reason.
    pub(crate) refuses: Option<i32>,
    /// How many bytes can still be written; a write that needs more is torn.
    pub(crate) room: Option<u64>,
    /// Flushes fail, and the kernel discards what they should have flushed.
    pub(crate) flush: Option<i32>,
    /// Reads fail.
    pub(crate) read: Option<i32>,
}

/// What a loss of power leaves of what was not flushed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crash {
    /// The share of each file's unflushed bytes that is kept, in 256ths.
    pub(crate) kept: u8,
    /// The files have their length, and what is lost of them is zeros.
    pub(crate) zeros: bool,
    /// Names that were not flushed are as they were.
    pub(crate) old_names: bool,
}

#[derive(Clone, Debug)]
struct File {
    bytes: Vec<u8>,
    durable: Vec<u8>,
    /// Length up to which the kernel takes the file for written.
    clean: usize,
    written: SystemTime,
}

#[derive(Debug)]
struct State {
    files: BTreeMap<u64, File>,
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    next: u64,
    now: SystemTime,
    faults: Faults,
}

/// Copies are the same disk.
#[derive(Clone, Debug)]
pub(crate) struct SimulatedDisk(Arc<Mutex<State>>);

impl SimulatedDisk {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(State {
            files: BTreeMap::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            next: 0,
            now: SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000),
            faults: Faults::default(),
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub(crate) fn pass(&self, time: Duration) {
        self.state().now += time;
    }

    pub(crate) fn set(&self, faults: Faults) {
        self.state().faults = faults;
    }

    /// The files as a reader sees them.
    pub(crate) fn names(&self) -> Vec<String> {
        self.state().names.keys().cloned().collect()
    }

    pub(crate) fn bytes(&self, name: &str) -> Vec<u8> {
        let state = self.state();
        state.files[&state.names[name]].bytes.clone()
    }

    /// Changes a file behind the spool's back, durably.
    pub(crate) fn tamper(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.state();
        let id = state.names[name];
        let file = state.files.get_mut(&id).unwrap();
        let seen = file.bytes.len();
        change(&mut file.bytes);
        // What is on the disk changes the same way, as far as it is there.
        let flushed = file.durable.len().min(file.bytes.len());
        if file.bytes.len() >= seen {
            file.durable = file.bytes[..flushed].to_vec();
        } else {
            file.durable.truncate(file.bytes.len());
            file.clean = file.clean.min(file.bytes.len());
        }
    }

    /// Takes a name away, durably.
    pub(crate) fn lose(&self, name: &str) {
        let mut state = self.state();
        state.names.remove(name);
        state.durable_names.remove(name);
    }

    /// Exchanges two files' names, durably.
    pub(crate) fn exchange(&self, a: &str, b: &str) {
        let mut state = self.state();
        let (of_a, of_b) = (state.names[a], state.names[b]);
        for (name, id) in [(a, of_b), (b, of_a)] {
            state.names.insert(name.to_owned(), id);
            state.durable_names.insert(name.to_owned(), id);
        }
    }

    /// Puts a file there whole, durably.
    pub(crate) fn put(&self, name: &str, bytes: &[u8]) {
        let mut state = self.state();
        let id = state.next;
        state.next += 1;
        let file = File {
            bytes: bytes.to_vec(),
            durable: bytes.to_vec(),
            clean: bytes.len(),
            written: state.now,
        };
        state.files.insert(id, file);
        state.names.insert(name.to_owned(), id);
        state.durable_names.insert(name.to_owned(), id);
    }

    /// Loses power; what is left is what the next start finds.
    pub(crate) fn crash(&self, crash: Crash) {
        let mut state = self.state();
        if crash.old_names {
            state.names = state.durable_names.clone();
        }
        for file in state.files.values_mut() {
            let mut left = file.durable.clone();
            let open = file.bytes.len().saturating_sub(left.len());
            let kept = left.len() + open * usize::from(crash.kept) / 256;
            // Bytes that the kernel discarded were never written.
            if file.clean <= left.len() {
                left.extend_from_slice(file.bytes.get(left.len()..kept).unwrap_or_default());
            }
            if crash.zeros {
                left.resize(file.bytes.len().max(left.len()), 0);
            }
            file.bytes.clone_from(&left);
            file.clean = left.len();
            file.durable = left;
        }
        state.durable_names = state.names.clone();
        state.faults = Faults::default();
    }
}

impl State {
    fn changes(&self) -> io::Result<()> {
        match self.faults.refuses {
            Some(errno) => Err(io::Error::from_raw_os_error(errno)),
            None => Ok(()),
        }
    }

    fn flushes(&self) -> io::Result<()> {
        match self.faults.flush {
            Some(errno) => Err(io::Error::from_raw_os_error(errno)),
            None => Ok(()),
        }
    }

    fn id(&self, name: &str) -> io::Result<u64> {
        let id = self.names.get(name).copied();
        id.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn file(&mut self, id: u64) -> &mut File {
        self.files.get_mut(&id).unwrap()
    }

    fn cut(&mut self, id: u64, length: u64) -> io::Result<()> {
        self.changes()?;
        let length = usize::try_from(length).unwrap();
        let file = self.file(id);
        file.bytes.truncate(length);
        file.durable.truncate(length);
        file.clean = file.clean.min(length);
        Ok(())
    }
}

impl Disk for SimulatedDisk {
    fn now(&self) -> SystemTime {
        self.state().now
    }

    fn list(&self, folder: &str) -> io::Result<Vec<Entry>> {
        let state = self.state();
        let inside = state.names.iter().filter_map(|(name, id)| {
            let name = match folder {
                "" => name.as_str(),
                folder => name.strip_prefix(folder)?.strip_prefix('/')?,
            };
            let file = &state.files[id];
            (!name.contains('/')).then(|| Entry {
                name: name.to_owned(),
                length: file.bytes.len() as u64,
                written: file.written,
            })
        });
        Ok(inside.collect())
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn Writer>> {
        let mut state = self.state();
        state.changes()?;
        if state.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if state.faults.room == Some(0) {
            return Err(io::Error::from_raw_os_error(ENOSPC));
        }
        let id = state.next;
        state.next += 1;
        let file = File {
            bytes: Vec::new(),
            durable: Vec::new(),
            clean: 0,
            written: state.now,
        };
        state.files.insert(id, file);
        state.names.insert(name.to_owned(), id);
        Ok(Box::new(SimulatedWriter {
            disk: self.clone(),
            id,
        }))
    }

    fn read(&self, name: &str, offset: u64, most: u64, into: &mut Vec<u8>) -> io::Result<u64> {
        let state = self.state();
        if let Some(errno) = state.faults.read {
            return Err(io::Error::from_raw_os_error(errno));
        }
        let bytes = &state.files[&state.id(name)?].bytes;
        let from = usize::try_from(offset).unwrap().min(bytes.len());
        let to = (from + usize::try_from(most).unwrap()).min(bytes.len());
        into.extend_from_slice(&bytes[from..to]);
        Ok((to - from) as u64)
    }

    fn cut(&self, name: &str, length: u64) -> io::Result<()> {
        let mut state = self.state();
        let id = state.id(name)?;
        state.cut(id, length)?;
        state.flushes()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        state.changes()?;
        let id = state.id(from)?;
        state.names.remove(from);
        state.names.insert(to.to_owned(), id);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        if state.names.contains_key(name) {
            state.changes()?;
            state.names.remove(name);
        }
        Ok(())
    }

    fn sync_names(&self) -> io::Result<()> {
        let mut state = self.state();
        state.flushes()?;
        state.durable_names = state.names.clone();
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from("/simulated").join(name)
    }
}

#[derive(Debug)]
struct SimulatedWriter {
    disk: SimulatedDisk,
    id: u64,
}

impl Writer for SimulatedWriter {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.disk.state();
        state.changes()?;
        let room = state.faults.room.unwrap_or(u64::MAX);
        let fits = usize::try_from(room).unwrap_or(usize::MAX).min(bytes.len());
        if let Some(room) = &mut state.faults.room {
            *room -= fits as u64;
        }
        let now = state.now;
        let file = state.file(self.id);
        file.bytes.extend_from_slice(&bytes[..fits]);
        file.written = now;
        if fits < bytes.len() {
            return Err(io::Error::from_raw_os_error(ENOSPC));
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.disk.state();
        let failed = state.flushes();
        let file = state.file(self.id);
        if failed.is_ok() && file.clean < file.bytes.len() {
            // Bytes discarded by an earlier failed flush stay a hole.
            file.durable.resize(file.clean, 0);
            file.durable.extend_from_slice(&file.bytes[file.clean..]);
        }
        file.clean = file.bytes.len();
        failed
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.disk.state().cut(self.id, length)
    }
}
