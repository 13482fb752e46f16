//! Trying again what can't run yet: a port that another program holds, a certificate that comes later. Nobody should have to
//! come and restart the agent for it.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::door::Door;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);

/// The pauses between attempts of one input, or of one of its ports.
#[derive(Debug)]
pub struct Retry {
    part: u8,
    pause: Duration,
    failed: Instant,
}

impl Default for Retry {
    fn default() -> Self {
        Self { part: 0, pause: FIRST, failed: Instant::now() }
    }
}

impl Retry {
    /// Of one of several ports.
    pub fn of(part: u8) -> Self {
        Self { part, ..Self::default() }
    }

    /// Shows why it isn't running, in the log when that is news, and waits for the next attempt. False at shutdown.
    pub async fn after(&mut self, door: &Door, why: &str, shutdown: &CancellationToken) -> bool {
        if door.stats.stumbled(self.part, why) {
            tracing::error!(input = %door.name, error = %why, "an input is not running and is tried again; the others go on");
        }
        // It ran for a while in between: this is another trouble.
        if self.failed.elapsed() > 2 * LONGEST {
            self.pause = FIRST;
        }
        let pause = self.pause;
        self.pause = (pause * 2).min(LONGEST);
        let waited = tokio::select! {
            () = tokio::time::sleep(pause) => true,
            () = shutdown.cancelled() => false,
        };
        self.failed = Instant::now();
        waited
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Bench;

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_to_half_a_minute_and_begin_anew_after_a_good_run() {
        let (bench, shutdown) = (Bench::new(), CancellationToken::new());
        let mut retry = Retry::default();
        let mut pauses = Vec::new();
        for _ in 0..7 {
            let before = Instant::now();
            assert!(retry.after(&bench.door, "the port is taken", &shutdown).await);
            pauses.push(before.elapsed().as_secs());
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
        let error = bench.door.stats.snapshot(bench.door.now()).error;
        assert_eq!(error.as_deref(), Some("the port is taken"));
        tokio::time::advance(Duration::from_secs(61)).await;
        let before = Instant::now();
        assert!(retry.after(&bench.door, "it ended", &shutdown).await);
        assert_eq!(before.elapsed().as_secs(), 1);
        shutdown.cancel();
        assert!(!retry.after(&bench.door, "it ended", &shutdown).await);
    }
}
