//! The last losses, for `status`: what was lost, of which times, how much, and why.
//!
//! The collector's ledger is the account; this is what the agent itself can say while nobody listens.
//! Kept in the cursor, so that it is there after a restart. Bounded: neighbours run into one.

use std::collections::VecDeque;

use telemetry::{Cause, Counts};

use crate::record::{BadRecord, Cursor, put_number};

/// Most that are kept.
const MAX: usize = 64;
/// Losses of one cause that lie no further apart than this are one.
const NEAR: i64 = 600_000_000_000;

/// Readings that are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    /// Why.
    pub cause: Cause,
    /// Earliest event time, nanoseconds since the epoch.
    pub from_ns: i64,
    /// Latest event time.
    pub to_ns: i64,
    /// How many rows.
    pub count: u64,
}

/// The last of them, oldest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Losses(VecDeque<Lost>);

impl Losses {
    /// Notes what counts say is lost.
    pub(crate) fn note(&mut self, counts: &Counts, t0: i64, t1: i64) {
        for (cause, count) in counts.iter().filter(|(cause, _)| cause.is_lost()) {
            self.push(Lost { cause, from_ns: t0.min(t1), to_ns: t1.max(t0), count });
        }
    }

    fn push(&mut self, lost: Lost) {
        let near = |kept: &&mut Lost| {
            kept.cause == lost.cause
                && lost.from_ns <= kept.to_ns.saturating_add(NEAR)
                && kept.from_ns <= lost.to_ns.saturating_add(NEAR)
        };
        if let Some(kept) = self.0.iter_mut().rev().find(near) {
            kept.from_ns = kept.from_ns.min(lost.from_ns);
            kept.to_ns = kept.to_ns.max(lost.to_ns);
            kept.count = kept.count.saturating_add(lost.count);
            return;
        }
        self.0.push_back(lost);
        if self.0.len() > MAX {
            self.0.pop_front();
        }
    }

    pub(crate) fn list(&self) -> Vec<Lost> {
        self.0.iter().copied().collect()
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_number(out, self.0.len() as u64);
        for lost in &self.0 {
            out.push(lost.cause as u8);
            out.extend_from_slice(&lost.from_ns.to_le_bytes());
            out.extend_from_slice(&lost.to_ns.to_le_bytes());
            put_number(out, lost.count);
        }
    }

    pub(crate) fn decode(bytes: &mut Cursor<'_>) -> Result<Self, BadRecord> {
        let n = bytes.count(18)?;
        let one = |_| {
            let [code] = bytes.array()?;
            Ok(Lost {
                cause: Cause::from_code(code).ok_or(BadRecord::Unknown("cause"))?,
                from_ns: i64::from_le_bytes(bytes.array()?),
                to_ns: i64::from_le_bytes(bytes.array()?),
                count: bytes.number()?,
            })
        };
        Ok(Self((0..n).map(one).collect::<Result<_, _>>()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(cause: Cause, n: u64) -> Counts {
        let mut counts = Counts::new();
        counts.add(cause, n);
        counts.add(Cause::Shipped, n);
        counts
    }

    #[test]
    fn neighbours_of_one_cause_are_one_and_others_stand_apart() {
        let mut losses = Losses::default();
        losses.note(&counts(Cause::Overflowed, 3), 0, 10);
        losses.note(&counts(Cause::Refused, 1), 5, 6);
        losses.note(&counts(Cause::Overflowed, 4), 20, 30);
        losses.note(&counts(Cause::Overflowed, 5), 3 * NEAR, 3 * NEAR);
        let of = |cause, from_ns, to_ns, count| Lost { cause, from_ns, to_ns, count };
        let expected = [
            of(Cause::Overflowed, 0, 30, 7),
            of(Cause::Refused, 5, 6, 1),
            of(Cause::Overflowed, 3 * NEAR, 3 * NEAR, 5),
        ];
        assert_eq!(losses.list(), expected);
    }

    #[test]
    fn what_was_not_lost_is_not_noted() {
        let mut losses = Losses::default();
        losses.note(&counts(Cause::ReducedWindow, 3), 0, 10);
        assert_eq!(losses.list(), []);
    }

    #[test]
    fn the_oldest_go_when_there_are_too_many_and_the_rest_survives_its_bytes() {
        let mut losses = Losses::default();
        for at in 0..MAX as i64 + 5 {
            losses.note(&counts(Cause::Expired, 1), at * 2 * NEAR, at * 2 * NEAR);
        }
        assert_eq!(losses.list().len(), MAX);
        assert_eq!(losses.list()[0].from_ns, 10 * NEAR);
        let mut bytes = Vec::new();
        losses.encode(&mut bytes);
        assert_eq!(Losses::decode(&mut Cursor(&bytes)).unwrap(), losses);
    }
}
