//! How fast the backlog goes away, and when it will be gone.

use std::time::Duration;

/// What is older than this has lost two thirds of its weight.
const MEMORY: f64 = 10.0;
/// Moments that are nearer to each other are one.
const APART: Duration = Duration::from_millis(500);

/// Averages over the last seconds, weighted exponentially.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Drain {
    last: Option<(Duration, u64, u64)>,
    /// Bytes acknowledged a second.
    acked: f64,
    /// Bytes that the backlog gets smaller by, a second; negative while it grows.
    net: f64,
    /// Both averages weigh less at first.
    weight: f64,
    net_weight: f64,
}

impl Drain {
    /// So many bytes wait now, and so many were acknowledged since the start. While the backlog may not travel (`open`), how
    /// fast it gets less says nothing of how fast it will.
    pub(crate) fn observe(&mut self, now: Duration, waiting: u64, acked: u64, open: bool) {
        let Some((then, waited, had)) = self.last else {
            self.last = Some((now, waiting, acked));
            return;
        };
        let gone = now.saturating_sub(then);
        if gone < APART {
            return;
        }
        let seconds = gone.as_secs_f64();
        let fresh = 1.0 - (-seconds / MEMORY).exp();
        self.acked += fresh * (acked.saturating_sub(had) as f64 / seconds - self.acked);
        self.weight += fresh * (1.0 - self.weight);
        if open {
            self.net += fresh * ((waited as f64 - waiting as f64) / seconds - self.net);
            self.net_weight += fresh * (1.0 - self.net_weight);
        }
        self.last = Some((now, waiting, acked));
    }

    /// Bytes acknowledged a second.
    pub(crate) fn rate(&self) -> f64 {
        if self.weight > 0.0 { self.acked / self.weight } else { 0.0 }
    }

    /// Seconds until that many bytes are gone, of those in which they may travel; `None` where they don't become fewer.
    pub(crate) fn caught_up(&self, waiting: u64) -> Option<f64> {
        let net = if self.net_weight > 0.0 { self.net / self.net_weight } else { 0.0 };
        (net > 1.0).then(|| waiting as f64 / net)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_drain_tells_when_it_ends() {
        let mut drain = Drain::default();
        for second in 0..30 {
            drain.observe(Duration::from_secs(second), 1_000_000 - second * 1000, second * 1500, true);
        }
        assert!((1490.0..1510.0).contains(&drain.rate()), "{}", drain.rate());
        let left = drain.caught_up(50_000).unwrap();
        assert!((49.0..51.0).contains(&left), "{left}");
    }

    #[test]
    fn what_may_not_travel_keeps_the_forecast_of_before() {
        let mut drain = Drain::default();
        for second in 0..30 {
            drain.observe(Duration::from_secs(second), 1_000_000 - second * 1000, second * 1500, true);
        }
        let before = drain.caught_up(50_000);
        for second in 30..300 {
            drain.observe(Duration::from_secs(second), 971_000, 43_500, false);
        }
        assert_eq!(drain.caught_up(50_000), before);
        assert!(drain.rate() < 1.0, "nothing is acknowledged now: {}", drain.rate());
        let mut closed = Drain::default();
        for second in 0..30 {
            closed.observe(Duration::from_secs(second), 1_000_000 - second, second, false);
        }
        assert_eq!(closed.caught_up(50_000), None, "it was never seen to travel");
    }

    #[test]
    fn a_backlog_that_grows_has_no_end() {
        let mut drain = Drain::default();
        for second in 0..30 {
            drain.observe(Duration::from_secs(second), second * 1000, second * 10, true);
        }
        assert_eq!(drain.caught_up(30_000), None);
        assert_eq!(Drain::default().caught_up(1), None);
    }
}
