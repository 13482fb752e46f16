//! Accepting connections while that fails: out of descriptors, most likely. Waiting frees some, so it is tried again;
//! the log hears when it begins and when it is over, however often it fails in between.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;

use crate::door::Door;

/// Between two attempts while it fails.
const PAUSE: Duration = Duration::from_millis(100);
/// It is over when it has not failed for so long: one descriptor that comes free is no end.
const CALM: Duration = Duration::from_secs(10);

/// What one port has seen.
#[derive(Debug, Default)]
pub(crate) struct Accepting {
    last: Option<Instant>,
    failed: u64,
}

impl Accepting {
    /// The next connection; `poll` asks the listener for it. Dropped before it is ready it has lost nothing.
    pub(crate) async fn next<T>(
        &mut self,
        door: &Door,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> T {
        loop {
            let accepted = match self.last {
                None => poll_fn(&mut poll).await,
                Some(last) => {
                    tokio::time::sleep_until(last + PAUSE).await;
                    match tokio::time::timeout_at(last + CALM, poll_fn(&mut poll)).await {
                        Ok(accepted) => accepted,
                        Err(_) => {
                            self.over(door);
                            continue;
                        }
                    }
                }
            };
            match accepted {
                Ok(connection) => {
                    if self.last.is_some_and(|last| last.elapsed() >= CALM) {
                        self.over(door);
                    }
                    return connection;
                }
                Err(error) => self.failed(door, &error),
            }
        }
    }

    fn failed(&mut self, door: &Door, error: &io::Error) {
        door.stats.accept_failed();
        self.failed += 1;
        if self.last.replace(Instant::now()).is_none() {
            tracing::warn!(input = %door.name, %error, "connections can't be accepted; they wait, and it is tried again");
        }
    }

    fn over(&mut self, door: &Door) {
        tracing::info!(input = %door.name, failures = self.failed, "connections are accepted again");
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;
    use tracing::field::{Field, Visit};
    use tracing::span;

    use super::*;
    use crate::testing::Bench;

    /// The messages of the log, with the number of failures where they tell it.
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<String>>>);

    struct Line(String);

    impl Visit for Line {
        fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
            match field.name() {
                "message" => self.0.insert_str(0, &format!("{value:?}")),
                "failures" => self.0.push_str(&format!(" ({value:?})")),
                _ => {}
            }
        }
    }

    impl tracing::Subscriber for Log {
        fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
            metadata.target().ends_with("accept")
        }
        fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
            span::Id::from_u64(1)
        }
        fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
        fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
        fn event(&self, event: &tracing::Event<'_>) {
            let mut line = Line(String::new());
            event.record(&mut line);
            self.0.lock().push(line.0);
        }
        fn enter(&self, _: &span::Id) {}
        fn exit(&self, _: &span::Id) {}
    }

    /// EMFILE.
    fn full<T>() -> Poll<io::Result<T>> {
        Poll::Ready(Err(io::Error::from_raw_os_error(24)))
    }

    const BEGUN: &str = "connections can't be accepted; they wait, and it is tried again";

    #[tokio::test(start_paused = true)]
    async fn the_log_hears_of_the_first_failure_and_of_the_end_and_each_is_counted() {
        let log = Log::default();
        let _quiet = tracing::subscriber::set_default(log.clone());
        let bench = Bench::new();
        let mut accepting = Accepting::default();
        // A descriptor comes free now and then, for one connection.
        for connection in 0..20 {
            let mut failures = 50;
            let came = accepting.next(&bench.door, |_| {
                failures -= 1;
                if failures >= 0 { full() } else { Poll::Ready(Ok(connection)) }
            });
            assert_eq!(came.await, connection);
        }
        assert_eq!(*log.0.lock(), [BEGUN]);
        assert_eq!(bench.door.stats.snapshot(bench.door.now()).accept_failures, 1_000);
        // Nobody comes for a while.
        let nobody = accepting.next::<()>(&bench.door, |_| Poll::Pending);
        assert!(tokio::time::timeout(CALM * 2, nobody).await.is_err());
        let over = "connections are accepted again (1000)";
        assert_eq!(*log.0.lock(), [BEGUN, over]);
        let mut failed = false;
        let once = accepting.next(&bench.door, |_| {
            if std::mem::replace(&mut failed, true) { Poll::Ready(Ok(())) } else { full() }
        });
        once.await;
        assert_eq!(*log.0.lock(), [BEGUN, over, BEGUN]);
        // Who comes after the calm is told of too.
        tokio::time::advance(CALM).await;
        accepting.next(&bench.door, |_| Poll::Ready(Ok(()))).await;
        assert_eq!(log.0.lock()[3], "connections are accepted again (1)");
    }
}
