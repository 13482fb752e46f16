//! Any bytes as an ONNX model: refused, or loaded and evaluated without a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use score::{Model, Workspace};

fuzz_target!(|data: &[u8]| {
    let Ok(model) = Model::load(data) else { return };
    let row = vec![0.5_f32; model.inputs()];
    let _ = model.evaluate(&row, &mut Vec::new(), &mut Workspace::default());
});
