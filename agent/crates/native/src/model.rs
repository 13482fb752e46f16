//! The agent's evaluator.

use pyo3::prelude::*;
use score::Workspace;

use crate::columns::{matrix, refused, write};

/// A loaded ONNX file, evaluated as the agent does.
#[pyclass(frozen, module = "telemetryx._native")]
pub(crate) struct Model {
    model: score::Model,
}

#[pymethods]
impl Model {
    /// Loads and checks an ONNX file; a `ValueError` says what the evaluator can't do.
    #[new]
    fn new(py: Python<'_>, onnx: &[u8]) -> PyResult<Self> {
        let model = py.detach(|| score::Model::load(onnx)).map_err(|error| refused(error.to_string()))?;
        Ok(Self { model })
    }

    /// Values of a row.
    #[getter]
    fn inputs(&self) -> usize {
        self.model.inputs()
    }

    /// Bytes that its weights take in memory.
    #[getter]
    fn weight_bytes(&self) -> usize {
        self.model.weight_bytes()
    }

    /// One output a row of a float32 matrix.
    #[pyo3(name = "evaluate")]
    fn run<'py>(&self, py: Python<'py>, rows: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let (values, columns) = matrix(py, rows)?;
        if columns != self.model.inputs() {
            return Err(refused(format!("{columns} columns; the model takes {}", self.model.inputs())));
        }
        let outputs = py.detach(|| {
            let mut outputs = Vec::with_capacity(values.len() / columns.max(1));
            self.model.evaluate(&values, &mut outputs, &mut Workspace::default()).map(|()| outputs)
        });
        write(py, &outputs.map_err(|error| refused(error.to_string()))?)
    }
}

/// One output a row, of an ONNX file.
#[pyfunction]
pub(crate) fn evaluate<'py>(
    py: Python<'py>,
    onnx: &[u8],
    rows: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    Model::new(py, onnx)?.run(py, rows)
}

/// Checks manifest and file as an agent would; gives id, version and threshold.
#[pyfunction]
pub(crate) fn verify(py: Python<'_>, manifest: &[u8], onnx: &[u8]) -> PyResult<(String, String, f64)> {
    let manifest = score::Manifest::from_json(manifest).map_err(|error| refused(error.to_string()))?;
    py.detach(|| manifest.verify(onnx)).map_err(|error| refused(error.to_string()))?;
    let model = py.detach(|| score::Model::load(onnx)).map_err(|error| refused(error.to_string()))?;
    if model.inputs() != manifest.inputs.len() {
        return Err(refused(format!(
            "the model takes {} inputs and its manifest names {}",
            model.inputs(),
            manifest.inputs.len()
        )));
    }
    Ok((manifest.id, manifest.version, manifest.threshold))
}
