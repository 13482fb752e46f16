//! The door: the one way from an input into the journal, and back as an acknowledgement.
//!
//! A door belongs to one configured input and is cheap to clone. [`Door::submit`] gives an intake
//! to the journal and returns its position; [`Door::durable`] returns once that position is on
//! disk. Only then may an input tell a sender that its reading was taken (promise P1).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use journal::{AppendError, Fullness, Journal};
use parking_lot::Mutex;
use seglog::Storage;
use telemetry::trace::Context;
use telemetry::{Cause, Counts, Intake, Position, Record, SeriesTable, Stamp, Traced, Tracer};

use crate::clock::Clock;
use crate::rejects::Rejects;
use crate::stats::InputStats;
use crate::timeline::Timeline;

/// How often who waits for the disk looks whether it is full.
const LOOK: Duration = Duration::from_secs(1);

/// What an input tolerates.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How far ahead of this host's clock a reading's own time may be.
    pub future: Duration,
    /// How long an acknowledgement may wait for the disk before the sender is told to retry.
    pub durable_wait: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { future: Duration::from_secs(24 * 3600), durable_wait: Duration::from_secs(30) }
    }
}

/// Why an intake was not taken. Nothing of it was stored, unless said otherwise.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The journal is at its cap, or its disk has no space or is behind: push back, the sender keeps the reading.
    #[error("the agent takes no data now ({what}): try again in {} ms", retry_after.as_millis())]
    Busy {
        /// Which of these.
        what: Fullness,
        /// When to try again.
        retry_after: Duration,
    },
    /// One intake is larger than a journal record may be.
    #[error("too many readings at once for one journal record: send them in smaller pieces")]
    TooLarge,
    /// The disk did not confirm in time. It may still do so: a retry can store the reading twice.
    #[error("the disk did not confirm the write within {} s: try again", waited.as_secs())]
    Slow {
        /// How long was waited.
        waited: Duration,
    },
    /// The disk has no space for what was taken. It is written once there is some: a retry can store the reading
    /// twice.
    #[error("no space is left on the disk of the agent's journal: try again in {} s", retry_after.as_secs())]
    DiskFull {
        /// When to try again.
        retry_after: Duration,
    },
    /// The journal can't take anything until it is repaired or restarted.
    #[error("the agent's journal does not accept data: {0}")]
    Broken(String),
}

/// A directory of one input.
#[derive(Clone)]
pub struct StateDir {
    /// The disk it is on.
    pub storage: Arc<dyn Storage>,
    /// Its path.
    pub dir: PathBuf,
}

/// One input's way into the journal.
#[derive(Clone)]
pub struct Door {
    /// Where readings become durable.
    pub journal: Journal,
    /// The numbers of all series of this process.
    pub table: Arc<SeriesTable>,
    /// The last refused readings, shared by all inputs.
    pub rejects: Arc<Rejects>,
    /// This input's counters.
    pub stats: Arc<InputStats>,
    /// Which input this is: goes into each intake.
    pub input: u16,
    /// Its name as the config has it, such as `http` or `mqtt_client.site`.
    pub name: Arc<str>,
    /// Where now comes from.
    pub clock: Arc<dyn Clock>,
    /// Where ages come from.
    pub timeline: Arc<Timeline>,
    /// What is tolerated.
    pub limits: Limits,
    /// Where this input may keep state of its own, if it has any.
    pub state: Option<StateDir>,
    /// Where traces begin; without it nothing is sampled.
    pub tracer: Option<Arc<Tracer>>,
    pending: Arc<Mutex<Counts>>,
}

impl Door {
    /// A door for input number `input`.
    pub fn new(
        input: u16,
        name: &str,
        journal: Journal,
        table: Arc<SeriesTable>,
        rejects: Arc<Rejects>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let timeline = Arc::new(Timeline::beginning(clock.now()));
        Self {
            journal,
            table,
            rejects,
            stats: Arc::new(InputStats::new()),
            input,
            name: name.into(),
            clock,
            timeline,
            limits: Limits::default(),
            state: None,
            tracer: None,
            pending: Arc::default(),
        }
    }

    /// The same door with other limits.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The same door with a directory for the input's own state.
    #[must_use]
    pub fn with_state(mut self, storage: Arc<dyn Storage>, dir: PathBuf) -> Self {
        self.state = Some(StateDir { storage, dir });
        self
    }

    /// The same door with ages that go on over restarts.
    #[must_use]
    pub fn with_timeline(mut self, timeline: Arc<Timeline>) -> Self {
        self.timeline = timeline;
        self
    }

    /// With somebody who begins traces.
    #[must_use]
    pub fn with_tracer(mut self, tracer: Option<Arc<Tracer>>) -> Self {
        self.tracer = tracer;
        self
    }

    /// Now on the timeline of ages: nanoseconds that setting the wall clock does not move.
    pub fn steady(&self) -> i64 {
        self.timeline.at(self.now())
    }

    /// Both of this host's clocks.
    pub fn now(&self) -> Stamp {
        self.clock.now()
    }

    /// Gives an intake to the journal; never waits for the disk. The position is durable once
    /// [`Door::durable`] says so. An empty intake gives the newest position there is.
    ///
    /// # Errors
    /// [`Refused`]; nothing of the intake was taken then, and nothing of it is counted.
    pub fn submit(&self, intake: Intake) -> Result<Position, Refused> {
        self.submit_all(vec![intake])
    }

    /// Gives several intakes to the journal, all or none; the position is the last one's.
    ///
    /// # Errors
    /// As [`Door::submit`].
    pub fn submit_all(&self, intakes: Vec<Intake>) -> Result<Position, Refused> {
        self.append(&self.records(intakes))
    }

    /// As [`Door::submit`], for senders that can be made to wait: while the journal is full it tries
    /// again, for at most `patience`. The caller stops reading meanwhile.
    ///
    /// # Errors
    /// As [`Door::submit`].
    pub async fn submit_waiting(&self, intake: Intake, patience: Duration) -> Result<Position, Refused> {
        let records = self.records(vec![intake]);
        let until = tokio::time::Instant::now() + patience;
        loop {
            match self.append(&records) {
                Err(Refused::Busy { retry_after, .. }) if tokio::time::Instant::now() < until => {
                    let pause = retry_after.clamp(Duration::from_millis(5), Duration::from_secs(1));
                    tokio::time::sleep_until(until.min(tokio::time::Instant::now() + pause)).await;
                }
                other => return other,
            }
        }
    }

    /// The trace of a sender that shows this `traceparent`: `None` where it isn't sampled, malformed, or nothing is traced here.
    pub fn continued(&self, traceparent: Option<&[u8]>) -> Option<Traced> {
        let tracer = self.tracer.as_ref()?;
        Context::parse(traceparent?).map(|parent| tracer.go_on(parent))
    }

    fn records(&self, mut intakes: Vec<Intake>) -> Vec<Record> {
        if let Some(tracer) = &self.tracer
            && intakes.iter().all(|intake| intake.trace.is_none())
            && let Some(last) = intakes.iter_mut().rfind(|intake| intake.has_readings())
        {
            last.trace = tracer.begin();
        }
        intakes
            .into_iter()
            .filter(|intake| !intake.is_empty() || intake.origin.is_some())
            .map(Record::Intake)
            .collect()
    }

    fn append(&self, records: &[Record]) -> Result<Position, Refused> {
        let result = match records {
            [] => return Ok(self.journal.last()),
            [one] => self.journal.append(one),
            all => self.journal.append_all(all),
        };
        let position = result.map_err(|error| self.refused(error))?;
        for record in records {
            if let Record::Intake(intake) = record {
                self.stats.note(&intake.counts, intake.stamp);
            }
        }
        Ok(position)
    }

    fn refused(&self, error: AppendError) -> Refused {
        match error {
            AppendError::Full { what, retry_after } => {
                self.stats.pushed_back();
                Refused::Busy { what, retry_after }
            }
            AppendError::TooLarge { .. } => Refused::TooLarge,
            other => Refused::Broken(other.to_string()),
        }
    }

    /// Waits until everything up to a position is on disk. Only now may it be acknowledged.
    ///
    /// # Errors
    /// [`Refused::Broken`] when the journal failed, [`Refused::DiskFull`] soon after there was no space for it,
    /// [`Refused::Slow`] when the disk takes too long.
    pub async fn durable(&self, position: Position) -> Result<(), Refused> {
        let waited = self.limits.durable_wait;
        let until = tokio::time::Instant::now() + waited;
        let wait = self.journal.wait(position);
        tokio::pin!(wait);
        loop {
            let now = tokio::time::Instant::now();
            match tokio::time::timeout_at(until.min(now + LOOK), &mut wait).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(poisoned)) => return Err(Refused::Broken(poisoned.to_string())),
                // What was released may have made room, so it isn't asked at once.
                Err(_) if self.journal.usage().disk_full => {
                    return Err(Refused::DiskFull { retry_after: Duration::from_secs(5) });
                }
                Err(_) if tokio::time::Instant::now() >= until => return Err(Refused::Slow { waited }),
                Err(_) => {}
            }
        }
    }

    /// Counts and keeps one reading that was refused before it came into any intake. The count is
    /// journalled by the next [`Door::flush`].
    pub fn reject(&self, cause: Cause, reason: &str, excerpt: &[u8]) {
        let at = self.now();
        {
            let mut pending = self.pending.lock();
            pending.add(Cause::Received, 1);
            pending.add(cause, 1);
        }
        self.rejects.keep(&self.name, at.wall, cause, reason, excerpt);
    }

    /// Journals what [`Door::reject`] counted. Inputs call it now and then and at the end: many
    /// refusals make one record.
    ///
    /// # Errors
    /// As [`Door::submit`]; the counts then go on waiting.
    pub fn flush(&self) -> Result<(), Refused> {
        let counts = self.pending.lock().take();
        if counts.is_empty() {
            return Ok(());
        }
        let mut intake = Intake::new(self.input, self.now());
        intake.counts = counts;
        let record = [Record::Intake(intake)];
        self.append(&record).map(drop).inspect_err(|_| {
            if let [Record::Intake(intake)] = &record {
                self.pending.lock().merge(&intake.counts);
            }
        })
    }

    /// The latest time that a reading arriving now may have. A host whose clock is not set has no
    /// say in that.
    pub fn latest(&self, now: Stamp) -> i64 {
        if !now.is_set() {
            return i64::MAX;
        }
        now.wall.saturating_add(i64::try_from(self.limits.future.as_nanos()).unwrap_or(i64::MAX))
    }
}
