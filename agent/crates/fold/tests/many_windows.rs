//! Open windows are bounded however many devices and windows there are, at the same record whatever a restart lies between.

#![allow(clippy::unwrap_used, reason = "a helper outside #[test] functions")]

mod common;

use common::{SECOND, T0};
use fold::{Fold, NoScorer};
use telemetry::{Intake, Record, Rows, SeriesDef, SeriesKey, SeriesTable, Stamp};

const DEVICES: usize = 15_000;
const MOST: usize = 65_536;

/// The configuration, then a record a second in which each device has a reading; late ones wait for an hour.
fn records(table: &SeriesTable, seconds: i64) -> Vec<Record> {
    let config = br#"{"route":[{"match":"m","to":"window","window":"1s"}],"lateness":"1h"}"#.to_vec();
    let mut records = vec![Record::Config { stamp: Stamp::default(), generation: 1, config }];
    for second in 0..seconds {
        let stamp = Stamp { wall: T0 + second * SECOND, mono: (second * SECOND) as u64 };
        let mut intake = Intake::new(0, stamp);
        for device in 0..DEVICES {
            let key = SeriesKey::new("m", [("device", format!("d{device}"))]).unwrap();
            intake.series.push(table.intern(SeriesDef::bare(key)).unwrap());
            intake.push(device as u32, stamp.wall, 1.0, 0);
        }
        records.push(Record::Intake(intake));
    }
    records
}

#[test]
fn when_too_many_are_open_all_leave_as_partials() {
    let table = SeriesTable::new(100_000);
    let records = records(&table, 6);
    let (mut fold, mut rows) =
        (Fold::new(std::sync::Arc::clone(&table), Box::new(NoScorer)), Rows::default());
    let mut open = Vec::new();
    let mut left = Vec::new();
    for (at, record) in (1..).zip(&records) {
        fold.apply(at, record, &mut rows);
        open.push(fold.status().open_windows);
        left.push(rows.windows.len());
        rows.clear();
        // As at a restart: what was counted before is not known.
        let kept = fold.checkpoint();
        fold = Fold::restore(std::sync::Arc::clone(&table), Box::new(NoScorer), &kept).unwrap();
    }
    let each = DEVICES;
    assert_eq!(open, [0, each, 2 * each, 3 * each, 4 * each, 0, each]);
    assert_eq!(left, [0, 0, 0, 0, 0, 5 * each, 0], "the record that makes them more than {MOST}");
}
