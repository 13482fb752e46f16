//! What is found to be gone while records are read, and how it is told: as counts of the ledger, as an event for whoever
//! watches the agents, and as a note that stays with the spool.
//!
//! All of it goes with the next record, so that it is in a batch exactly once: it is worked out from the journal, the
//! checkpoint and what the spool has, and so it is the same when those records are read again. No checkpoint passes by
//! it before (`Driver::checkpoint`).
//!
//! Readings of a record that no batch has are counted as received, shipped and damaged. Those of one that batches have are
//! stored, unless they were in windows that were open: the spool knows how many readings those held, and the
//! fold how many they hold now that it went on without the record. Windows that may have left already, since such a record
//! may have been what closed them, it gives up first ([`Fold::give_up`]): nothing is stored twice. The difference is lost; it was
//! counted as received and reduced when it was cut, so now it counts as derived, shipped and damaged.

use fold::Fold;
use journal::JournalGap;
use spool::{Damage, Part, Readings, Spool, Spooled};
use telemetry::{Attribute, Cause, Counts, Event, Position, Record, Rows, Severity, Stamp};

/// The source of events about damage.
const SOURCE: &str = "telemetryx-agent";

/// What waits for the next record.
#[derive(Debug, Default)]
pub(crate) struct Found {
    counts: Counts,
    damage: Vec<Damage>,
    /// When the last record that was read came.
    seen: Option<i64>,
    /// Damage in what batches have, until the first record that none has.
    below: Option<Below>,
    /// Some of that was there when batches were made of what is behind it.
    doubtful: bool,
}

#[derive(Clone, Copy, Debug)]
struct Below {
    first: Position,
    last: Position,
    from_ns: Option<i64>,
    /// When the first record behind it came.
    to_ns: Option<i64>,
}

impl Found {
    /// True while something waits: no checkpoint may pass by it.
    pub(crate) fn waits(&self) -> bool {
        !self.damage.is_empty()
    }

    /// A damaged place of the journal. `received` are the readings up to it, `known` is what was noted before.
    pub(crate) fn gap(
        &mut self,
        gap: JournalGap,
        spooled: &Spooled,
        received: Option<u64>,
        known: impl FnOnce() -> Vec<Damage>,
    ) {
        if gap.first <= spooled.position {
            // What was gone when its turn came first is missing in what batches have too.
            let gone_then = |known: &Damage| {
                known.part == Part::Journal && known.first <= gap.first && gap.last <= known.last
            };
            self.doubtful |= !known().iter().any(gone_then);
            let last = gap.last.min(spooled.position);
            let new = Below { first: gap.first, last, from_ns: self.seen, to_ns: None };
            self.below = Some(self.below.map_or(new, |known| Below { last, to_ns: None, ..known }));
        }
        if gap.last <= spooled.position {
            if gap.readings.is_none() && gap.bytes == 0 {
                // A whole segment that isn't there, the newest: nobody knows where it ended.
                self.damage.push(Damage {
                    part: Part::Journal,
                    first: gap.first,
                    last: gap.last,
                    from_ns: self.seen,
                    to_ns: None,
                    readings: Readings::Unknown,
                    again: 0,
                });
            }
            return;
        }
        // Of one that begins in what the spool has and ends behind it, the first part is in batches.
        let stored = match received {
            Some(received) if gap.first <= spooled.position => {
                Some(spooled.counted.get(Cause::Received).saturating_sub(received))
            }
            Some(_) => Some(0),
            None => (gap.first > spooled.position).then_some(0),
        };
        let readings = gap.readings.zip(stored).map(|(all, stored)| all.saturating_sub(stored));
        for cause in [Cause::Received, Cause::Shipped, Cause::Damaged] {
            self.counts.add(cause, readings.unwrap_or(0));
        }
        self.damage.push(Damage {
            part: Part::Journal,
            first: gap.first.max(spooled.position + 1),
            last: gap.last,
            from_ns: self.seen,
            to_ns: None,
            readings: readings.map_or(Readings::Unknown, Readings::Exactly),
            again: 0,
        });
    }

    /// The fold hasn't seen all that batches have, whatever gaps tell.
    pub(crate) fn is_short(&mut self) {
        self.doubtful = true;
    }

    /// All that batches have is folded again, from behind `from` on: do the open windows hold what they held? True when windows were given up.
    pub(crate) fn compare(&mut self, from: Position, spooled: &Spooled, fold: &mut Fold) -> bool {
        let below = self.below.take();
        let before = fold.held();
        let doubtful = std::mem::take(&mut self.doubtful);
        if doubtful {
            fold.give_up(spooled.open.as_ref());
        }
        let held = fold.held();
        let gave_up = held < before;
        let (readings, again) = match spooled.open {
            Some(open) => {
                (Readings::Exactly(open.readings.saturating_sub(held)), held.saturating_sub(open.readings))
            }
            None if before == 0 => (Readings::Exactly(0), 0),
            // By an older version, or in a configuration that knew no windows.
            None if !doubtful => return false,
            None => (Readings::Unknown, 0),
        };
        if below.is_none() && readings == Readings::Exactly(0) && again == 0 && !gave_up {
            return false;
        }
        let nothing = readings == Readings::Exactly(0) && again == 0 && !gave_up;
        if nothing && self.damage.iter().any(|damage| damage.part == Part::Journal) {
            // Of a gap that goes on behind what batches have: that one is told.
            return false;
        }
        if let Readings::Exactly(lost) = readings {
            for cause in [Cause::Derived, Cause::Shipped, Cause::Damaged] {
                self.counts.add(cause, lost);
            }
        }
        let all = Below { first: from + 1, last: spooled.position, from_ns: None, to_ns: None };
        let Below { first, last, from_ns, to_ns } = below.unwrap_or(all);
        self.damage.push(Damage { part: Part::Windows, first, last, from_ns, to_ns, readings, again });
        gave_up
    }

    /// The spool is gone, and this was in it.
    pub(crate) fn spool(&mut self, damage: Damage) {
        self.damage.push(damage);
    }

    /// A record was read: what waits goes with it, into its rows and the spool's notes.
    pub(crate) fn join(&mut self, record: &Record, rows: &mut Rows, spool: &Spool) {
        let at = stamp(record);
        let now = at.is_set().then_some(at.wall);
        if let Some(below) = &mut self.below {
            below.to_ns = below.to_ns.or(now);
        }
        self.seen = now.or(self.seen);
        rows.counts.merge(&self.counts.take());
        for mut damage in self.damage.drain(..) {
            if damage.part != Part::Spool {
                damage.to_ns = damage.to_ns.or(now);
            }
            // Each start finds it again until a checkpoint is behind it.
            if spool.note_damage(damage) {
                tracing::error!("{}", damage.sentence());
            }
            let nothing = damage.readings == Readings::Exactly(0) && damage.again == 0;
            if let (Some(time), false) = (now, nothing) {
                rows.events.push(event(&damage, time));
                rows.count(Cause::Derived, 1);
            }
        }
    }
}

fn stamp(record: &Record) -> Stamp {
    match record {
        Record::Intake(intake) => intake.stamp,
        Record::Tick(clock) => clock.at,
        Record::Config { stamp, .. } | Record::Model { stamp, .. } => *stamp,
    }
}

/// What whoever watches the agents is told: it tells also of what no count can.
fn event(damage: &Damage, time: i64) -> Event {
    let int = |n: u64| Attribute::Int(i64::try_from(n).unwrap_or(i64::MAX));
    let mut attributes = vec![
        ("part".to_owned(), Attribute::Text(damage.part.name().to_owned())),
        ("first".to_owned(), int(damage.first)),
        ("last".to_owned(), int(damage.last)),
    ];
    match damage.readings {
        Readings::Exactly(n) => attributes.push(("readings".to_owned(), int(n))),
        Readings::AtMost(n) => attributes.push(("readings_at_most".to_owned(), int(n))),
        Readings::Unknown => {}
    }
    if damage.again > 0 {
        attributes.push(("again".to_owned(), int(damage.again)));
    }
    for (name, time) in [("from_ns", damage.from_ns), ("to_ns", damage.to_ns)] {
        attributes.extend(time.map(|time| (name.to_owned(), Attribute::Int(time))));
    }
    Event { source: SOURCE.to_owned(), time, severity: Severity::Error, body: damage.sentence(), attributes }
}
