//! The default model, which comes with the agent, and how a model becomes a journal record.

use anyhow::Context;
use fold::Scorer;
use telemetry::{Record, Stamp};

use crate::config::ModelsConfig;

/// Of the files of a model.
const LONGEST: u64 = 64 << 20;
const HOST_ONNX: &[u8] = include_bytes!("../../../../models/default/host.onnx");
const HOST_MANIFEST: &[u8] = include_bytes!("../../../../models/default/host.json");

/// The scorer every fold of this agent uses.
pub fn scorer() -> Box<dyn Scorer> {
    Box::new(score::OnnxScorer::new())
}

/// The record that puts the configured model into the slot `host`, or switches it off.
///
/// # Errors
/// When `model.host_dir` can't be read.
pub fn host_record(config: &ModelsConfig, stamp: Stamp) -> anyhow::Result<Record> {
    Ok(Record::Model { stamp, slot: "host".into(), model: host_files(config)? })
}

/// Manifest and model of the slot `host`; `None` when it is switched off.
///
/// # Errors
/// When `model.host_dir` can't be read.
pub fn host_files(config: &ModelsConfig) -> anyhow::Result<Option<(Vec<u8>, Vec<u8>)>> {
    Ok(match (&config.host, &config.host_dir) {
        (false, _) => None,
        (true, None) => Some((HOST_MANIFEST.to_vec(), HOST_ONNX.to_vec())),
        (true, Some(folder)) => {
            let read = |name: &str| {
                let path = folder.join(name);
                seglog::regular::read(&path, LONGEST)
                    .with_context(|| format!("model.host_dir: {} can't be read", path.display()))
            };
            Some((read("manifest.json")?, read("model.onnx")?))
        }
    })
}
