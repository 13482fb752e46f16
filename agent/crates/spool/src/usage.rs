//! A spool as those see it who only look: how full it is, what it did, what would be gone with it.

use std::time::Duration;

use telemetry::{Cause, Counts, Epoch, Position};

use crate::{Damage, Lost, Spool, SpoolError};

/// What would be gone with the spool: what isn't acknowledged, as numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unacked {
    /// The first seq, of the epoch that batches are cut in.
    pub first: u64,
    /// The last.
    pub last: u64,
    /// Rows in all of them, and in those of other epochs.
    pub rows: u64,
    /// Earliest event time, nanoseconds since the epoch; `None` where that isn't known.
    pub from_ns: Option<i64>,
    /// Latest event time.
    pub to_ns: Option<i64>,
    /// Of which epoch the seqs are, and the rows of all batches cut until then; `None` from versions that didn't say.
    pub cut: Option<(Epoch, u64)>,
}

/// How full it is and what it did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Usage {
    /// Payload bytes that wait for an ack.
    pub bytes: u64,
    /// Bytes of its files.
    pub disk_bytes: u64,
    /// The cap on those.
    pub max_bytes: u64,
    /// Batches that wait for an ack.
    pub batches: u64,
    /// Loss frames that wait for an ack.
    pub losses: u64,
    /// Batches sent and neither acked nor refused.
    pub in_flight: u64,
    /// Earliest event time that waits, of those that are known.
    pub oldest_ns: Option<i64>,
    /// What waits until it is known when its boot was.
    pub clock_held: ClockHeld,
    /// Rows that are in no batch yet.
    pub pending_rows: u64,
    /// True when rows or counts are in no batch yet.
    pub pending: bool,
    /// The epoch batches are cut in now.
    pub epoch: Option<Epoch>,
    /// The next seq there.
    pub next_seq: u64,
    /// Last position that is in a durable batch.
    pub position: Position,
    /// What was counted in all batches ever cut.
    pub counts: Counts,
    /// Batches acknowledged since the start.
    pub acked: u64,
    /// Batches in quarantine since the start.
    pub quarantined: u64,
    /// Why it can't write now.
    pub trouble: Option<String>,
    /// Of that: a file of it is there and can't be read just now. What it holds is neither lost nor damaged, and not counted here.
    pub withheld: Option<Withheld>,
    /// The disk has less free than others are to have, and what follows from that.
    pub floor: Option<String>,
    /// Room that is kept for when the disk has none; `None` where none is.
    pub reserve: Option<Room>,
    /// Batches that wait, by priority: low, normal, high.
    pub by_priority: [Share; 3],
    /// The last losses, oldest first.
    pub lost: Vec<Lost>,
    /// What damage is known of, oldest first.
    pub damage: Vec<Damage>,
    /// What became of the cursor, where the last start found none that it could use: a sentence.
    pub cursor_lost: Option<String>,
}

/// A file of the spool that is there and can't be read just now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Withheld {
    /// Which one, why, and what to do.
    pub why: String,
    /// How often it was tried in vain.
    pub tries: u32,
    /// When it is tried next, from now.
    pub again_in: Duration,
}

/// Room that is kept for when the disk has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// Bytes that are there.
    pub left: u64,
    /// Bytes that should be.
    pub whole: u64,
}

/// How far a spool has come, whether it is open or only looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// Of the last record of the journal that is in a batch.
    pub position: Position,
    /// What was counted up to there, since there is a spool.
    pub counts: Counts,
    /// Its numbering; `None` before the first batch.
    pub epoch: Option<Epoch>,
    /// The number of the next batch in it.
    pub next_seq: u64,
}

/// Batches of one priority that wait for an ack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// How many.
    pub batches: u64,
    /// Their payload bytes.
    pub bytes: u64,
}

/// Batches taken before the clock was set, which wait until it is known when that was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClockHeld {
    /// How many.
    pub batches: u64,
    /// Their payload bytes.
    pub bytes: u64,
    /// Of how many boots.
    pub boots: u64,
}

impl Spool {
    /// What isn't acknowledged; `None` when all is.
    pub fn unacked(&self) -> Option<Unacked> {
        let state = self.0.state.lock();
        let (_, epoch) = state.current()?;
        let shipped = state.before.get(Cause::Shipped);
        let rows = shipped.saturating_sub(state.settled.get(Cause::Shipped));
        let last = epoch.next_seq - 1;
        let times = state.oldest().and_then(|entry| state.times(entry));
        (state.batches() > 0 && rows > 0).then(|| Unacked {
            first: (epoch.done.upto() + 1).min(last),
            last,
            rows,
            from_ns: times.map(|times| times.0),
            to_ns: times.map(|times| times.1.max(state.newest_t1)),
            cut: Some((epoch.id, shipped)),
        })
    }

    /// How far it has come.
    pub fn extent(&self) -> Extent {
        self.0.state.lock().extent()
    }

    /// How full it is and what it did.
    pub fn usage(&self) -> Usage {
        let state = self.0.state.lock();
        let Extent { position, counts, epoch, next_seq } = state.extent();
        let (lost, damage) = state.all_lost();
        let blocked = || SpoolError::Blocked.to_string();
        Usage {
            by_priority: state.shares,
            lost,
            damage,
            cursor_lost: state.cursor_lost.as_ref().map(|what| {
                format!(
                    "the spool's cursor {what} at the start: what was acknowledged lately was asked for again"
                )
            }),
            bytes: state.bytes,
            disk_bytes: state.disk_bytes,
            max_bytes: self.0.config.max_bytes,
            batches: state.batches(),
            losses: state.loss_count,
            in_flight: state.flight.len() as u64,
            oldest_ns: state.oldest().and_then(|entry| state.times(entry)).map(|times| times.0),
            clock_held: state.held.sums(),
            pending_rows: state.pending_rows,
            pending: state.pending,
            epoch,
            next_seq,
            position,
            counts,
            acked: state.acked,
            quarantined: state.quarantined,
            trouble: state.trouble.clone().or_else(|| state.blocked.then(blocked)),
            withheld: state.withheld.as_ref().map(|waiting| Withheld {
                why: waiting.why.clone(),
                tries: waiting.tries,
                again_in: waiting.at.saturating_sub(state.now),
            }),
            floor: state.floor.map(|floor| floor.to_string()),
            reserve: state.reserve,
        }
    }
}
