//! `telemetryx._native`: the agent's own features, evaluator, sketches and fold, and the JSON of columns, for the collector.
//!
//! Training, backtests and parity checks so run the code that runs on the edge, and not a second copy
//! of its definitions. Columns come and go as NumPy arrays through the buffer protocol; nothing here
//! keeps state but the classes, and long work runs without the interpreter's lock.

mod columns;
mod features;
mod json;
mod model;
mod replay;
mod rollup;
mod sketch;

use pyo3::prelude::*;

/// The agent's features, evaluator, sketches and fold, and JSON of columns.
#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("OPTIMISED", !cfg!(debug_assertions))?;
    module.add("FEATURE_SET", score::FEATURE_SET)?;
    module.add("FEATURE_NAMES", score::features::NAMES)?;
    module.add("GRID_NS", score::features::GRID)?;
    module.add("OPERATORS", score::model::operators().collect::<Vec<_>>())?;
    module.add("SCORE_SERIES", fold::SCORE)?;
    module.add_class::<features::Features>()?;
    module.add_class::<model::Model>()?;
    module.add_function(wrap_pyfunction!(features::features, module)?)?;
    module.add_function(wrap_pyfunction!(features::scaling_json, module)?)?;
    module.add_function(wrap_pyfunction!(json::json_f64, module)?)?;
    module.add_function(wrap_pyfunction!(json::json_i64, module)?)?;
    module.add_function(wrap_pyfunction!(model::evaluate, module)?)?;
    module.add_function(wrap_pyfunction!(model::verify, module)?)?;
    module.add_function(wrap_pyfunction!(replay::fold_replay, module)?)?;
    module.add_function(wrap_pyfunction!(rollup::rollup_faults, module)?)?;
    module.add_function(wrap_pyfunction!(rollup::rollup_group, module)?)?;
    module.add_function(wrap_pyfunction!(rollup::rollup_merge, module)?)?;
    module.add_function(wrap_pyfunction!(rollup::rollup_samples, module)?)?;
    module.add_function(wrap_pyfunction!(rollup::rollup_windows, module)?)?;
    module.add_function(wrap_pyfunction!(sketch::sketch_build, module)?)?;
    module.add_function(wrap_pyfunction!(sketch::sketch_merge, module)?)?;
    module.add_function(wrap_pyfunction!(sketch::sketch_quantile, module)?)?;
    Ok(())
}
