//! Quantile sketches of windows, in the columns of the wire (proto/README.md): for each window the number of
//! positive and of negative bins, the keys and counts of all bins one after the other, the zeros.

use std::collections::BTreeMap;

use fold::sketch;
use pyo3::prelude::*;
use telemetry::Bins;

use crate::columns::{read, refused, write};

type Columns<'py> = (Bound<'py, PyAny>, Bound<'py, PyAny>, Bound<'py, PyAny>, Bound<'py, PyAny>);

fn unpack(
    py: Python<'_>,
    sizes: &Bound<'_, PyAny>,
    keys: &Bound<'_, PyAny>,
    counts: &Bound<'_, PyAny>,
    zeros: &Bound<'_, PyAny>,
) -> PyResult<Vec<Bins>> {
    let sizes: Vec<u32> = read(py, "sizes", sizes)?;
    let keys: Vec<i32> = read(py, "keys", keys)?;
    let counts: Vec<u64> = read(py, "counts", counts)?;
    let zeros: Vec<u64> = read(py, "zeros", zeros)?;
    let bins: u64 = sizes.iter().map(|size| u64::from(*size)).sum();
    if sizes.len() != 2 * zeros.len() || keys.len() != counts.len() || keys.len() as u64 != bins {
        return Err(refused("the columns of the sketches don't fit each other"));
    }
    let mut pairs = keys.into_iter().zip(counts);
    let (sides, _) = sizes.as_chunks::<2>();
    let sketches = sides.iter().zip(zeros).map(|([positive, negative], zero)| Bins {
        positive: pairs.by_ref().take(*positive as usize).collect(),
        negative: pairs.by_ref().take(*negative as usize).collect(),
        zero,
    });
    Ok(sketches.collect())
}

/// Sketches as columns.
pub(crate) fn pack<'py>(py: Python<'py>, sketches: &[&Bins]) -> PyResult<Columns<'py>> {
    let (mut sizes, mut keys, mut counts) = (Vec::new(), Vec::new(), Vec::new());
    for bins in sketches {
        for side in [&bins.positive, &bins.negative] {
            sizes.push(side.len() as u32);
            keys.extend(side.iter().map(|bin| bin.0));
            counts.extend(side.iter().map(|bin| bin.1));
        }
    }
    let zeros: Vec<u64> = sketches.iter().map(|bins| bins.zero).collect();
    Ok((write(py, &sizes)?, write(py, &keys)?, write(py, &counts)?, write(py, &zeros)?))
}

/// The sketch of values, as columns of one.
#[pyfunction]
pub(crate) fn sketch_build<'py>(py: Python<'py>, values: &Bound<'py, PyAny>) -> PyResult<Columns<'py>> {
    let values: Vec<f64> = read(py, "values", values)?;
    let (mut bins, mut hint) = (Bins::default(), 0);
    for value in values.into_iter().filter(|value| value.is_finite()) {
        sketch::add(&mut bins, value, &mut hint);
    }
    pack(py, &[&bins])
}

/// Merges the sketches of each group; groups come back ascending, with their numbers.
#[pyfunction]
pub(crate) fn sketch_merge<'py>(
    py: Python<'py>,
    sizes: &Bound<'py, PyAny>,
    keys: &Bound<'py, PyAny>,
    counts: &Bound<'py, PyAny>,
    zeros: &Bound<'py, PyAny>,
    groups: &Bound<'py, PyAny>,
) -> PyResult<(Bound<'py, PyAny>, Columns<'py>)> {
    let sketches = unpack(py, sizes, keys, counts, zeros)?;
    let groups: Vec<i64> = read(py, "groups", groups)?;
    if groups.len() != sketches.len() {
        return Err(refused(format!("{} groups of {} sketches", groups.len(), sketches.len())));
    }
    let mut merged: BTreeMap<i64, Bins> = BTreeMap::new();
    for (group, bins) in groups.into_iter().zip(&sketches) {
        sketch::merge(merged.entry(group).or_default(), bins);
    }
    let numbers: Vec<i64> = merged.keys().copied().collect();
    Ok((write(py, &numbers)?, pack(py, &merged.values().collect::<Vec<_>>())?))
}

/// For each sketch the value at quantile `q`, to within 1 %; NaN of an empty one.
#[pyfunction]
pub(crate) fn sketch_quantile<'py>(
    py: Python<'py>,
    sizes: &Bound<'py, PyAny>,
    keys: &Bound<'py, PyAny>,
    counts: &Bound<'py, PyAny>,
    zeros: &Bound<'py, PyAny>,
    q: f64,
) -> PyResult<Bound<'py, PyAny>> {
    if !(0.0..=1.0).contains(&q) {
        return Err(refused(format!("quantile {q} isn't between 0 and 1")));
    }
    let sketches = unpack(py, sizes, keys, counts, zeros)?;
    let values = sketches.iter().map(|bins| sketch::quantile(bins, q).unwrap_or(f64::NAN));
    write(py, &values.collect::<Vec<_>>())
}
