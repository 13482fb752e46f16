//! Mapping: what a topic and its payload mean, as samples and events.
//!
//! docs/how-to/mapping.md describes the rules for a user; the tests beside are the real payloads
//! that must come out right by default.

pub mod config;

use telemetry::Stamp;

use crate::intake::IntakeBuilder;

pub use config::{MappingConfig, MappingError};

/// Turns publishes into readings. Immutable once built: share it in an `Arc`.
#[derive(Debug)]
pub struct Mapper {}

impl Mapper {
    /// Compiles the rules.
    ///
    /// # Errors
    /// [`MappingError`], naming the rule and what to change.
    pub fn new(_config: &MappingConfig) -> Result<Self, MappingError> {
        Ok(Self {})
    }

    /// Maps one publish. Whatever can't be mapped is counted and kept through
    /// [`IntakeBuilder::rejected`]; this never fails.
    ///
    /// `retained_redelivery` says that this is a retained message sent because of a subscription
    /// and that its payload differs from the last one seen on that topic (an equal one is not a
    /// reading: the caller counts it with [`IntakeBuilder::deduplicated`]; see
    /// [`crate::mapping::LastSeen`]). Its samples are marked [`telemetry::SampleFlags::RETAINED`].
    pub fn map(
        &self,
        _topic: &str,
        _payload: &[u8],
        _retained_redelivery: bool,
        _at: Stamp,
        _out: &mut IntakeBuilder<'_>,
    ) {
    }
}

/// What was last seen on each topic, to tell a retained redelivery from a new reading. Bounded:
/// the topics longest unused are forgotten first.
#[derive(Debug, Default)]
pub struct LastSeen {}

/// What a publish is, as far as retained messages go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// An ordinary publish.
    Live,
    /// A retained message that is equal to the last one seen on its topic: not a reading.
    Repeat,
    /// A retained message whose payload wasn't seen yet: a reading, marked.
    Changed,
}

impl LastSeen {
    /// Remembers at most `topics`.
    pub fn new(_topics: usize) -> Self {
        Self {}
    }

    /// Judges one publish and remembers it. `retained` is the flag the broker sent it with.
    pub fn judge(&mut self, _topic: &str, _payload: &[u8], _retained: bool) -> Delivery {
        Delivery::Live
    }

    /// As bytes to keep over a restart.
    pub fn encode(&self) -> Vec<u8> {
        Vec::new()
    }

    /// From [`Self::encode`]; anything else gives an empty one.
    pub fn decode(_bytes: &[u8], topics: usize) -> Self {
        Self::new(topics)
    }
}
