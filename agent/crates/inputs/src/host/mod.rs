//! The host input: this machine's own metrics, read from the kernel, under OpenTelemetry's names.
//!
//! One round an interval, aligned to the wall clock so that hosts sample together. Every file is read
//! in its own collector ([`cpu`], [`memory`], [`disk`], [`network`], [`system`], [`sensors`],
//! [`filesystem`]); what this kernel doesn't offer is passed over. `device` is this host: disks and
//! interfaces are labels of their own. Paths are configurable, so that a recorded tree can be replayed.

mod config;
mod cpu;
mod disk;
mod filesystem;
mod memory;
mod network;
mod procfs;
mod sensors;
mod system;

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

use crate::door::{Door, Refused};
use crate::intake::{IntakeBuilder, SeriesCache};
pub use config::*;
use procfs::Roots;

/// Where one round's samples go.
struct Sink<'a, 'b> {
    out: &'a mut IntakeBuilder<'b>,
    device: &'a str,
    site: &'a str,
    time: i64,
}

impl Sink<'_, '_> {
    /// One sample of this host.
    fn put(&mut self, name: &str, labels: &[(&str, &str)], unit: &str, value: f64) {
        // Empty ones (no site, the unused places) are no labels.
        let mut all = [("_", ""); 6];
        all[0] = ("device", self.device);
        all[1] = ("site", self.site);
        let used = labels.len().min(all.len() - 2);
        all[2..2 + used].copy_from_slice(&labels[..used]);
        if let Err(rejection) = self.out.sample(name, &all[..2 + used], unit, Some(self.time), value, 0) {
            self.out.rejected(rejection.cause, &rejection.reason, name.as_bytes());
        }
    }
}

/// What one round needs and keeps for the next.
struct Rounds {
    config: HostConfig,
    roots: Roots,
    device: String,
    cpu: cpu::Rates,
    cache: SeriesCache,
}

impl Rounds {
    fn new(config: HostConfig) -> Result<Self, HostError> {
        let roots = Roots::new(&config);
        roots.check().map_err(|error| HostError::NoProc { path: config.procfs_root.clone(), error })?;
        let device = if config.device.is_empty() { procfs::hostname(&roots) } else { config.device.clone() };
        let mut cpu = cpu::Rates::default();
        // The first round needs counters to differ from.
        cpu.prime(&roots);
        Ok(Self { config, roots, device, cpu, cache: SeriesCache::new() })
    }

    /// Reads everything once. Blocks: a sick disk may take its time.
    fn read(&mut self, door: &Door) -> telemetry::Intake {
        let at = door.now();
        let mut out = IntakeBuilder::new(door, &mut self.cache, at);
        let mut sink = Sink { out: &mut out, device: &self.device, site: &self.config.site, time: at.wall };
        let (roots, config) = (&self.roots, &self.config);
        self.cpu.sample(roots, config, &mut sink);
        memory::sample(roots, config, &mut sink);
        disk::sample(roots, config, &mut sink);
        network::sample(roots, config, &mut sink);
        system::sample(roots, config, &mut sink);
        sensors::sample(roots, config, &mut sink);
        filesystem::sample(roots, config, &mut sink);
        out.finish()
    }
}

/// Samples until shutdown.
///
/// # Errors
/// [`HostError`] when there is nothing to sample.
pub async fn run(config: HostConfig, door: Door, shutdown: CancellationToken) -> Result<(), HostError> {
    config.check()?;
    let every = config.interval.0;
    let mut rounds = Rounds::new(config)?;
    let mut ticks = interval_at(Instant::now() + until_next(door.now().wall, every), every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = shutdown.cancelled() => return Ok(()),
        }
        let reader = door.clone();
        let read = tokio::task::spawn_blocking(move || {
            let intake = rounds.read(&reader);
            (rounds, intake)
        });
        let intake;
        (rounds, intake) = read.await.map_err(|error| HostError::Task(error.to_string()))?;
        // Nobody waits for an answer: a full journal costs this round, and `status` counts that it pushed back.
        match door.submit_waiting(intake, every.min(Duration::from_secs(5))).await {
            Ok(_) => {}
            Err(Refused::Busy { .. }) => {
                tracing::warn!("the journal is full: a round of host metrics is left out")
            }
            Err(error) => tracing::error!(%error, "host metrics can't be kept"),
        }
    }
}

/// Time until the next whole multiple of the interval.
fn until_next(wall: i64, every: Duration) -> Duration {
    let every = i64::try_from(every.as_nanos()).unwrap_or(i64::MAX);
    Duration::from_nanos((every - wall.rem_euclid(every)) as u64)
}

#[cfg(test)]
mod tests;
