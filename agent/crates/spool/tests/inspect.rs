//! Looking at a spool: what is seen is what opening and draining it then show, and nothing on the disk changes by it.

#![allow(clippy::unwrap_used, reason = "a test fails where it is surprised")]

mod common;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::{Collector, any, config, open, rows};
use proptest::prelude::*;
use seglog::sim::SimDisk;
use spool::inspect::{CursorState, Fate, Found, InspectError, Inspection};
use wire::v1;

fn look(disk: &SimDisk) -> Inspection {
    Inspection::open(disk.storage(), Path::new("/spool")).unwrap()
}

fn content(disk: &SimDisk) -> BTreeMap<PathBuf, Vec<u8>> {
    disk.paths().into_iter().filter_map(|path| Some((path.clone(), disk.read(&path)?))).collect()
}

/// Seq and rows of each.
type Batches = Vec<(u64, u64)>;

/// Seq and rows of the batches that wait, by what `list` and by what `walk` show.
fn waiting(inspection: &Inspection) -> (Batches, Batches) {
    let summary = inspection.summary().unwrap();
    let (mut listed, mut walked) = (Vec::new(), Vec::new());
    let note = |into: &mut Vec<(u64, u64)>, found: Found<'_>| {
        if let Found::Batch(batch) = found
            && summary.fate(&batch) == Fate::Waiting
        {
            into.push((summary.name(&batch).seq, batch.rows));
        }
        ControlFlow::Continue(())
    };
    inspection.list(&mut |found| note(&mut listed, found)).unwrap();
    inspection.walk(&mut |found| note(&mut walked, found)).unwrap();
    (listed, walked)
}

#[test]
fn what_waits_is_listed_also_beside_the_writer_and_what_is_acked_is_told_from_it() {
    let disk = SimDisk::new(1);
    let (spool, _, table) = open(&disk, config());
    for position in 1..=60 {
        spool.append(position, &rows(&table, position, 50), false).unwrap();
    }
    spool.cut().unwrap();
    let before = content(&disk);
    let (listed, walked) = waiting(&look(&disk));
    assert_eq!(listed, walked);
    assert_eq!(listed.len() as u64, spool.usage().batches);
    assert_eq!(listed.iter().map(|batch| batch.1).sum::<u64>(), 3000);
    assert_eq!(content(&disk), before);

    let batch = any(&spool).unwrap();
    spool.acked(&[v1::Holdings { epoch: batch.epoch, upto: 1, ranges: vec![] }]).unwrap();
    spool.cut().unwrap();
    let inspection = look(&disk);
    assert_eq!(inspection.cursor(), &CursorState::Fine);
    assert_eq!(waiting(&inspection).0, listed[1..]);
}

#[test]
fn a_folder_without_a_log_is_no_spool() {
    let opened = Inspection::open(Arc::new(seglog::Disk), Path::new("/proc/self/nothing"));
    assert!(matches!(opened, Err(InspectError::NotASpool(_))));
}

#[test]
fn losses_that_were_written_down_are_no_longer_foreseen_and_reach_the_collector_once() {
    let disk = SimDisk::new(1);
    let (spool, _, table) = open(&disk, config());
    for position in 1..=120 {
        spool.append(position, &rows(&table, position, 50), false).unwrap();
    }
    spool.cut().unwrap();
    drop(spool);
    damage(&disk, 1, 1500, 200);
    forget_heads(&disk);
    let foreseen = look(&disk).losses(true);
    assert!(!foreseen.is_empty());
    let (spool, ..) = open(&disk, config());
    spool.write_losses().unwrap();
    drop(spool);
    assert_eq!(look(&disk).losses(true), []);
    let (spool, recovery, _) = open(&disk, config());
    assert_eq!(recovery.damaged, 0);
    let mut collector = Collector::default();
    collector.drain(&spool);
    assert_eq!(collector.lost.len(), foreseen.len());
}

/// Changes bytes of the log's n-th segment.
fn damage(disk: &SimDisk, segment: usize, at: usize, bytes: usize) {
    let segments: Vec<PathBuf> = disk.paths().into_iter().filter(|path| is_segment(path)).collect();
    let path = &segments[segment % segments.len()];
    let mut content = disk.read(path).unwrap();
    let at = at % content.len();
    let end = (at + bytes).min(content.len());
    content[at..end].iter_mut().for_each(|byte| *byte ^= 0x5a);
    disk.put(path, &content);
}

fn is_segment(path: &Path) -> bool {
    path.starts_with("/spool/log") && path.extension().is_some_and(|extension| extension == "seg")
}

fn forget_heads(disk: &SimDisk) {
    for path in disk.paths().iter().filter(|path| path.starts_with("/spool/heads")) {
        disk.put(path, b"not heads");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_foreseen_of_any_damage_is_what_opening_tells(
        places in proptest::collection::vec((0usize..8, 0usize..1 << 20, 1usize..600), 1..4),
    ) {
        let disk = SimDisk::new(1);
        let (spool, _, table) = open(&disk, config());
        for position in 1..=120 {
            spool.append(position, &rows(&table, position, 50), false).unwrap();
        }
        spool.cut().unwrap();
        drop(spool);
        for (segment, at, bytes) in places {
            damage(&disk, segment, at, bytes);
        }
        forget_heads(&disk);
        let before = content(&disk);
        let inspection = look(&disk);
        let foreseen = inspection.losses(true);
        let (listed, walked) = waiting(&inspection);
        prop_assert_eq!(content(&disk), before);
        prop_assert_eq!(&listed, &walked);

        let (spool, recovery, _) = open(&disk, config());
        prop_assert_eq!(recovery.batches, listed.len() as u64);
        prop_assert_eq!(recovery.rows, listed.iter().map(|batch| batch.1).sum::<u64>());
        let told: Vec<_> = spool.loss_frames().iter().map(|loss| (loss.seq, loss.t0_ns, loss.t1_ns)).collect();
        let ours: Vec<_> = foreseen.iter().map(|loss| (loss.key.seq, loss.times.0, loss.times.1)).collect();
        prop_assert_eq!(told, ours);
    }
}
