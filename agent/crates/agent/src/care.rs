//! What the service manager hears while the agent runs: that it starts, that it is alive, how it is.

use std::sync::Arc;
use std::time::{Duration, Instant};

use inputs::Door;
use telemetry::BEAT;
use tokio_util::sync::CancellationToken;

use crate::brief;
use crate::service::Service;
use crate::status::Reporter;
use crate::watchdog::Watchdog;

/// How often the status is said, and how often the workers are looked at unless the manager is more impatient.
const EVERY: Duration = Duration::from_secs(5);
/// A start asks for this much more, this often, for at most so long: after that it is no recovery any more.
const EXTEND: Duration = Duration::from_secs(60);
const EXTEND_EVERY: Duration = Duration::from_secs(10);
const LONGEST_START: Duration = Duration::from_secs(3600);
/// So long the start waits for inputs to listen: one that can't yet is tried again, and said in the status.
const INPUTS_PATIENCE: Duration = Duration::from_secs(10);

/// Asks the manager for patience until the token is cancelled: what is on the disk is being opened.
pub async fn starting(service: Arc<Service>, open: CancellationToken) {
    let begun = Instant::now();
    while service.listens() && begun.elapsed() < LONGEST_START {
        service.extend(EXTEND, &format!("opening journal and spool, {} s so far", begun.elapsed().as_secs()));
        tokio::select! {
            () = tokio::time::sleep(EXTEND_EVERY) => {}
            () = open.cancelled() => return,
        }
    }
}

/// The same while the pipeline begins anew in a process that was ready: there the manager's watchdog is on, and nobody else
/// feeds it.
pub async fn starting_again(service: Arc<Service>, open: CancellationToken) {
    let begun = Instant::now();
    let every = service.watchdog().map_or(EXTEND_EVERY, |limit| EXTEND_EVERY.min(limit / 8));
    while service.listens() && begun.elapsed() < LONGEST_START {
        if service.watchdog().is_some() {
            service.feed();
        }
        service.extend(
            EXTEND,
            &format!("starting anew with another configuration, {} s so far", begun.elapsed().as_secs()),
        );
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            () = open.cancelled() => return,
        }
    }
}

/// Until every input listens, or has said why it doesn't.
async fn inputs_tried(doors: &[Door]) {
    let begun = Instant::now();
    while begun.elapsed() < INPUTS_PATIENCE && !doors.iter().all(|door| door.stats.tried()) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Says that the agent is ready once its inputs listen (`open` ends what [`starting`] does), then how it is and that it is
/// alive, until `done`.
pub async fn running(
    service: Arc<Service>,
    reporter: Arc<Reporter>,
    mut dog: Watchdog,
    open: CancellationToken,
    done: CancellationToken,
) {
    if !service.listens() {
        return;
    }
    tokio::select! {
        () = inputs_tried(&reporter.doors) => {}
        () = done.cancelled() => return,
    }
    open.cancel();
    service.ready(&brief::line(&reporter.status()));
    let limit = service.watchdog();
    let every = limit.map_or(EVERY, |limit| EVERY.min(limit / 8));
    // Half of the manager's limit, and never so soon that a healthy worker between two beats is suspected.
    let suspicious = limit.map_or(4 * BEAT, |limit| (limit / 2).max(BEAT + BEAT / 2));
    let mut said = Instant::now();
    loop {
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            () = done.cancelled() => return,
        }
        let now = Instant::now();
        if dog.look(now) && limit.is_some() {
            service.feed();
        }
        // Whoever stands still may hold what the whole status needs.
        if let Some(stuck) = dog.stuck(now, suspicious) {
            service.status(&format!("STUCK: {stuck}"));
        } else if now.duration_since(said) >= EVERY {
            said = now;
            service.status(&brief::line(&reporter.status()));
        }
    }
}
