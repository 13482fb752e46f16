//! JSON of columns, which is what an answer of the API mostly is.

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use serde::Serialize;

use crate::columns::{read, refused};

/// Bytes that a number takes, comma included, as most do.
const USUAL: usize = 20;

/// `[1,2,…]` of an int64 column.
#[pyfunction]
pub(crate) fn json_i64<'py>(py: Python<'py>, column: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    written(py, &read::<i64>(py, "the column", column)?)
}

/// `[0.5,null,…]` of a float64 column: the shortest digits that give a number back, null for what is no finite one.
#[pyfunction]
pub(crate) fn json_f64<'py>(py: Python<'py>, column: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    written(py, &read::<f64>(py, "the column", column)?)
}

fn written<'py, T: Serialize + Sync>(py: Python<'py>, column: &[T]) -> PyResult<Bound<'py, PyBytes>> {
    let text = py.detach(|| {
        let mut text = Vec::with_capacity(2 + USUAL * column.len());
        serde_json::to_writer(&mut text, column).map(|()| text)
    });
    Ok(PyBytes::new(py, &text.map_err(|error| refused(error.to_string()))?))
}
