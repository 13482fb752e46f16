//! Pauses between attempts: exponential with full jitter, so that a fleet does not return in step.
//! Source: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015 ("full jitter").

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(500);
/// No collector makes an agent wait longer, what is added at random included.
const LONGEST: Duration = Duration::from_secs(300);

/// The state of a series of failures.
#[derive(Debug)]
pub struct Backoff {
    cap: Duration,
    failures: u32,
}

impl Backoff {
    /// Pauses never exceed `cap`.
    pub fn new(cap: Duration) -> Self {
        Self { cap, failures: 0 }
    }

    /// The next pause; `draw` is uniform in 0..=u32::MAX.
    pub fn next(&mut self, draw: u32) -> Duration {
        let ceiling = FIRST.saturating_mul(1 << self.failures.min(16)).min(self.cap);
        self.failures = self.failures.saturating_add(1);
        ceiling.mul_f64(f64::from(draw) / f64::from(u32::MAX))
    }

    /// A session was useful: start over.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

/// The pause of one whom the collector asked to come back in `asked`: that and up to a quarter more, so that all
/// those who were asked the same don't return in step.
pub fn asked(asked: Duration, draw: u32) -> Duration {
    let asked = asked.min(LONGEST / 5 * 4);
    asked + (asked / 4).mul_f64(f64::from(draw) / f64::from(u32::MAX))
}

/// A uniform draw from the system's randomness; the middle when there is none.
pub fn draw() -> u32 {
    getrandom::u32().unwrap_or(u32::MAX / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_asked_to_wait_never_comes_early_and_not_all_at_once() {
        let second = Duration::from_secs(1);
        assert_eq!(asked(second, 0), second);
        assert_eq!(asked(second, u32::MAX), second * 5 / 4);
        assert_eq!(asked(Duration::MAX, u32::MAX), LONGEST);
    }
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_pause_is_never_above_the_cap_however_long_the_outage(draws in prop::collection::vec(any::<u32>(), 1..200)) {
            let cap = Duration::from_secs(30);
            let mut backoff = Backoff::new(cap);
            for draw in draws {
                prop_assert!(backoff.next(draw) <= cap);
            }
        }
    }

    #[test]
    fn jitter_survives_the_cap() {
        let mut backoff = Backoff::new(Duration::from_secs(30));
        for _ in 0..100 {
            backoff.next(u32::MAX);
        }
        assert_eq!(backoff.next(u32::MAX), Duration::from_secs(30));
        assert_eq!(backoff.next(0), Duration::ZERO);
    }

    #[test]
    fn a_useful_session_starts_the_series_over() {
        let mut backoff = Backoff::new(Duration::from_secs(30));
        backoff.next(0);
        backoff.next(0);
        backoff.reset();
        assert_eq!(backoff.next(u32::MAX), FIRST);
    }
}
