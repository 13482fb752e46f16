//! Anomaly scores on the edge: features from host metrics, an ONNX evaluator, and the fold's [`fold::Scorer`].
//!
//! ```text
//! samples ─▶ features (10 s grid, per device, normalised) ─▶ Model (ONNX) ─▶ score = output / threshold
//! ```
//! There is one definition of features and one evaluator: the agent runs them in the fold, the collector
//! in training, backtests and parity checks through `telemetryx._native`.
//!
//! The evaluator knows a closed list of operators and refuses anything else when a model is loaded, by
//! name. It takes files from the outside: every size, shape and index is checked, and no bytes make it
//! panic or use more than a fixed share of memory and time.

pub mod features;
mod load;
#[cfg(test)]
mod load_tests;
pub mod manifest;
pub mod model;
mod ops;
mod scan;
mod scorer;
mod tensor;

pub use features::FEATURE_SET;
pub use manifest::{Manifest, ManifestError};
pub use model::{EvaluateError, LoadError, Model, Workspace};
pub use scorer::OnnxScorer;

/// The structs of the ONNX format.
#[allow(missing_docs, clippy::doc_markdown, reason = "generated")]
mod onnx {
    include!(concat!(env!("OUT_DIR"), "/onnx.rs"));
}
