//! Seed 1961 of the simulation: the log's last record rots between two power cuts. No intact record stands
//! behind it, so it passes for a write that was torn and never confirmed, and its rows are cut again; but the
//! collector had it already and stored one reading twice. Now it is cut where it was, which its head mostly
//! still tells, and what the checkpoint covers is known to the cursor, so that it is damage with an exact count.

#![allow(clippy::unwrap_used, reason = "a test fails where it is surprised")]

mod common;

use std::time::Duration;

use common::{Answer, Collector, any, config, open, rows};
use seglog::sim::SimDisk;
use telemetry::{BatchKey, Cause, Epoch, SeriesTable};

/// Twenty records in batches of uneven sizes, as load and acks make them; the collector has them all. Gives the
/// positions that each batch ended at.
fn sent(disk: &SimDisk, collector: &mut Collector) -> (spool::Spool, std::sync::Arc<SeriesTable>) {
    let (spool, _, table) = open(disk, config());
    collector.drain(&spool);
    spool.greet(&[], &[]).unwrap();
    for position in 1..=20 {
        spool.append(position, &rows(&table, position, 3), false).unwrap();
        if [1, 2, 5, 11, 20].contains(&position) {
            cut(&spool, position);
            assert_eq!(collector.take(&any(&spool).unwrap()), Answer::Stored);
        }
    }
    (spool, table)
}

/// As the driver cuts while it is connected: the cursor isn't written with it.
fn cut(spool: &spool::Spool, position: u64) {
    let now = Duration::from_millis(100 * position);
    let at_once = spool.cut_if_due(now).unwrap();
    assert!(at_once.or(spool.cut_if_due(now + Duration::from_millis(60)).unwrap()).is_some());
}

/// Changes bytes of the log's only segment, counted from its end.
fn rot(disk: &SimDisk, from_end: std::ops::Range<usize>) {
    let segment =
        disk.paths().into_iter().find(|path| path.starts_with("/spool/log") && !path.ends_with("lock"));
    let segment = segment.unwrap();
    let len = disk.read(&segment).unwrap().len();
    for at in from_end {
        assert!(disk.rot(&segment, len - at, 0x10));
    }
}

/// What a start folds again: everything, with a segment of the journal beginning in the middle of the last batch.
fn replay(spool: &spool::Spool, table: &SeriesTable) {
    for position in 1..=20 {
        if position == 15 {
            spool.cut_before(position).unwrap();
        }
        spool.append(position, &rows(table, position, 3), true).unwrap();
    }
    spool.cut().unwrap();
}

#[test]
fn a_batch_that_rots_at_the_end_of_the_log_is_cut_again_as_it_was_and_stored_once() {
    let disk = SimDisk::new(1);
    let mut collector = Collector::default();
    drop(sent(&disk, &mut collector));
    disk.crash();
    rot(&disk, 1..2);
    let (spool, recovery, table) = open(&disk, config());
    assert!(recovery.torn_bytes > 0 && recovery.damaged == 0 && spool.position() == 11, "{recovery:?}");
    let epoch = spool.usage().epoch;
    replay(&spool, &table);
    collector.drain(&spool);
    assert_eq!(collector.values.len(), 60);
    assert!(collector.values.values().all(|times| *times == 1), "{:?}", collector.values);
    assert_eq!((spool.usage().epoch, spool.usage().next_seq), (epoch, 6));
}

#[test]
fn a_batch_whose_head_is_gone_as_well_is_never_lost_and_at_most_stored_again() {
    let disk = SimDisk::new(1);
    let mut collector = Collector::default();
    drop(sent(&disk, &mut collector));
    disk.crash();
    let len = disk.used() as usize;
    rot(&disk, 1..(len / 3).min(300));
    let (spool, _, table) = open(&disk, config());
    replay(&spool, &table);
    collector.drain(&spool);
    assert_eq!(collector.values.len(), 60);
    assert!(collector.values.values().all(|times| *times <= 2));
}

#[test]
fn what_the_checkpoint_may_cover_is_damage_with_an_exact_count_when_it_rots_at_the_end_of_the_log() {
    let disk = SimDisk::new(1);
    let mut collector = Collector::default();
    let (spool, table) = sent(&disk, &mut collector);
    spool.append(21, &rows(&table, 21, 4), false).unwrap();
    cut(&spool, 21);
    assert_eq!(spool.settled_position().unwrap(), 21);
    drop(spool);
    disk.crash();
    rot(&disk, 1..2);
    let (spool, recovery, _) = open(&disk, config());
    // The journal has let go of it: nothing is folded again.
    assert_eq!((recovery.damaged, spool.position()), (1, 21));
    collector.drain(&spool);
    assert_eq!(collector.counts.get(Cause::Received), 64);
    assert_eq!((collector.counts.get(Cause::Damaged), collector.values.len()), (4, 60));
}

/// Seed 115096 of the simulation: a batch in the middle, which the collector has, and the last, which it hasn't. What both
/// had held was said with the first, which needed no telling.
#[test]
fn what_the_end_held_is_told_though_a_damaged_batch_before_it_needs_no_telling() {
    let disk = SimDisk::new(1);
    let mut collector = Collector::default();
    let (spool, table) = sent(&disk, &mut collector);
    spool.append(21, &rows(&table, 21, 4), false).unwrap();
    cut(&spool, 21);
    assert_eq!(spool.settled_position().unwrap(), 21);
    drop(spool);
    disk.crash();
    rot(&disk, 1..2);
    let (_, whole, _) = open(&disk.image(1), config());
    rot(&disk, 900..901);
    let (spool, recovery, _) = open(&disk, config());
    assert_eq!((whole.damaged, recovery.damaged, spool.position()), (1, 2, 21));
    collector.drain(&spool);
    assert_eq!(collector.counts.get(Cause::Received), 64);
    assert_eq!((collector.counts.get(Cause::Damaged), collector.values.len()), (4, 60));
}

/// Where the record that has these bytes begins and ends, from the end of the log's only segment.
fn record_with(disk: &SimDisk, marker: &[u8]) -> usize {
    let segment =
        disk.paths().into_iter().find(|path| path.starts_with("/spool/log") && !path.ends_with("lock"));
    let content = disk.read(&segment.unwrap()).unwrap();
    let at = content.windows(marker.len()).rposition(|bytes| bytes == marker).unwrap();
    content.len() - at
}

#[test]
fn a_refused_batch_that_rots_before_its_loss_is_not_cut_again() {
    let disk = SimDisk::new(1);
    let mut collector = Collector::default();
    let (spool, table) = sent(&disk, &mut collector);
    for position in 21..=22 {
        spool.append(position, &rows(&table, position, 3), false).unwrap();
    }
    cut(&spool, 22);
    let batch = any(&spool).unwrap();
    let key = BatchKey { epoch: Epoch(batch.epoch[..].try_into().unwrap()), seq: batch.seq };
    spool.refused(key, "content", "no").unwrap();
    let counted = spool.counted();
    drop(spool);
    disk.crash();
    let payload = record_with(&disk, &batch.payload[..16]);
    rot(&disk, payload - 1..payload);

    let (spool, recovery, table) = open(&disk, config());
    assert_eq!((recovery.damaged, spool.position()), (0, 22), "{recovery:?}");
    assert_eq!(spool.counted(), counted);
    for position in 19..=22 {
        spool.append(position, &rows(&table, position, 3), true).unwrap();
    }
    assert_eq!(spool.cut().unwrap(), None, "nothing is left to cut");
    collector.drain(&spool);
    assert_eq!(collector.values.len(), 60);
    let received = (collector.counts.get(Cause::Received), collector.counts.get(Cause::Refused));
    assert_eq!(received, (66, 6));
}
