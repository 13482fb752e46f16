//! Between which times a batch was that is gone: its neighbours say so, and where there is none on one side, the cursor.

#![allow(clippy::unwrap_used, reason = "a test fails where it is surprised")]

mod common;

use common::{Collector, config, open, rows};
use seglog::sim::SimDisk;
use telemetry::Cause;

const SECOND: i64 = 1_000_000_000;

/// Three batches, of the first, second and third second; of the log's only segment what `rots` says is damaged. Gives the
/// times of what is lost, by the agent and by the collector.
fn lost_of(rots: impl Fn(usize, usize) -> Vec<usize>) -> (i64, i64) {
    let disk = SimDisk::new(1);
    let (spool, _, table) = open(&disk, config());
    let mut ends = vec![64];
    let segment = || {
        let log = |path: &std::path::PathBuf| path.starts_with("/spool/log") && !path.ends_with("lock");
        disk.paths().into_iter().find(log).unwrap()
    };
    for position in 1..=3 {
        spool.append(position, &rows(&table, position, 5), false).unwrap();
        spool.cut().unwrap();
        ends.push(disk.read(&segment()).unwrap().len());
    }
    assert_eq!(spool.settled_position().unwrap(), 3);
    drop(spool);
    disk.crash();
    for at in ends
        .windows(2)
        .enumerate()
        .flat_map(|(at, span)| rots(at + 1, 3).into_iter().map(|back| span[1] - back).collect::<Vec<_>>())
    {
        assert!(disk.rot(&segment(), at, 0x10));
    }
    let (spool, recovery, _) = open(&disk, config());
    assert!(recovery.damaged > 0, "{recovery:?}");
    let mut collector = Collector::default();
    collector.drain(&spool);
    let usage = spool.usage();
    let [lost] = &usage.lost[..] else { panic!("{:?}", usage.lost) };
    let [damage] = &usage.damage[..] else { panic!("{:?}", usage.damage) };
    assert_eq!(collector.counts.get(Cause::Damaged), lost.count);
    assert_eq!((damage.from_ns, damage.to_ns), (Some(lost.from_ns), Some(lost.to_ns)));
    (lost.from_ns / SECOND, lost.to_ns / SECOND)
}

#[test]
fn what_is_gone_at_the_end_may_be_as_late_as_anything_that_waited() {
    assert_eq!(lost_of(|batch, last| if batch == last { vec![1] } else { vec![] }), (2, 3));
    assert_eq!(lost_of(|batch, _| if batch > 1 { vec![1, 30] } else { vec![] }), (1, 3));
}

#[test]
fn what_is_gone_at_the_beginning_may_be_as_early() {
    assert_eq!(lost_of(|batch, _| if batch == 1 { vec![30] } else { vec![] }), (1, 2));
}

#[test]
fn what_has_no_neighbour_lies_between_the_times_of_all_that_waited() {
    assert_eq!(lost_of(|_, _| vec![1, 30]), (1, 3));
}

#[test]
fn what_lies_between_two_is_told_by_them() {
    assert_eq!(lost_of(|batch, _| if batch == 2 { vec![30] } else { vec![] }), (1, 3));
}
