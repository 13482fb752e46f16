//! The agent's features, over columns of samples.

use std::collections::HashMap;

use pyo3::prelude::*;
use score::features::{COUNT, Scaling, Vector};
use telemetry::{SeriesDef, SeriesKey};

use crate::columns::{Samples, keys, refused, write};

/// (devices as (site, device), device of each row, times, matrix, ready)
type Table<'py> =
    (Vec<(String, String)>, Bound<'py, PyAny>, Bound<'py, PyAny>, Bound<'py, PyAny>, Bound<'py, PyAny>);

/// Features with their state, fed piece by piece as a fold is.
#[pyclass(module = "telemetryx._native")]
#[derive(Default)]
pub(crate) struct Features {
    features: score::features::Features,
    series: HashMap<SeriesKey, u32>,
    devices: Vec<(String, String)>,
}

#[pymethods]
impl Features {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    /// Takes samples in the order given: for each an index into `names`, a time in ns and a value.
    fn add(
        &mut self,
        py: Python<'_>,
        names: Vec<String>,
        labels: Vec<HashMap<String, String>>,
        series: &Bound<'_, PyAny>,
        times: &Bound<'_, PyAny>,
        values: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let keys = keys(names, labels)?;
        let samples = Samples::read(py, series, times, values, keys.len())?;
        let order: Vec<usize> = (0..samples.times.len()).collect();
        py.detach(|| self.take(keys, &samples, &order));
        Ok(())
    }

    /// Closes the cells that end at or before `watermark` (all of them where none is given), device by
    /// device: (devices, device of each row, end of each cell, float32 matrix, past warm-up).
    #[pyo3(signature = (watermark=None))]
    fn close<'py>(&mut self, py: Python<'py>, watermark: Option<i64>) -> PyResult<Table<'py>> {
        let mut rows: Vec<(i64, Vector)> = Vec::new();
        py.detach(|| {
            for device in 0..self.devices.len() as u32 {
                let watermark = watermark.unwrap_or(i64::MAX);
                self.features.advance(device, watermark, |vector| rows.push((i64::from(device), vector)));
            }
        });
        let column = |f: &dyn Fn(&(i64, Vector)) -> i64| rows.iter().map(f).collect::<Vec<_>>();
        let values: Vec<f32> = rows.iter().flat_map(|(_, vector)| vector.values).collect();
        let ready: Vec<bool> = rows.iter().map(|(_, vector)| vector.ready).collect();
        let matrix = write(py, &values)?.call_method1("reshape", ((rows.len(), COUNT),))?;
        Ok((
            self.devices.clone(),
            write(py, &column(&|row| row.0))?,
            write(py, &column(&|row| row.1.time))?,
            matrix,
            write(py, &ready)?,
        ))
    }
}

impl Features {
    fn take(&mut self, keys: Vec<SeriesKey>, samples: &Samples, order: &[usize]) {
        let numbers: Vec<u32> = keys.into_iter().map(|key| self.number(key)).collect();
        for at in order {
            // Checked when the samples were read.
            let number = numbers[samples.series[*at] as usize];
            self.features.observe(number, samples.times[*at], samples.values[*at]);
        }
    }

    fn number(&mut self, key: SeriesKey) -> u32 {
        if let Some(number) = self.series.get(&key) {
            return *number;
        }
        let number = self.series.len() as u32;
        let place = (key.site().to_owned(), key.device().to_owned());
        let device = self.devices.iter().position(|known| *known == place).unwrap_or_else(|| {
            self.devices.push(place);
            self.devices.len() - 1
        });
        self.features.admit(number, device as u32, &SeriesDef::bare(key.clone()));
        self.series.insert(key, number);
        number
    }
}

/// The features of samples in any order, from the first on: they are put in the order of time first.
#[pyfunction]
pub(crate) fn features<'py>(
    py: Python<'py>,
    names: Vec<String>,
    labels: Vec<HashMap<String, String>>,
    series: &Bound<'py, PyAny>,
    times: &Bound<'py, PyAny>,
    values: &Bound<'py, PyAny>,
) -> PyResult<Table<'py>> {
    let keys = keys(names, labels)?;
    let samples = Samples::read(py, series, times, values, keys.len())?;
    let mut features = Features::new();
    py.detach(|| {
        let mut order: Vec<usize> = (0..samples.times.len()).collect();
        order.sort_by_key(|at| samples.times[*at]);
        features.take(keys, &samples, &order);
    });
    features.close(py, None)
}

/// How features are scaled, as a manifest must repeat it.
#[pyfunction]
pub(crate) fn scaling_json() -> PyResult<String> {
    serde_json::to_string(&Scaling::HOST).map_err(|error| refused(error.to_string()))
}
