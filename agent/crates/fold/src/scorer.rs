//! The seam to anomaly scoring: the fold hands samples to a [`Scorer`] and ships what it returns.
//!
//! A scorer is part of the fold's purity: the same calls in the same order give the same scores,
//! and its state goes into the fold's checkpoint. Series and devices are numbered by the fold in the
//! order of their first use, which doesn't change between a run and its replay.

use std::sync::Arc;

use telemetry::SeriesDef;

use crate::RestoreError;

/// One anomaly score; more than 1 means anomalous.
#[derive(Clone, Debug, PartialEq)]
pub struct Score {
    /// Of which device: the fold's number.
    pub device: u32,
    /// For which time, nanoseconds since the epoch.
    pub time: i64,
    /// How unusual.
    pub value: f64,
    /// The slot of the model that gave it: the label `model`.
    pub model: Arc<str>,
    /// That model's version: the label `model_version`.
    pub version: Arc<str>,
}

/// Why a model was refused; the slot keeps the one it had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("model {slot:?} was refused: {reason}")]
pub struct ScorerError {
    /// Which slot.
    pub slot: String,
    /// What is wrong with it, and what to do.
    pub reason: String,
}

/// What turns samples into scores.
pub trait Scorer: Send {
    /// Puts a model (manifest JSON, ONNX bytes) into a slot, or empties the slot. Returns the id and
    /// version now in effect.
    ///
    /// # Errors
    /// [`ScorerError`] when it can't be used; the slot then keeps what it had.
    fn set_model(
        &mut self,
        slot: &str,
        model: Option<(&[u8], &[u8])>,
    ) -> Result<Option<(String, String)>, ScorerError>;

    /// A series is used for the first time, by a device. False: never hand me its samples.
    /// Called once a series in the order of their numbers 0, 1, 2 …, and again after a restore.
    fn admit(&mut self, series: u32, device: u32, def: &SeriesDef) -> bool;

    /// One sample of an admitted series, in journal order.
    fn observe(&mut self, series: u32, time: i64, value: f64);

    /// A device's input is complete up to `watermark`: scores that are due go to `out`.
    fn advance(&mut self, device: u32, watermark: i64, out: &mut Vec<Score>);

    /// The device's times begin again at a lower one: what was learnt of it stays, what is open goes.
    fn restart(&mut self, _device: u32) {}

    /// Scores come at multiples of this many nanoseconds since the epoch; `None` when there are none.
    fn step(&self) -> Option<i64> {
        None
    }

    /// Appends the state, without the models themselves, as deterministic bytes.
    fn checkpoint(&self, out: &mut Vec<u8>);

    /// Takes the state back, after the models were set and the series admitted again.
    ///
    /// # Errors
    /// [`RestoreError`] when the bytes aren't such a state.
    fn restore(&mut self, state: &[u8]) -> Result<(), RestoreError>;
}

/// Scores nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoScorer;

impl Scorer for NoScorer {
    fn set_model(
        &mut self,
        slot: &str,
        model: Option<(&[u8], &[u8])>,
    ) -> Result<Option<(String, String)>, ScorerError> {
        match model {
            None => Ok(None),
            Some(_) => Err(ScorerError {
                slot: slot.to_owned(),
                reason: "this agent was started without scoring".to_owned(),
            }),
        }
    }

    fn admit(&mut self, _: u32, _: u32, _: &SeriesDef) -> bool {
        false
    }

    fn observe(&mut self, _: u32, _: i64, _: f64) {}

    fn advance(&mut self, _: u32, _: i64, _: &mut Vec<Score>) {}

    fn checkpoint(&self, _: &mut Vec<u8>) {}

    fn restore(&mut self, _: &[u8]) -> Result<(), RestoreError> {
        Ok(())
    }
}
