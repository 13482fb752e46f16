//! The fold's [`Scorer`]: features of each device into the models of all slots.

use std::collections::BTreeMap;
use std::sync::Arc;

use fold::bytes::Reader;
use fold::{RestoreError, Score, Scorer, ScorerError};
use telemetry::SeriesDef;

use crate::features::{Features, Vector};
use crate::{Manifest, Model, Workspace};

/// Version of the state's bytes. The feature set's name follows it there.
const STATE: u8 = 1;

/// Models by slot, over one state of features. Ships a score for each model and cell that is ready.
#[derive(Default)]
pub struct OnnxScorer {
    features: Features,
    slots: BTreeMap<String, Slot>,
    workspace: Workspace,
    vectors: Vec<Vector>,
}

struct Slot {
    name: Arc<str>,
    version: Arc<str>,
    threshold: f64,
    model: Model,
}

impl OnnxScorer {
    /// Without models: features are kept from the first sample on, scores begin with a model.
    pub fn new() -> Self {
        Self::default()
    }

    /// The features, for measurements.
    pub fn features(&self) -> &Features {
        &self.features
    }
}

impl Scorer for OnnxScorer {
    fn set_model(
        &mut self,
        slot: &str,
        model: Option<(&[u8], &[u8])>,
    ) -> Result<Option<(String, String)>, ScorerError> {
        let Some((manifest, onnx)) = model else {
            self.slots.remove(slot);
            return Ok(None);
        };
        let refused = |reason: String| ScorerError { slot: slot.to_owned(), reason };
        let manifest = Manifest::from_json(manifest).map_err(|error| refused(error.to_string()))?;
        manifest.verify(onnx).map_err(|error| refused(error.to_string()))?;
        let model = Model::load(onnx).map_err(|error| refused(error.to_string()))?;
        if model.inputs() != manifest.inputs.len() {
            return Err(refused(format!(
                "the model takes {} inputs and its manifest names {}",
                model.inputs(),
                manifest.inputs.len()
            )));
        }
        let (name, version) = (slot.into(), manifest.version.as_str().into());
        self.slots.insert(slot.to_owned(), Slot { name, version, threshold: manifest.threshold, model });
        Ok(Some((manifest.id, manifest.version)))
    }

    fn admit(&mut self, series: u32, device: u32, def: &SeriesDef) -> bool {
        self.features.admit(series, device, def)
    }

    fn observe(&mut self, series: u32, time: i64, value: f64) {
        self.features.observe(series, time, value);
    }

    fn advance(&mut self, device: u32, watermark: i64, out: &mut Vec<Score>) {
        self.vectors.clear();
        let vectors = &mut self.vectors;
        self.features.advance(device, watermark, |vector| vectors.push(vector));
        for vector in self.vectors.iter().filter(|vector| vector.ready) {
            for slot in self.slots.values() {
                let mut output = Vec::with_capacity(1);
                let run = slot.model.evaluate(&vector.values, &mut output, &mut self.workspace);
                let value = output.first().map_or(f64::NAN, |output| f64::from(*output) / slot.threshold);
                // A model that has no number for this cell gives no score: better than a wrong one.
                if run.is_ok() && value.is_finite() {
                    let (model, version) = (Arc::clone(&slot.name), Arc::clone(&slot.version));
                    out.push(Score { device, time: vector.time, value, model, version });
                }
            }
        }
    }

    fn restart(&mut self, device: u32) {
        self.features.restart(device);
    }

    fn step(&self) -> Option<i64> {
        (!self.slots.is_empty()).then_some(crate::features::GRID)
    }

    fn checkpoint(&self, out: &mut Vec<u8>) {
        out.push(STATE);
        fold::bytes::put_blob(out, crate::FEATURE_SET.as_bytes());
        self.features.checkpoint(out);
    }

    fn restore(&mut self, state: &[u8]) -> Result<(), RestoreError> {
        let mut reader = Reader::new(state);
        let version = reader.u8()?;
        if version != STATE {
            return Err(RestoreError::Version(version, STATE));
        }
        if reader.text()? != crate::FEATURE_SET {
            return Err(RestoreError::Damaged("it has another set of features"));
        }
        self.features.restore(&mut reader)?;
        reader.end()
    }
}
