//! A segment that the disk stops giving while the spool is in use.
#![allow(clippy::unwrap_used, reason = "a test fails where it is surprised")]

mod common;

use std::path::PathBuf;
use std::time::Duration;

use common::{Answer, Collector, config, open, rows};
use seglog::sim::SimDisk;
use spool::{Spool, SpoolError};
use telemetry::{Cause, Lane};
use wire::v1;

/// Segments of the spool's log, oldest first.
fn segments(disk: &SimDisk) -> Vec<PathBuf> {
    let all = disk.paths().into_iter().filter(|path| path.starts_with("/spool/log"));
    all.filter(|path| path.extension().is_some_and(|is| is == "seg")).collect()
}

/// Takes what there is until there is no more, or something has failed so often.
fn take(spool: &Spool, collector: &mut Collector, tries: u32) -> u32 {
    let mut failed = 0;
    while failed < tries {
        let next = spool.next(Lane::Live, 0).and_then(|batch| match batch {
            Some(batch) => Ok(Some(batch)),
            None => spool.next(Lane::Backlog, 0),
        });
        match next {
            Ok(Some(batch)) => {
                assert_eq!(collector.take(&batch), Answer::Stored);
                let range = v1::Range { first: batch.seq, last: batch.seq };
                spool.acked(&[v1::Holdings { epoch: batch.epoch, upto: 0, ranges: vec![range] }]).unwrap();
            }
            Ok(None) => break,
            Err(SpoolError::Unreadable(_)) => failed += 1,
            Err(error) => panic!("{error}"),
        }
    }
    failed
}

/// A spool of 4500 readings, just opened, of which one segment in the middle can't be opened any more.
fn refusing() -> (SimDisk, Spool, PathBuf) {
    let disk = SimDisk::new(1);
    let (spool, _, table) = open(&disk, config());
    for position in 1..=90 {
        spool.append(position, &rows(&table, position, 50), false).unwrap();
    }
    spool.cut().unwrap();
    drop(spool);
    let (spool, _, _) = open(&disk, config());
    spool.hello();
    spool.greet(&[], &[]).unwrap();
    let segment = segments(&disk)[1].clone();
    disk.fail_opens(&segment);
    (disk, spool, segment)
}

#[test]
fn it_is_reported_as_lost_after_some_tries_and_the_rest_is_sent() {
    let (disk, spool, segment) = refusing();
    let mut collector = Collector::default();
    let failed = take(&spool, &mut collector, 100);
    assert!((5..50).contains(&failed), "{failed}");
    let kept = collector.values.len() as u64;
    assert!(kept > 1000 && kept < 4500, "{kept}");
    while let Some(loss) = spool.next_loss() {
        collector.take_loss(&loss);
    }
    assert_eq!(collector.counts.get(Cause::Damaged) + kept, 4500);
    assert_eq!(collector.counts.get(Cause::Received), 4500);
    // It is kept when its turn comes to be unlinked.
    spool.cut_if_due(Duration::from_secs(10)).unwrap();
    let moved = std::path::Path::new("/spool/log/quarantine").join(segment.file_name().unwrap());
    assert!(disk.paths().contains(&moved) && !disk.paths().contains(&segment), "{:?}", disk.paths());
}

#[test]
fn what_the_disk_gives_again_in_time_is_not_lost() {
    let (disk, spool, _) = refusing();
    let mut collector = Collector::default();
    assert_eq!(take(&spool, &mut collector, 5), 5);
    disk.give_again();
    assert_eq!(take(&spool, &mut collector, 1), 0);
    assert_eq!(collector.values.len(), 4500);
}
