//! Quantile sketches of windows, in the columns of the wire (proto/README.md): for each window the number of
//! positive and of negative bins, the keys and counts of all bins one after the other, the zeros.

use std::collections::BTreeMap;

use fold::sketch;
use pyo3::prelude::*;
use telemetry::Bins;

use crate::columns::{read, refused, write};

pub(crate) type Columns<'py> = (Bound<'py, PyAny>, Bound<'py, PyAny>, Bound<'py, PyAny>, Bound<'py, PyAny>);

/// Columns of sketches, copied out of Python: what is done with them needs no lock of the interpreter.
pub(crate) struct Packed {
    sizes: Vec<u32>,
    keys: Vec<i32>,
    counts: Vec<u64>,
    zeros: Vec<u64>,
}

impl Packed {
    pub(crate) fn read(
        py: Python<'_>,
        sizes: &Bound<'_, PyAny>,
        keys: &Bound<'_, PyAny>,
        counts: &Bound<'_, PyAny>,
        zeros: &Bound<'_, PyAny>,
    ) -> PyResult<Self> {
        let packed = Self {
            sizes: read(py, "sizes", sizes)?,
            keys: read(py, "keys", keys)?,
            counts: read(py, "counts", counts)?,
            zeros: read(py, "zeros", zeros)?,
        };
        let bins: u64 = packed.sizes.iter().map(|size| u64::from(*size)).sum();
        let whole = packed.keys.len() == packed.counts.len() && packed.keys.len() as u64 == bins;
        if packed.sizes.len() != 2 * packed.zeros.len() || !whole {
            return Err(refused("the columns of the sketches don't fit each other"));
        }
        Ok(packed)
    }

    pub(crate) fn of<'a>(sketches: impl ExactSizeIterator<Item = &'a Bins>) -> Self {
        let (mut sizes, mut keys, mut counts) = (Vec::new(), Vec::new(), Vec::new());
        let mut zeros = Vec::with_capacity(sketches.len());
        for bins in sketches {
            for side in [&bins.positive, &bins.negative] {
                sizes.push(side.len() as u32);
                keys.extend(side.iter().map(|bin| bin.0));
                counts.extend(side.iter().map(|bin| bin.1));
            }
            zeros.push(bins.zero);
        }
        Self { sizes, keys, counts, zeros }
    }

    /// How many sketches there are.
    pub(crate) fn len(&self) -> usize {
        self.zeros.len()
    }

    pub(crate) fn sketches(self) -> impl Iterator<Item = Bins> {
        let mut pairs = self.keys.into_iter().zip(self.counts);
        let mut sides = self.sizes.into_iter();
        self.zeros.into_iter().map(move |zero| {
            let mut side = || {
                let size = sides.next().unwrap_or(0) as usize;
                pairs.by_ref().take(size).collect()
            };
            Bins { positive: side(), negative: side(), zero }
        })
    }

    pub(crate) fn write<'py>(&self, py: Python<'py>) -> PyResult<Columns<'py>> {
        Ok((
            write(py, &self.sizes)?,
            write(py, &self.keys)?,
            write(py, &self.counts)?,
            write(py, &self.zeros)?,
        ))
    }
}

/// Sketches as columns.
pub(crate) fn pack<'py>(py: Python<'py>, sketches: &[&Bins]) -> PyResult<Columns<'py>> {
    Packed::of(sketches.iter().copied()).write(py)
}

/// The sketch of values, as columns of one.
#[pyfunction]
pub(crate) fn sketch_build<'py>(py: Python<'py>, values: &Bound<'py, PyAny>) -> PyResult<Columns<'py>> {
    let values: Vec<f64> = read(py, "values", values)?;
    let bins = py.detach(|| {
        let (mut bins, mut hint) = (Bins::default(), 0);
        for value in values.into_iter().filter(|value| value.is_finite()) {
            sketch::add(&mut bins, value, &mut hint);
        }
        bins
    });
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
    let packed = Packed::read(py, sizes, keys, counts, zeros)?;
    let groups: Vec<i64> = read(py, "groups", groups)?;
    if groups.len() != packed.zeros.len() {
        return Err(refused(format!("{} groups of {} sketches", groups.len(), packed.zeros.len())));
    }
    let (numbers, merged) = py.detach(|| {
        let mut merged: BTreeMap<i64, Bins> = BTreeMap::new();
        for (group, bins) in groups.into_iter().zip(packed.sketches()) {
            sketch::merge(merged.entry(group).or_default(), &bins);
        }
        (merged.keys().copied().collect::<Vec<i64>>(), Packed::of(merged.values()))
    });
    Ok((write(py, &numbers)?, merged.write(py)?))
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
    let packed = Packed::read(py, sizes, keys, counts, zeros)?;
    let values: Vec<f64> =
        py.detach(|| packed.sketches().map(|bins| sketch::quantile(&bins, q).unwrap_or(f64::NAN)).collect());
    write(py, &values)
}
