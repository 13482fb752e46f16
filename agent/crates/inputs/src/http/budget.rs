//! The memory of request bodies: bounded for all together, and shared so that no body starves another.
//!
//! Each connection owns a small share, which nobody else can use: a small body is never refused for
//! want of memory. What a body needs beyond it comes from the common pool, where the more a body
//! holds the more it must leave free. Large bodies thus fail before they use the pool up, and those
//! of middle size still find room, however many large ones come at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use super::answer::Failure;

/// The connections' shares are this part of the whole.
const SHARES: usize = 8;
/// A body may hold this many times what it leaves free in the pool: alone, four fifths of it.
const STEEPNESS: usize = 4;

/// The least `max_buffered` with which the largest body, sent and decoded, gets in when it is alone.
pub(super) fn least(max_body: usize, max_decoded: usize) -> usize {
    // 7/8 of it are the pool, and 4/5 of that one body's: 0.7, of which this takes 2/3.
    let largest = max_body.saturating_add(max_decoded);
    largest.saturating_add(largest / 2)
}

/// Bytes that all bodies may hold at a time.
#[derive(Debug)]
pub(super) struct Budget {
    /// Bytes that every connection has for itself.
    share: usize,
    /// Bytes for what goes beyond.
    pool: usize,
    /// Bytes of the pool that are taken.
    used: AtomicUsize,
}

impl Budget {
    /// `limit` bytes for `connections`, each of which has at most one body at a time.
    pub(super) fn new(limit: usize, connections: usize) -> Arc<Self> {
        let share = limit / SHARES / connections.max(1);
        Arc::new(Self { share, pool: limit - limit / SHARES, used: AtomicUsize::new(0) })
    }
}

/// A body's part of the budget; given back when dropped.
#[derive(Debug)]
pub(super) struct Reservation {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Reservation {
    /// Of nothing yet.
    pub(super) fn new(budget: &Arc<Budget>) -> Self {
        Self { budget: Arc::clone(budget), bytes: 0 }
    }

    fn pooled(&self, bytes: usize) -> usize {
        bytes.saturating_sub(self.budget.share)
    }

    /// Takes `by` bytes more; call it before the memory is taken.
    ///
    /// # Errors
    /// 503: the pool hasn't got as much for a body of this size. Nothing more is held then.
    pub(super) fn grow(&mut self, by: usize) -> Result<(), Failure> {
        let bytes = self.bytes.saturating_add(by);
        let (before, after) = (self.pooled(self.bytes), self.pooled(bytes));
        if after > before {
            let pool = self.budget.pool;
            let taken = self.budget.used.fetch_update(Relaxed, Relaxed, |used| {
                let used = used.saturating_add(after - before);
                let free = pool.checked_sub(used)?;
                (after <= free.saturating_mul(STEEPNESS)).then_some(used)
            });
            taken.map_err(|_| {
                Failure::unavailable(
                    "the request bodies in progress hold all the memory they may (input.http.max_buffered)",
                    Duration::from_secs(1),
                )
            })?;
        }
        self.bytes = bytes;
        Ok(())
    }

    /// Gives back what is held beyond `bytes`.
    pub(super) fn shrink(&mut self, bytes: usize) {
        let bytes = bytes.min(self.bytes);
        self.budget.used.fetch_sub(self.pooled(self.bytes) - self.pooled(bytes), Relaxed);
        self.bytes = bytes;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.shrink(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::StatusCode;

    const MIB: usize = 1 << 20;

    /// Grows in steps until the budget says no, or to `most`.
    fn greedy(budget: &Arc<Budget>, most: usize) -> Reservation {
        let mut held = Reservation::new(budget);
        while held.bytes < most && held.grow(64 << 10).is_ok() {}
        held
    }

    #[test]
    fn any_number_of_large_bodies_leaves_every_other_connection_its_share() {
        let budget = Budget::new(128 * MIB, 512);
        assert_eq!(budget.share, 32 << 10);
        let large: Vec<_> = (0..256).map(|_| greedy(&budget, usize::MAX)).collect();
        let small: Vec<_> = (0..256)
            .map(|_| {
                let mut held = Reservation::new(&budget);
                held.grow(32 << 10).unwrap();
                held
            })
            .collect();
        let all: usize = large.iter().chain(&small).map(|held| held.bytes).sum();
        assert!(all <= 128 * MIB, "{all}");
    }

    #[test]
    fn large_bodies_at_once_leave_room_for_those_of_middle_size() {
        let budget = Budget::new(128 * MIB, 512);
        let mut large: Vec<_> = (0..8).map(|_| Reservation::new(&budget)).collect();
        // As they come in: turn by turn, until none gets any further.
        while large.iter_mut().filter_map(|held| held.grow(64 << 10).ok()).count() > 0 {}
        let _middle: Vec<_> = (0..4)
            .map(|_| {
                let mut held = Reservation::new(&budget);
                held.grow(256 << 10).unwrap();
                held
            })
            .collect();
    }

    #[test]
    fn the_largest_body_gets_in_when_it_is_alone() {
        for (body, decoded) in [(16 * MIB, 64 * MIB), (1024, 1024), (MIB, 1024), (1024, 999 * MIB)] {
            for connections in [1, 512, 1_000_000] {
                let budget = Budget::new(least(body, decoded), connections);
                // One byte over the limit is decoded to know that it is over.
                Reservation::new(&budget).grow(body + decoded + 1).unwrap();
            }
        }
    }

    #[test]
    fn refused_growth_is_overload_and_takes_nothing() {
        let budget = Budget::new(800, 1);
        let mut one = Reservation::new(&budget);
        one.grow(300).unwrap();
        let mut two = Reservation::new(&budget);
        let refusal = two.grow(700).unwrap_err();
        assert_eq!(refusal.status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(refusal.retry_after.is_some());
        assert_eq!((two.bytes, budget.used.load(Relaxed)), (0, 200));
    }

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let budget = Budget::new(800, 1);
        for _ in 0..3 {
            let mut one = Reservation::new(&budget);
            one.grow(600).unwrap();
            one.shrink(50);
            assert_eq!(budget.used.load(Relaxed), 0);
            one.shrink(5_000);
            assert_eq!(one.bytes, 50);
            one.grow(550).unwrap();
        }
        assert_eq!(budget.used.load(Relaxed), 0);
    }
}
