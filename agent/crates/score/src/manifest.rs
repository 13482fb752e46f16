//! Manifests: what stands beside an ONNX file and says what goes in and what its output means.
//!
//! A model fits only the features it was trained on, so the manifest repeats their definition and a
//! scorer refuses one that differs from its own.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::features::{self, Scaling};

/// What is known of a model beside its file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of this format: 1.
    pub format: u32,
    /// The model's name; alerts hold on to it across versions.
    pub id: String,
    /// Which one of that name.
    pub version: String,
    /// The feature set its input is made of, e.g. `host/1`.
    pub features: String,
    /// The features in the order of the input's columns.
    pub inputs: Vec<String>,
    /// Nanoseconds between two vectors.
    pub grid_ns: i64,
    /// How features are scaled before they go in.
    pub scaling: Scaling,
    /// The output that counts as anomalous: score = output / threshold.
    pub threshold: f64,
    /// SHA-256 of the ONNX file, in hexadecimal.
    pub sha256: String,
}

/// Why a manifest, or the file beside it, was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Not JSON of this shape.
    #[error("the manifest can't be read: {0}")]
    Syntax(String),
    /// A field with a value that can't be used.
    #[error("the manifest's {field} is {value:?}; {remedy}")]
    Field {
        /// Which.
        field: &'static str,
        /// What it says.
        value: String,
        /// What it should say.
        remedy: String,
    },
    /// The file isn't the one described.
    #[error("the ONNX file has SHA-256 {have}, the manifest says {want}: fetch both again")]
    Checksum {
        /// The file's.
        have: String,
        /// The manifest's.
        want: String,
    },
}

impl Manifest {
    /// Reads and checks a manifest.
    ///
    /// # Errors
    /// [`ManifestError`] naming the field.
    pub fn from_json(json: &[u8]) -> Result<Self, ManifestError> {
        let manifest: Self =
            serde_json::from_slice(json).map_err(|error| ManifestError::Syntax(error.to_string()))?;
        manifest.check()?;
        Ok(manifest)
    }

    fn check(&self) -> Result<(), ManifestError> {
        let refused = |field, value: String, remedy: &str| {
            Err(ManifestError::Field { field, value, remedy: remedy.to_owned() })
        };
        if self.format != 1 {
            return refused("format", self.format.to_string(), "this build reads format 1");
        }
        for (field, name) in [("id", &self.id), ("version", &self.version)] {
            let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            if name.is_empty() || name.len() > 64 || !name.chars().all(plain) {
                return refused(field, name.clone(), "take 1 to 64 of A-Z a-z 0-9 . _ -");
            }
        }
        if self.features != features::FEATURE_SET {
            return refused("features", self.features.clone(), "this build makes the set host/1");
        }
        if self.inputs != features::NAMES {
            return refused("inputs", self.inputs.join(" "), "they must be those of host/1, in order");
        }
        if self.grid_ns != features::GRID {
            return refused("grid_ns", self.grid_ns.to_string(), "host/1 has a grid of 10000000000");
        }
        if self.scaling != Scaling::HOST {
            let value = serde_json::to_string(&self.scaling).unwrap_or_default();
            return refused("scaling", value, "it must be that of host/1: train the model again");
        }
        if !(self.threshold.is_finite() && self.threshold > 0.0) {
            return refused("threshold", self.threshold.to_string(), "take a number above 0");
        }
        Ok(())
    }

    /// Checks that these are the bytes described.
    ///
    /// # Errors
    /// [`ManifestError::Checksum`] with both sums.
    pub fn verify(&self, onnx: &[u8]) -> Result<(), ManifestError> {
        let have: String = Sha256::digest(onnx).iter().map(|byte| format!("{byte:02x}")).collect();
        if have == self.sha256.to_ascii_lowercase() {
            Ok(())
        } else {
            Err(ManifestError::Checksum { have, want: self.sha256.clone() })
        }
    }
}
