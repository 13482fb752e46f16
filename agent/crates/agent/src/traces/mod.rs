//! Traces of ourselves: `[tracing]`, and the export of what a [`telemetry::Tracer`] keeps, as OTLP over HTTP.
//!
//! The context of a sampled record goes through journal, fold, spool and wire without this (`telemetry/src/trace.rs`); here is who
//! begins traces at all, and where their spans go.

mod config;
mod export;
mod otlp;

pub use config::TracingConfig;
pub use export::{Exporter, TracingStatus};

use std::sync::Arc;

use inputs::Clock;
use telemetry::Tracer;

/// What keeps spans, where the section says that there are some.
pub fn tracer(config: &TracingConfig, clock: &Arc<dyn Clock>) -> Option<Arc<Tracer>> {
    config.endpoint.as_ref()?;
    let seed = u64::from(uplink::draw()) << 32 | u64::from(uplink::draw());
    let clock = Arc::clone(clock);
    Some(Arc::new(Tracer::new(config.sample, seed, move || clock.now().wall)))
}
