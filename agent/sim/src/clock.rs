//! Virtual time: what happens next, and when. Nothing here passes by itself.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Nanoseconds since the run began.
pub type Time = u64;

/// A microsecond.
pub const US: Time = 1_000;
/// A millisecond.
pub const MS: Time = 1_000_000;
/// A second.
pub const SECOND: Time = 1_000_000_000;

/// What the wall clock says when a run begins: 2026-03-01.
pub const WALL: i64 = 1_772_323_200_000_000_000;

/// Events in the order of their times; of equal times the one that was planned first comes first.
pub struct Agenda<E> {
    now: Time,
    planned: u64,
    queue: BinaryHeap<Reverse<Entry<E>>>,
}

struct Entry<E> {
    at: Time,
    number: u64,
    event: E,
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.number) == (other.at, other.number)
    }
}

impl<E> Eq for Entry<E> {}

impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Entry<E> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

impl<E> Default for Agenda<E> {
    fn default() -> Self {
        Self { now: 0, planned: 0, queue: BinaryHeap::new() }
    }
}

impl<E> Agenda<E> {
    /// The time of the event that was taken last.
    pub fn now(&self) -> Time {
        self.now
    }

    /// Plans an event.
    pub fn after(&mut self, delay: Time, event: E) {
        self.at(self.now.saturating_add(delay), event);
    }

    /// Plans an event; one in the past comes now.
    pub fn at(&mut self, at: Time, event: E) {
        self.planned += 1;
        self.queue.push(Reverse(Entry { at: at.max(self.now), number: self.planned, event }));
    }

    /// Takes the next event and moves the clock to it.
    pub fn take(&mut self) -> Option<E> {
        let Reverse(entry) = self.queue.pop()?;
        self.now = entry.at;
        Some(entry.event)
    }
}
