//! By which clock what waits is too old: one that is wrong for a while takes nothing that is still good.

#![allow(clippy::unwrap_used, reason = "a test fails where it is surprised")]

mod common;

use std::time::Duration;

use common::{SECOND, config, open};
use seglog::sim::SimDisk;
use spool::{Spool, SpoolConfig};
use telemetry::{Boot, SeriesTable, Stamp};

const BOOT: Boot = [1; 16];
const NEXT: Boot = [2; 16];
/// Seconds since the epoch, and in a day and a year.
const NOW: i64 = 1_790_000_000;
const DAY: i64 = 86_400;
const YEAR: i64 = 365 * DAY;

fn stamp(wall: i64, mono: i64) -> Stamp {
    Stamp { wall: wall * SECOND, mono: (mono * SECOND) as u64 }
}

/// An agent that keeps a week, and how often it has looked for what is too old.
struct Agent {
    spool: Spool,
    table: std::sync::Arc<SeriesTable>,
    looks: u64,
}

impl Agent {
    fn start(disk: &SimDisk) -> Self {
        let max_age = Some(Duration::from_secs(7 * DAY as u64));
        let (spool, _, table) = open(disk, SpoolConfig { max_age, ..config() });
        Self { spool, table, looks: 0 }
    }

    /// A batch of a reading of this time.
    fn read(&self, at: i64) {
        let position = self.spool.position() + 1;
        self.spool.append(position, &common::rows(&self.table, at as u64, 1), false).unwrap();
        self.spool.cut().unwrap();
    }

    /// The clock is looked at, and then what is too old: gives what expired and what was kept though it looks it.
    fn look(&mut self, boot: Boot, at: Stamp) -> (u64, u64) {
        self.spool.clock(boot, at);
        self.looks += 10;
        self.spool.cut_if_due(Duration::from_secs(self.looks)).unwrap();
        (self.spool.usage().losses, self.spool.age_kept())
    }
}

/// A week's readings, one an hour, of an agent whose clock is right; it has been up for ten days.
fn week(disk: &SimDisk) -> Agent {
    let mut agent = Agent::start(disk);
    for hour in 1..=7 * 24 {
        let at = NOW - 7 * DAY + hour * 3600;
        assert_eq!(agent.look(BOOT, stamp(at, 3 * DAY + hour * 3600)), (0, 0));
        agent.read(at);
    }
    agent
}

#[test]
fn a_clock_that_is_a_year_ahead_for_a_minute_takes_nothing_and_ages_go_on_when_it_is_right_again() {
    let disk = SimDisk::new(1);
    let mut agent = week(&disk);
    agent.read(NOW + YEAR);
    assert_eq!(agent.look(BOOT, stamp(NOW + YEAR, 10 * DAY)), (0, 7 * 24), "all look too old, and are kept");
    agent.read(NOW + YEAR + 60);
    assert_eq!(agent.look(BOOT, stamp(NOW + YEAR + 60, 10 * DAY + 60)), (0, 7 * 24));
    // Put right, and two hours later.
    let later = 2 * 3600 + 60;
    agent.read(NOW + later);
    assert_eq!(agent.look(BOOT, stamp(NOW + later, 10 * DAY + later)), (2, 0));
}

#[test]
fn a_start_while_the_clock_is_ahead_takes_nothing() {
    let disk = SimDisk::new(2);
    let mut agent = week(&disk);
    agent.look(BOOT, stamp(NOW + YEAR, 10 * DAY));
    agent.read(NOW + YEAR);
    drop(agent);
    let mut agent = Agent::start(&disk);
    assert_eq!(agent.look(BOOT, stamp(NOW + YEAR + 60, 10 * DAY + 60)), (0, 7 * 24));
    agent.read(NOW + YEAR + 60);
    drop(agent);
    // A boot with an empty battery's date of next year.
    let mut agent = Agent::start(&disk);
    assert_eq!(agent.look(NEXT, stamp(NOW + YEAR + 90, 5)), (0, 7 * 24));
    let later = 2 * 3600 + 60;
    agent.read(NOW + later);
    assert_eq!(agent.look(NEXT, stamp(NOW + later, 5 + later)), (2, 0), "it is put right");
}

#[test]
fn a_host_that_was_off_for_long_keeps_what_it_has_until_somebody_confirms_its_clock() {
    let on = NOW + 5 * DAY;
    let expired = 5 * 24 - 1;
    for told in [false, true] {
        let disk = SimDisk::new(3);
        drop(week(&disk));
        let mut agent = Agent::start(&disk);
        agent.read(on);
        assert_eq!(agent.look(NEXT, stamp(on, 5)), (0, expired), "five days later may be right or wrong");
        if told {
            agent.spool.told_time(NEXT, stamp(on, 6), (on + 1) * SECOND, Duration::from_secs(1));
        } else {
            agent.spool.witness(stamp(on + 1, 6));
        }
        assert_eq!(agent.look(NEXT, stamp(on + 2, 7)), (expired, 0));
    }
}

#[test]
fn a_restart_within_a_day_needs_nobody() {
    let disk = SimDisk::new(4);
    drop(week(&disk));
    let on = NOW + 20 * 3600;
    let mut agent = Agent::start(&disk);
    agent.read(on);
    assert_eq!(agent.look(NEXT, stamp(on, 5)), (19, 0));
}

#[test]
fn the_collectors_word_counts_more_than_a_clock_that_is_wrong_from_the_start() {
    let disk = SimDisk::new(5);
    let mut agent = Agent::start(&disk);
    // Nothing contradicts it: the spool is empty.
    agent.look(BOOT, stamp(NOW + YEAR, 5));
    agent.spool.told_time(BOOT, stamp(NOW + YEAR, 5), NOW * SECOND, Duration::from_secs(1));
    agent.read(NOW - 6 * DAY);
    agent.read(NOW + YEAR);
    assert_eq!(agent.look(BOOT, stamp(NOW + YEAR + 60, 65)), (0, 1));
    // A time service that says otherwise doesn't outvote it: the earlier counts.
    agent.spool.witness(stamp(NOW + YEAR + 70, 75));
    assert_eq!(agent.look(BOOT, stamp(NOW + YEAR + 80, 85)), (0, 1));
    // What it said goes on by the time since boot.
    assert_eq!(agent.look(BOOT, stamp(NOW + YEAR + DAY + 60, DAY + 65)), (1, 0));
}
