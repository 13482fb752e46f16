//! Remote care: configurations that the collector pushes, and requests for another log level or a diagnostics bundle.
//!
//! ```text
//! pushed ─▶ load: parse · allowed · merge · check ─▶ cache: durable, on trial ─▶ plan: reload | the pipeline anew
//!                    │ can't be used                                                  │
//!                    ▼                                                                ▼ gate: proven in time?
//!              Failed, with the reason ◀──────────────── no: the last healthy one ─── · ─── yes ─▶ Applied
//! ```
//!
//! `trial.rs` has the rules between the phases, [`Remote`] keeps them on disk and tells the collector, `run.rs` drives the
//! pipeline by them. Docs: docs/how-to/remote-care.md, docs/decisions/0019-remote-config.md.

mod allowed;
mod bundle;
mod cache;
pub mod command;
mod gate;
mod load;
pub mod merge;
mod plan;
mod redact;
pub mod requests;
mod state;
mod trial;

pub use cache::{Cache, Kept, Phase, Pushed};
pub use gate::{Gate, Verdict, ailing};
pub use load::{HostFile, Merged};
pub use plan::{Step, step};
pub use state::{Outcome, Remote, RemoteStatus};

use fold::Span;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[remote]`: what the collector may do to this agent.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RemoteConfig {
    /// What is taken of a configuration that the collector pushes: `over`, its keys replace this file's; `under`, this file's keys win and
    /// it fills in what they leave out; `off`, nothing. Tables merge key by key, lists are taken whole. This section, who the agent is, where
    /// the collector is and files of this host can't be pushed at all.
    pub config: Takes,
    /// Whether the collector may ask for another log level for a while, and for a diagnostics bundle (without secrets).
    pub requests: bool,
    /// How long a pushed configuration may take to prove itself: inputs run, readings pass, the collector has greeted. After that the last
    /// one that did is in force again.
    pub gate: Span,
}

impl Default for RemoteConfig {
    fn default() -> Self {
        Self { config: Takes::Over, requests: true, gate: Span::from_secs(60) }
    }
}

/// What is taken of pushed configurations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Takes {
    /// Pushed keys replace the file's.
    #[default]
    Over,
    /// The file's keys win.
    Under,
    /// Nothing.
    Off,
}

/// The shortest gate lets the slowest worker pass its loop; the longest still ends.
const GATE: std::ops::RangeInclusive<i64> = 10_000_000_000..=3_600_000_000_000;

impl RemoteConfig {
    /// What can't work: a sentence.
    pub fn problem(&self) -> Option<String> {
        let gate = self.gate;
        (!GATE.contains(&gate.nanos())).then(|| format!("remote.gate = {gate} can't be used; take 10s to 1h"))
    }

    /// The gate's time.
    pub fn gate(&self) -> std::time::Duration {
        std::time::Duration::from_nanos(self.gate.nanos().unsigned_abs())
    }
}
