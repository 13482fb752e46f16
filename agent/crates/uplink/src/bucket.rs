//! A token bucket: so many bytes a second, a second's worth at once.
//!
//! A frame leaves whole, so the bucket may go below nothing and is paid back before the next: the rate
//! holds on average whatever the size of a batch, and one that is larger than a second's worth still leaves.

use std::time::Duration;

/// Bytes per second that may pass; a rate of 0 lets everything pass.
#[derive(Debug)]
pub(crate) struct Bucket {
    rate: f64,
    tokens: f64,
    at: Duration,
}

impl Bucket {
    /// A full one.
    pub(crate) fn new(rate: u64) -> Self {
        Self { rate: rate as f64, tokens: rate as f64, at: Duration::ZERO }
    }

    /// May something pass that leaves the bucket above `-debt` before it goes? Otherwise when.
    pub(crate) fn open(&mut self, now: Duration, debt: f64) -> Result<(), Duration> {
        if self.rate == 0.0 {
            return Ok(());
        }
        self.refill(now);
        let lacking = -debt - self.tokens;
        if lacking < 0.0 {
            return Ok(());
        }
        // A little more than what lacks, so that the wake finds it open.
        Err(now + Duration::from_secs_f64((lacking + 1.0) / self.rate))
    }

    /// That much passed.
    pub(crate) fn spend(&mut self, now: Duration, bytes: u64) {
        if self.rate > 0.0 {
            self.refill(now);
            self.tokens -= bytes as f64;
        }
    }

    /// A second's worth.
    pub(crate) fn burst(&self) -> f64 {
        self.rate
    }

    fn refill(&mut self, now: Duration) {
        let gone = now.saturating_sub(self.at);
        self.at = self.at.max(now);
        self.tokens = (self.tokens + gone.as_secs_f64() * self.rate).min(self.rate);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn no_rate_is_no_limit() {
        let mut bucket = Bucket::new(0);
        bucket.spend(Duration::ZERO, u64::MAX);
        assert_eq!(bucket.open(Duration::ZERO, 0.0), Ok(()));
    }

    #[test]
    fn what_is_larger_than_a_second_leaves_and_is_paid_back() {
        let mut bucket = Bucket::new(1000);
        assert_eq!(bucket.open(Duration::ZERO, 0.0), Ok(()));
        bucket.spend(Duration::ZERO, 4000);
        let wait = bucket.open(Duration::ZERO, 0.0).unwrap_err();
        assert!(bucket.open(wait - Duration::from_millis(5), 0.0).is_err());
        assert!(bucket.open(wait, 0.0).is_ok());
        assert!((3.0..3.1).contains(&wait.as_secs_f64()));
    }

    proptest! {
        #[test]
        fn never_more_passes_than_the_rate_a_burst_and_a_frame(
            rate in 1u64..1_000_000,
            frames in prop::collection::vec(1u64..300_000, 1..60),
        ) {
            let (mut bucket, mut now, mut passed) = (Bucket::new(rate), Duration::ZERO, 0);
            let largest = frames.iter().max().copied().unwrap_or(0);
            for frame in frames {
                while let Err(at) = bucket.open(now, 0.0) {
                    prop_assert!(at > now);
                    now = at;
                }
                bucket.spend(now, frame);
                passed += frame;
                let most = rate as f64 * (now.as_secs_f64() + 1.0) + largest as f64;
                prop_assert!(passed as f64 <= most + 1.0);
            }
        }
    }
}
