//! NumPy arrays in and out, and series by name: the buffer protocol one way, `numpy.frombuffer` the other.

use std::collections::HashMap;

use pyo3::buffer::{Element, PyBuffer};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyByteArray;
use telemetry::SeriesKey;

/// Values that have a NumPy type.
pub(crate) trait Item: Copy {
    /// NumPy's name of it.
    const TYPE: &'static str;
    /// Appends its bytes.
    fn put(self, out: &mut Vec<u8>);
}

macro_rules! items {
    ($($type:ty = $name:literal),*) => { $(
        impl Item for $type {
            const TYPE: &'static str = $name;
            fn put(self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
        }
    )* };
}

items!(f32 = "<f4", f64 = "<f8", i32 = "<i4", i64 = "<i8", u8 = "|u1", u32 = "<u4", u64 = "<u8");

impl Item for bool {
    const TYPE: &'static str = "|b1";
    fn put(self, out: &mut Vec<u8>) {
        out.push(u8::from(self));
    }
}

/// A value error with this text.
pub(crate) fn refused(text: impl Into<String>) -> PyErr {
    PyValueError::new_err(text.into())
}

/// Copies a one- or two-dimensional array of exactly this type.
pub(crate) fn read<T: Element>(py: Python<'_>, what: &str, array: &Bound<'_, PyAny>) -> PyResult<Vec<T>> {
    let buffer = PyBuffer::<T>::get(array).map_err(|error| {
        let wanted = std::any::type_name::<T>();
        refused(format!("{what} must be a NumPy array of {wanted}: {error}"))
    })?;
    buffer.to_vec(py)
}

/// Rows and columns of a matrix.
pub(crate) fn matrix(py: Python<'_>, array: &Bound<'_, PyAny>) -> PyResult<(Vec<f32>, usize)> {
    let buffer = PyBuffer::<f32>::get(array)
        .map_err(|error| refused(format!("the matrix must be a NumPy array of float32: {error}")))?;
    match buffer.shape() {
        [_, columns] => Ok((buffer.to_vec(py)?, *columns)),
        shape => Err(refused(format!("the matrix must have two dimensions, not {}", shape.len()))),
    }
}

/// A new array of these values.
pub(crate) fn write<'py, T: Item>(py: Python<'py>, values: &[T]) -> PyResult<Bound<'py, PyAny>> {
    let mut bytes = Vec::with_capacity(size_of_val(values));
    values.iter().for_each(|value| value.put(&mut bytes));
    let numpy = py.import("numpy")?;
    // A bytearray and not bytes, so that the array can be written to.
    numpy.call_method1("frombuffer", (PyByteArray::new(py, &bytes), T::TYPE))
}

/// A series as Python names it.
pub(crate) fn key(name: String, labels: HashMap<String, String>) -> PyResult<SeriesKey> {
    SeriesKey::new(name.as_str(), labels).map_err(|error| refused(format!("series {name:?}: {error}")))
}

/// All of a call's series.
pub(crate) fn keys(names: Vec<String>, labels: Vec<HashMap<String, String>>) -> PyResult<Vec<SeriesKey>> {
    if names.len() != labels.len() {
        return Err(refused(format!("{} names and {} label sets", names.len(), labels.len())));
    }
    names.into_iter().zip(labels).map(|(name, labels)| key(name, labels)).collect()
}

/// Samples of a call: for each an index into its series, a time and a value.
pub(crate) struct Samples {
    pub series: Vec<i64>,
    pub times: Vec<i64>,
    pub values: Vec<f64>,
}

impl Samples {
    pub(crate) fn read(
        py: Python<'_>,
        series: &Bound<'_, PyAny>,
        times: &Bound<'_, PyAny>,
        values: &Bound<'_, PyAny>,
        known: usize,
    ) -> PyResult<Self> {
        let samples = Self {
            series: read(py, "series", series)?,
            times: read(py, "times", times)?,
            values: read(py, "values", values)?,
        };
        let n = samples.series.len();
        if samples.times.len() != n || samples.values.len() != n {
            return Err(refused(format!(
                "series, times and values differ in length: {n}, {}, {}",
                samples.times.len(),
                samples.values.len()
            )));
        }
        match samples.series.iter().find(|at| usize::try_from(**at).map_or(true, |at| at >= known)) {
            Some(at) => Err(refused(format!("series index {at} of {known} series"))),
            None => Ok(samples),
        }
    }
}
