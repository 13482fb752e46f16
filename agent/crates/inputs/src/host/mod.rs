//! The host input: this host's own metrics, from the kernel.
//!
//! Ticks fall on multiples of the interval by the wall clock, and samples carry that time: all
//! hosts of a fleet have the same timeline. docs/how-to/host-metrics.md lists the metrics.

mod config;
mod parse;
mod sampler;
mod sensors;

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::door::Door;
use crate::intake::{IntakeBuilder, SeriesCache};
pub use config::{HostConfig, HostError};
#[cfg(feature = "fuzz")]
pub(crate) use parse::fuzz as fuzz_parse;
pub use sampler::Sampler;

/// Takes this host's metrics until `shutdown`.
///
/// # Errors
/// [`HostError`].
pub async fn run(config: HostConfig, door: Door, shutdown: CancellationToken) -> Result<(), HostError> {
    config.check()?;
    config.files()?;
    door.stats.recovered(0);
    let interval = i64::try_from(config.interval.0.as_nanos()).unwrap_or(i64::MAX);
    let mut worker = Some((Sampler::new(config), SeriesCache::new()));
    let mut last = i64::MIN;
    let mut told = false;
    let mut lost = 0_u64;
    loop {
        let wall = door.now().wall;
        let due = wall.div_euclid(interval) * interval;
        // A timer may fire a little early by the wall clock, and that may be set back: no tick comes twice.
        if due == last || last == i64::MIN {
            last = due;
            let pause = Duration::from_nanos(due.saturating_add(interval).saturating_sub(wall).max(1) as u64);
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                () = tokio::time::sleep(pause) => continue,
            }
        }
        last = due;
        let Some((mut sampler, mut cache)) = worker.take() else { return Ok(()) };
        let at = door.clone();
        // Kernel files answer at once, but a file system that is asked how full it is may not.
        let tick = tokio::task::spawn_blocking(move || {
            let mut out = IntakeBuilder::new(&at, &mut cache, at.now());
            let trouble = sampler.sample(due, &mut out);
            (out.finish(), trouble, (sampler, cache))
        });
        let (intake, trouble, again) = tick.await.map_err(|error| HostError::Task(error.to_string()))?;
        worker = Some(again);
        if let Some(reason) = trouble
            && !told
        {
            told = true;
            tracing::warn!(%reason, "some host metrics are refused");
        }
        // This sensor can't be asked to wait: what the journal has no room for is lost, and said so once.
        match door.submit(intake) {
            Ok(_) if lost > 0 => {
                tracing::warn!(ticks = lost, "host metrics are taken again after ticks were lost");
                lost = 0;
            }
            Ok(_) => {}
            Err(error) => {
                if lost == 0 {
                    tracing::warn!(%error, "host metrics are lost until the journal takes them");
                }
                lost += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests;
