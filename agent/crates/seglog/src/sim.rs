//! A disk in memory that fails as disks do (feature `sim`, for tests).
//!
//! What it models, per 512-byte sector: a write is in the cache until a successful fsync; a crash
//! keeps any part of what was not synced (torn writes, reordered writes, a length without its
//! data); creations, renames and unlinks last from the directory's fsync on, and before it any of
//! them may be lost; a failed fsync writes any part and forgets the rest, and the cache goes on
//! showing what isn't there until it is dropped. Everything is decided by the seed.

mod calls;
mod content;
mod point;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};

use self::content::{Change, Inode};
pub use self::point::{Call, Point};
use crate::storage::Storage;

const SECTOR: usize = 512;

/// A simulated disk; clones share it.
#[derive(Clone)]
pub struct SimDisk(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    random: u64,
    inodes: BTreeMap<u64, Inode>,
    /// Names as a process sees them, and as a crash would leave them at least.
    names: BTreeMap<PathBuf, u64>,
    durable: BTreeMap<PathBuf, u64>,
    pending: Vec<Change>,
    next_inode: u64,
    /// Counts crashes: files opened before one are dead.
    boot: u64,
    locks: BTreeSet<PathBuf>,
    capacity: Option<u64>,
    power_off: bool,
    crash_at: Option<Point>,
    fail_sync: Option<u64>,
    fail_write: Option<u64>,
    /// Files with this in their path are said to be synced when they aren't, and those that were.
    lie: Option<&'static str>,
    lied: BTreeSet<u64>,
    /// Sectors that can't be read.
    unreadable: BTreeSet<(u64, usize)>,
    /// Handles by inode: what is unlinked takes its room until the last one is closed.
    open: BTreeMap<u64, u32>,
    /// Files that can't be opened, and directories that can't be listed.
    unopenable: BTreeSet<u64>,
    /// Files that the system doesn't open, though the disk would give them.
    withheld: BTreeSet<u64>,
    unlistable: BTreeSet<PathBuf>,
    /// Files and directories with this in their path take nothing.
    unwritable: Option<&'static str>,
    hold: bool,
    held: usize,
    syncs: u64,
    calls: u64,
}

fn off() -> io::Error {
    io::Error::other("simulated: the power is off")
}

/// As the system says it.
fn eio_of_system() -> io::Error {
    io::Error::from_raw_os_error(rustix::io::Errno::IO.raw_os_error())
}

fn eio() -> io::Error {
    io::Error::other("simulated: input/output error")
}

impl State {
    /// xorshift64*: enough to decide what breaks.
    fn random(&mut self) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        self.random.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn coin(&mut self) -> bool {
        self.random() & 1 == 1
    }

    fn alive(&self) -> io::Result<()> {
        if self.power_off { Err(off()) } else { Ok(()) }
    }

    /// Called by each writing call first; true when the power goes during this one.
    fn power_goes(&mut self, call: Call, path: &Path) -> io::Result<bool> {
        self.alive()?;
        self.calls += 1;
        self.power_off = self.crash_at.as_mut().is_some_and(|point| point.is(call, path));
        if self.power_off {
            self.crash_at = None;
        }
        Ok(self.power_off)
    }

    /// True for what takes nothing now.
    fn refuses(&self, path: &Path) -> bool {
        self.unwritable.is_some_and(|part| path.to_string_lossy().contains(part))
    }

    /// What fsync lied about reaches the disk.
    fn make_good(&mut self) {
        for number in std::mem::take(&mut self.lied) {
            if let Some(inode) = self.inodes.get_mut(&number) {
                inode.sync();
            }
        }
    }

    fn used(&self) -> u64 {
        let taken: BTreeSet<&u64> = self.names.values().chain(self.open.keys()).collect();
        taken.into_iter().filter_map(|inode| self.inodes.get(inode)).map(|i| i.cache.len() as u64).sum()
    }

    /// An inode of a file that was opened in this boot.
    fn inode(&mut self, inode: u64, boot: u64) -> io::Result<&mut Inode> {
        if self.boot != boot {
            return Err(off());
        }
        self.inodes.get_mut(&inode).ok_or_else(off)
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.names);
        self.pending.push(change);
    }
}

/// Counts a fault down; true when it is due.
fn due(fault: &mut Option<u64>) -> bool {
    match fault {
        Some(0) => {
            *fault = None;
            true
        }
        Some(n) => {
            *n -= 1;
            false
        }
        None => false,
    }
}

impl SimDisk {
    /// A disk without files; `seed` decides what a crash keeps.
    pub fn new(seed: u64) -> Self {
        let state = State {
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            inodes: BTreeMap::new(),
            names: BTreeMap::new(),
            durable: BTreeMap::new(),
            pending: Vec::new(),
            next_inode: 1,
            boot: 1,
            locks: BTreeSet::new(),
            capacity: None,
            power_off: false,
            crash_at: None,
            fail_sync: None,
            fail_write: None,
            lie: None,
            lied: BTreeSet::new(),
            unreadable: BTreeSet::new(),
            open: BTreeMap::new(),
            unopenable: BTreeSet::new(),
            withheld: BTreeSet::new(),
            unlistable: BTreeSet::new(),
            unwritable: None,
            hold: false,
            held: 0,
            syncs: 0,
            calls: 0,
        };
        Self(Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() }))
    }

    /// As a [`Storage`].
    pub fn storage(&self) -> Arc<dyn Storage> {
        Arc::new(self.clone())
    }

    /// Cuts the power and puts it on again: of what was not synced any part is lost, files that
    /// were open are dead, locks are free, faults are gone. The capacity stays.
    pub fn crash(&self) {
        let mut state = self.0.state.lock();
        for change in std::mem::take(&mut state.pending) {
            if state.coin() {
                change.apply(&mut state.durable);
            }
        }
        state.lied.clear();
        let mut inodes = std::mem::take(&mut state.inodes);
        for inode in inodes.values_mut() {
            for sector in std::mem::take(&mut inode.dirty) {
                if state.coin() {
                    inode.flush(sector);
                }
            }
            let (low, high) =
                (inode.durable.len().min(inode.cache.len()), inode.durable.len().max(inode.cache.len()));
            let len = match state.random() % 3 {
                0 => inode.durable.len(),
                1 => high,
                _ => low + (state.random() % (high - low + 1) as u64) as usize,
            };
            // What was synced is kept: only a truncation that was not may shorten it.
            let len =
                if inode.cache.len() >= inode.durable.len() { len.max(inode.durable.len()) } else { len };
            inode.durable.resize(len, 0);
            inode.cache = inode.durable.clone();
        }
        state.names = state.durable.clone();
        let linked: BTreeSet<u64> = state.names.values().copied().collect();
        inodes.retain(|inode, _| linked.contains(inode));
        state.inodes = inodes;
        state.boot += 1;
        state.open.clear();
        state.locks.clear();
        state.power_off = false;
        state.crash_at = None;
        state.fail_sync = None;
        state.fail_write = None;
        state.hold = false;
        self.0.changed.notify_all();
    }

    /// The power goes during the n-th writing call from now (0: the next one). From then on every
    /// call fails, until [`SimDisk::crash`].
    pub fn crash_after(&self, calls: u64) {
        self.crash_at(Point { call: None, path: "", after: calls });
    }

    /// The same during a call of a kind on some files.
    pub fn crash_at(&self, point: Point) {
        self.0.state.lock().crash_at = Some(point);
    }

    /// From now on fsync says of files with this in their path that they are durable, when they are only at the
    /// next successful fsync of any directory. So a test sees whether it would notice that a program does first
    /// what may only be done after that fsync.
    pub fn lie_about(&self, path: &'static str) {
        self.0.state.lock().lie = Some(path);
    }

    /// Kills the process that uses it and nothing else: files that were open are dead and locks are free,
    /// but what was written stays, in the cache where it wasn't synced. Faults that were set are gone.
    pub fn kill(&self) {
        let mut state = self.0.state.lock();
        state.boot += 1;
        state.open.clear();
        state.locks.clear();
        state.power_off = false;
        state.crash_at = None;
        state.fail_sync = None;
        state.fail_write = None;
        state.hold = false;
        self.0.changed.notify_all();
    }

    /// Another disk with the same content, as an image of a machine that is switched off; `seed` decides
    /// what becomes of it. Take it after a [`SimDisk::crash`].
    pub fn image(&self, seed: u64) -> Self {
        let copy = Self::new(seed);
        for path in self.paths() {
            if let Some(content) = self.read(&path) {
                copy.put(&path, &content);
            }
        }
        let (capacity, lie) = {
            let state = self.0.state.lock();
            (state.capacity, state.lie)
        };
        copy.set_capacity(capacity);
        copy.0.state.lock().lie = lie;
        copy
    }

    /// Changes a byte of a file where it lies, as rot does: in the cache and on the disk. False when
    /// there is no such byte.
    pub fn rot(&self, path: &Path, offset: usize, mask: u8) -> bool {
        let mut state = self.0.state.lock();
        let Some(number) = state.names.get(path).copied() else { return false };
        let Some(inode) = state.inodes.get_mut(&number) else { return false };
        let Some(byte) = inode.cache.get_mut(offset) else { return false };
        *byte ^= mask;
        if let Some(byte) = inode.durable.get_mut(offset) {
            *byte ^= mask;
        }
        true
    }

    /// The n-th fsync from now, of a file or a directory (0: the next one), fails, once: it writes
    /// any part of what it should have written and forgets the rest.
    pub fn fail_sync_after(&self, calls: u64) {
        self.0.state.lock().fail_sync = Some(calls);
    }

    /// The n-th write from now (0: the next one) fails with EIO, once.
    pub fn fail_write_after(&self, calls: u64) {
        self.0.state.lock().fail_write = Some(calls);
    }

    /// True from the call that [`SimDisk::crash_after`] named until [`SimDisk::crash`].
    pub fn is_off(&self) -> bool {
        self.0.state.lock().power_off
    }

    /// How many bytes fit on the disk; `None` for any number.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.0.state.lock().capacity = bytes;
    }

    /// Faults that were set and have not come yet never come, and the disk has room.
    pub fn mend(&self) {
        let mut state = self.0.state.lock();
        state.crash_at = None;
        state.fail_sync = None;
        state.fail_write = None;
        state.capacity = None;
    }

    /// From now on the sector that holds this byte of a file can't be read, for good.
    pub fn fail_reads(&self, path: &Path, offset: usize) {
        let mut state = self.0.state.lock();
        if let Some(inode) = state.names.get(path).copied() {
            state.unreadable.insert((inode, offset / SECTOR));
        }
    }

    /// From now on a file can't be opened, whatever it is called.
    pub fn fail_opens(&self, path: &Path) {
        let mut state = self.0.state.lock();
        if let Some(inode) = state.names.get(path).copied() {
            state.unopenable.insert(inode);
        }
    }

    /// From now on a file can't be opened for want of file handles.
    pub fn withhold(&self, path: &Path) {
        let mut state = self.0.state.lock();
        if let Some(inode) = state.names.get(path).copied() {
            state.withheld.insert(inode);
        }
    }

    /// From now on writes and fsyncs of what has this in its path fail with EIO.
    pub fn fail_writes(&self, part: &'static str) {
        self.0.state.lock().unwritable = Some(part);
    }

    /// What couldn't be opened, read or written can be again.
    pub fn give_again(&self) {
        let mut state = self.0.state.lock();
        state.unopenable.clear();
        state.withheld.clear();
        state.unreadable.clear();
        state.unwritable = None;
    }

    /// From now on a directory can't be listed, for good.
    pub fn fail_lists(&self, dir: &Path) {
        self.0.state.lock().unlistable.insert(dir.to_owned());
    }

    /// From now on every fsync waits for [`SimDisk::release_syncs`].
    pub fn hold_syncs(&self) {
        self.0.state.lock().hold = true;
    }

    /// Lets held fsyncs, and those to come, go on.
    pub fn release_syncs(&self) {
        self.0.state.lock().hold = false;
        self.0.changed.notify_all();
    }

    /// Waits until an fsync is held; false when none came within `timeout`.
    pub fn wait_for_held_sync(&self, timeout: Duration) -> bool {
        let mut state = self.0.state.lock();
        !self.0.changed.wait_while_for(&mut state, |state| state.held == 0, timeout).timed_out()
    }

    /// The content of a file as a process sees it now.
    pub fn read(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.0.state.lock();
        state.names.get(path).and_then(|inode| state.inodes.get(inode)).map(|inode| inode.cache.clone())
    }

    /// Puts a file there, durable at once.
    pub fn put(&self, path: &Path, content: &[u8]) {
        let mut state = self.0.state.lock();
        let number = state.next_inode;
        state.next_inode += 1;
        let inode = Inode { durable: content.to_vec(), cache: content.to_vec(), dirty: BTreeSet::new() };
        state.inodes.insert(number, inode);
        state.names.insert(path.to_owned(), number);
        state.durable.insert(path.to_owned(), number);
    }

    /// Bytes of all files.
    pub fn used(&self) -> u64 {
        self.0.state.lock().used()
    }

    /// Paths of all files, sorted.
    pub fn paths(&self) -> Vec<PathBuf> {
        let mut paths: Vec<PathBuf> = self.0.state.lock().names.keys().cloned().collect();
        paths.sort();
        paths
    }

    /// Fsyncs, of files and directories, that succeeded so far.
    pub fn syncs(&self) -> u64 {
        self.0.state.lock().syncs
    }

    /// Writing calls so far.
    pub fn calls(&self) -> u64 {
        self.0.state.lock().calls
    }

    /// Waits while syncs are held, then says whether this one works.
    fn sync_gate(&self, call: Call, path: &Path) -> io::Result<(MutexGuard<'_, State>, bool)> {
        let mut state = self.0.state.lock();
        state.alive()?;
        let boot = state.boot;
        state.held += 1;
        self.0.changed.notify_all();
        self.0.changed.wait_while(&mut state, |state| state.hold && state.boot == boot);
        state.held -= 1;
        if state.boot != boot || state.power_goes(call, path)? {
            return Err(off());
        }
        let fails = due(&mut state.fail_sync) || state.refuses(path);
        Ok((state, fails))
    }
}
