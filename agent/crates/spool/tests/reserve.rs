//! A disk without a byte of room: what the journal alone has goes through the reserve to the collector, step by step, and
//! what is acknowledged fills the reserve again.

#![allow(clippy::unwrap_used, reason = "a test fails where it is surprised")]

mod common;

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{Collector, config, open, rows};
use seglog::sim::SimDisk;
use seglog::{Disk, File, Guard, Mode, Storage};
use spool::{Parts, Reserve, Spool, SpoolConfig, SpoolError};
use telemetry::SeriesTable;

const PARTS: Parts = Parts { count: 8, bytes: 8 << 10 };
const N: u64 = 20;

fn kept() -> SpoolConfig {
    SpoolConfig { reserve: Some(PARTS), batch_bytes: 2000, segment_bytes: 100_000, ..config() }
}

/// Others take all there is.
fn filled(disk: &SimDisk) {
    disk.set_capacity(Some(disk.used()));
}

/// Folds records from a position on until the spool refuses one or `upto` is in; the next position to fold.
fn fold(spool: &Spool, table: &SeriesTable, from: u64, upto: u64) -> u64 {
    for position in from..=upto {
        let took = spool.append(position, &rows(table, position, N), false);
        if took.and_then(|()| spool.cut_if_due(Duration::from_secs(100 * position))).is_err() {
            return spool.position() + 1;
        }
    }
    spool.position() + 1
}

#[test]
fn a_spool_without_a_batch_on_a_disk_without_room_passes_on_all_that_the_journal_has() {
    let disk = SimDisk::new(1);
    let (mut spool, _, mut table) = open(&disk, kept());
    filled(&disk);
    let mut collector = Collector::default();
    let mut next = 1;
    // Far more than the reserve, and in the middle of it a start.
    for round in 0..200 {
        if round == 100 {
            drop(spool);
            disk.kill();
            (spool, _, table) = open(&disk, kept());
            next = spool.position() + 1;
        }
        let before = next;
        next = fold(&spool, &table, next, 1000);
        assert!(next > before || next > 1000, "round {round}: {:?}", spool.usage());
        collector.drain(&spool);
        if next > 1000 {
            break;
        }
    }
    assert_eq!(next, 1001);
    assert_eq!(collector.values.len() as u64, 1000 * N);
    assert!(collector.values.values().all(|times| *times == 1));
    let room = spool.usage().reserve.unwrap();
    assert!(room.left >= room.whole / 2, "it goes round: {room:?}");
}

#[test]
fn without_a_collector_half_of_the_reserve_stays_for_what_settles_batches() {
    let disk = SimDisk::new(2);
    let (spool, _, table) = open(&disk, kept());
    filled(&disk);
    let next = fold(&spool, &table, 1, 10_000);
    assert!(next < 10_000);
    let refused = spool.cut().unwrap_err();
    assert!(matches!(refused, SpoolError::Full), "{refused}");
    let room = spool.usage().reserve.unwrap();
    assert!(room.left >= room.whole / 2 - PARTS.bytes && room.left > 0, "{room:?}");
    // The collector has other batches of these names: a new epoch is written down before anything is sent.
    let mut other = Collector::default();
    other.drain(&spool);
    let held = spool.hello();
    assert!(held.unacked.is_empty(), "all were taken");
    let mut next = fold(&spool, &table, next, next + 3);
    spool.greet(&[], &[]).unwrap();
    for held in spool.hello().unacked {
        let key = telemetry::BatchKey {
            epoch: telemetry::Epoch(held.epoch.as_slice().try_into().unwrap()),
            seq: held.seq,
        };
        while common::any(&spool).is_some() {}
        spool.conflict(key, &[1; 16]).unwrap();
    }
    next = fold(&spool, &table, next, next + 3);
    spool.session_lost();
    other.drain(&spool);
    assert_eq!(other.values.len() as u64, (next - 1) * N);
}

/// A disk that gives blocks to files beforehand, as real ones do, and on which somebody else takes each block in the moment in which
/// it comes free.
#[derive(Clone)]
struct Thief {
    under: Arc<dyn Storage>,
    blocks: Arc<Mutex<Blocks>>,
}

#[derive(Default)]
struct Blocks {
    capacity: u64,
    at_work: bool,
    names: HashMap<PathBuf, u64>,
    /// Length, and what was given beforehand.
    files: HashMap<u64, (u64, u64)>,
    next: u64,
}

impl Blocks {
    fn used(&self) -> u64 {
        self.names.values().filter_map(|id| self.files.get(id)).map(|(len, room)| *len.max(room)).sum()
    }

    fn free(&self) -> u64 {
        self.capacity.saturating_sub(self.used())
    }

    fn grow(&mut self, id: u64, len: u64, room: u64) -> io::Result<()> {
        let before = self.files.get(&id).copied().unwrap_or_default();
        let after = (before.0.max(len), before.1.max(room));
        if after.0.max(after.1) - before.0.max(before.1) > self.free() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.files.insert(id, after);
        Ok(())
    }

    /// What came free is somebody else's.
    fn stolen(&mut self) {
        if self.at_work {
            self.capacity = self.used();
        }
    }
}

struct Given {
    file: Box<dyn File>,
    id: u64,
    blocks: Arc<Mutex<Blocks>>,
}

impl File for Given {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.blocks.lock().unwrap().grow(self.id, offset + bytes.len() as u64, 0)?;
        self.file.write_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }

    fn take_room(&self, bytes: u64) -> io::Result<()> {
        self.blocks.lock().unwrap().grow(self.id, 0, bytes)
    }

    fn taken(&self) -> io::Result<u64> {
        let (len, room) = self.blocks.lock().unwrap().files[&self.id];
        Ok(len.max(room))
    }

    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }

    fn forget_cache(&self) {
        self.file.forget_cache();
    }
}

impl Storage for Thief {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.under.create_dir_all(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.under.list(dir)
    }

    fn open(&self, path: &Path, mode: Mode) -> io::Result<Box<dyn File>> {
        let file = self.under.open(path, mode)?;
        let mut blocks = self.blocks.lock().unwrap();
        if mode == Mode::Create || !blocks.names.contains_key(path) {
            blocks.next += 1;
            let id = blocks.next;
            blocks.names.insert(path.to_owned(), id);
            blocks.files.insert(id, (file.size()?, 0));
            blocks.stolen();
        }
        let id = blocks.names[path];
        Ok(Box::new(Given { file, id, blocks: Arc::clone(&self.blocks) }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.under.rename(from, to)?;
        let mut blocks = self.blocks.lock().unwrap();
        let id = blocks.names.remove(from).unwrap();
        blocks.names.insert(to.to_owned(), id);
        blocks.stolen();
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.under.remove(path)?;
        let mut blocks = self.blocks.lock().unwrap();
        blocks.names.remove(path);
        blocks.stolen();
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.under.sync_dir(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Guard>>> {
        self.under.lock(path)
    }

    fn free_bytes(&self, _: &Path) -> io::Result<u64> {
        Ok(self.blocks.lock().unwrap().free())
    }

    fn random(&self, bytes: &mut [u8]) -> io::Result<()> {
        self.under.random(bytes)
    }
}

#[test]
fn where_somebody_takes_each_block_that_comes_free_half_of_the_reserve_gets_through_and_the_rest_waits() {
    let disk = SimDisk::new(4);
    let blocks = Arc::new(Mutex::new(Blocks { capacity: 4 << 20, ..Blocks::default() }));
    let thief = Thief { under: disk.storage(), blocks: Arc::clone(&blocks) };
    let table = SeriesTable::new(1000);
    let (spool, _) = Spool::open(kept(), Arc::new(thief), Arc::clone(&table), "test").unwrap();
    fold(&spool, &table, 1, 3);
    let mut collector = Collector::default();
    collector.drain(&spool);
    blocks.lock().unwrap().at_work = true;
    blocks.lock().unwrap().stolen();
    let mut next = 4;
    for _ in 0..100 {
        next = fold(&spool, &table, next, 1000);
        collector.drain(&spool);
    }
    // Each part carries a cut, and is somebody else's once that is acknowledged.
    assert!((4 + PARTS.count as u64 / 2..1000).contains(&next), "{next}");
    assert_eq!(collector.values.len() as u64, (next - 1) * N, "what was taken has arrived");
    assert!(matches!(spool.cut(), Ok(None) | Err(SpoolError::Full)));
    assert!(spool.usage().reserve.unwrap().left > 0, "what settles batches has its room");
    // It ends as soon as the other lets go of something.
    blocks.lock().unwrap().at_work = false;
    blocks.lock().unwrap().capacity += 4 * PARTS.bytes;
    for _ in 0..500 {
        next = fold(&spool, &table, next, 1000);
        collector.drain(&spool);
    }
    assert_eq!(next, 1001);
    assert_eq!(collector.values.len() as u64, 1000 * N);
    assert!(collector.values.values().all(|times| *times == 1));
}

#[test]
fn parts_of_another_configuration_are_let_go_and_those_of_this_one_stay() {
    let disk = SimDisk::new(5);
    let open =
        |max_bytes| Reserve::open(disk.storage(), Path::new("/spool/reserve"), Parts::beside(max_bytes), 0);
    let large = open(10 << 30);
    assert_eq!((large.left(), large.whole()), (8 << 20, 8 << 20));
    drop(large);
    let before = disk.used();
    filled(&disk);
    let small = open(8 << 20);
    assert_eq!((small.left(), small.whole()), (1 << 20, 1 << 20));
    assert!(disk.used() <= before - (7 << 20), "others have the rest");
}

#[test]
fn it_is_whole_again_once_others_have_what_they_are_to_have_and_not_before() {
    let disk = SimDisk::new(3);
    disk.set_capacity(Some(1 << 20));
    let min_free = 500_000;
    let (spool, _, table) = open(&disk, SpoolConfig { min_free_bytes: min_free, ..kept() });
    let whole = u64::from(PARTS.count) * PARTS.bytes;
    assert_eq!(spool.usage().reserve.map(|room| room.left), None, "nobody has looked");
    fold(&spool, &table, 1, 3);
    assert_eq!(spool.usage().reserve.unwrap().left, whole);
    drop(spool);
    for number in 0..PARTS.count {
        disk.storage().remove(Path::new(&format!("/spool/reserve/{number:02x}"))).unwrap();
    }
    disk.kill();
    disk.put(Path::new("/others"), &vec![0; (1 << 20) - disk.used() as usize - min_free as usize]);
    let (spool, _, table) = open(&disk, SpoolConfig { min_free_bytes: min_free, ..kept() });
    spool.append(9, &rows(&table, 9, 1), false).unwrap();
    spool.cut_if_due(Duration::from_secs(10)).ok();
    assert_eq!(spool.usage().reserve.unwrap().left, 0);
    disk.set_capacity(None);
    spool.cut_if_due(Duration::from_secs(20)).unwrap();
    assert_eq!(spool.usage().reserve.unwrap().left, whole);
}

#[test]
fn parts_are_real_blocks_and_a_file_on_a_full_disk_is_made_of_one() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("reserve");
    let reserve = Reserve::open(Arc::new(Disk), &dir, PARTS, 0);
    assert_eq!((reserve.left(), reserve.whole()), (64 << 10, 64 << 10));
    let part = Disk.open(&dir.join("00"), Mode::Write).unwrap();
    if part.size().unwrap() > 0 {
        // This file system has no call for it.
        return;
    }
    assert!(part.taken().unwrap() >= PARTS.bytes);
    // A copy of the folder has holes: they are filled.
    std::fs::write(dir.join("01"), "").unwrap();
    std::fs::write(dir.join("02"), "another name of a segment").unwrap();
    std::fs::write(dir.join("note"), "somebody's").unwrap();
    drop(reserve);
    let reserve = Reserve::open(Arc::new(Disk), &dir, PARTS, u64::MAX);
    assert_eq!(
        reserve.left(),
        7 * PARTS.bytes,
        "all but the one with content, and none is taken below the floor"
    );
    assert!(Disk.open(&dir.join("01"), Mode::Read).unwrap().taken().unwrap() >= PARTS.bytes);
    assert!(!dir.join("02").exists() && dir.join("note").exists());
    // The disk has room: nothing is made of it.
    let path = folder.path().join("segment");
    reserve.storage().open(&path, Mode::Create).unwrap().write_at(b"x", 0).unwrap();
    assert_eq!(reserve.left(), 7 * PARTS.bytes);
}
