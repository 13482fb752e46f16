//! A disk that is full for a while: what waited for room is counted once it is there.

#![allow(clippy::unwrap_used, reason = "a test fails where it is surprised")]

mod common;

use common::{any, config, open, rows};
use seglog::sim::SimDisk;
use spool::SpoolError;
use telemetry::Cause;

#[test]
fn a_batch_that_waited_for_room_beside_a_cursor_is_in_the_count_of_the_next_start() {
    let disk = SimDisk::new(1);
    let (spool, _, table) = open(&disk, config());
    spool.append(1, &rows(&table, 1, 3), false).unwrap();
    spool.cut().unwrap();
    spool.append(2, &rows(&table, 2, 9), false).unwrap();
    disk.set_capacity(Some(disk.used()));
    assert!(matches!(spool.cut(), Err(SpoolError::Full)));
    // Nobody was connected when it was cut: before it is sent the cursor says so.
    assert_eq!(any(&spool).unwrap().seq, 1);
    disk.set_capacity(None);
    spool.append(3, &rows(&table, 3, 1), false).unwrap();
    let counted = spool.counted();
    assert_eq!(counted.get(Cause::Received), 12);
    disk.kill();
    drop(spool);
    let (spool, _, _) = open(&disk, config());
    assert_eq!(spool.counted(), counted);
}
