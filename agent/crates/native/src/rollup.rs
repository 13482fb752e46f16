//! Sketches of rollups, as columns: the packed bytes of all rows one after the other (telemetry::packed), where each row's
//! begin and the last one's end, and the rows' own figures (count, sum, minimum, maximum), which tell what takes no bytes.

use std::collections::BTreeMap;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use telemetry::packed::{Builder, Figures, Known, fits, pack};

use crate::columns::{read, refused, write};
use crate::sketch::{Columns, Packed};

/// Counts (int64), sums, minima and maxima (float64) of rows, as Python gives them.
type Says<'py> = (Bound<'py, PyAny>, Bound<'py, PyAny>, Bound<'py, PyAny>, Bound<'py, PyAny>);
/// Packed sketches of rows, as Python takes them.
type Written<'py> = (Bound<'py, PyBytes>, Bound<'py, PyAny>);

/// Figures of rows, copied out of Python.
fn figures(py: Python<'_>, says: &Says<'_>) -> PyResult<Vec<Figures>> {
    let counts: Vec<i64> = read(py, "counts", &says.0)?;
    let sums: Vec<f64> = read(py, "sums", &says.1)?;
    let mins: Vec<f64> = read(py, "minima", &says.2)?;
    let maxs: Vec<f64> = read(py, "maxima", &says.3)?;
    if [sums.len(), mins.len(), maxs.len()] != [counts.len(); 3] {
        return Err(refused("the figures of rows differ in length"));
    }
    let columns = counts.into_iter().zip(sums).zip(mins.into_iter().zip(maxs));
    columns
        .map(|((count, sum), (min, max))| match u64::try_from(count) {
            Ok(count) => Ok(Figures { count, sum, min, max }),
            Err(_) => Err(refused(format!("a row counts {count} readings"))),
        })
        .collect()
}

/// Rows with their packed sketches.
struct Rows {
    data: Vec<u8>,
    offsets: Vec<i64>,
    says: Vec<Figures>,
}

impl Rows {
    fn read(py: Python<'_>, data: &[u8], offsets: &Bound<'_, PyAny>, says: &Says<'_>) -> PyResult<Self> {
        let rows =
            Self { data: data.to_vec(), offsets: read(py, "offsets", offsets)?, says: figures(py, says)? };
        let ascending = rows.offsets.is_sorted() && rows.offsets.first() == Some(&0);
        if rows.offsets.len() != rows.says.len() + 1
            || !ascending
            || rows.offsets.last() != Some(&(rows.data.len() as i64))
        {
            return Err(refused("the offsets of the sketches don't fit their bytes and rows"));
        }
        Ok(rows)
    }

    fn len(&self) -> usize {
        self.says.len()
    }

    /// Adds a row's readings.
    fn add(&self, row: usize, builder: &mut Builder) -> Result<(), usize> {
        let bytes = &self.data[self.offsets[row] as usize..self.offsets[row + 1] as usize];
        builder.add_packed(bytes, &self.says[row]).map_err(|_| row)
    }
}

/// What is written: packed sketches one after the other.
#[derive(Default)]
struct Out {
    data: Vec<u8>,
    offsets: Vec<i64>,
    known: Known,
}

impl Out {
    fn new(rows: usize) -> Self {
        let mut offsets = Vec::with_capacity(rows + 1);
        offsets.push(0);
        Self { offsets, ..Self::default() }
    }

    fn put(&mut self, builder: &mut Builder, says: &Figures) {
        builder.take(&mut self.known);
        pack(&self.known, says, &mut self.data);
        self.offsets.push(self.data.len() as i64);
    }

    fn write<'py>(&self, py: Python<'py>) -> PyResult<Written<'py>> {
        Ok((PyBytes::new(py, &self.data), write(py, &self.offsets)?))
    }
}

/// Where stretches begin, checked: ascending from 0, none beyond the end; one for each row that is made.
fn stretches(py: Python<'_>, starts: &Bound<'_, PyAny>, items: usize, rows: usize) -> PyResult<Vec<usize>> {
    let starts: Vec<i64> = read(py, "starts", starts)?;
    let inside = starts.first().is_none_or(|first| *first == 0)
        && starts.last().is_none_or(|last| *last as usize <= items)
        && starts.is_sorted();
    if starts.len() != rows || !inside || (rows == 0 && items > 0) {
        return Err(refused(format!("{} stretches of {items} items for {rows} rows", starts.len())));
    }
    Ok(starts.into_iter().map(|start| start as usize).chain([items]).collect())
}

/// Says which row's bytes are no sketch; Python finds the row in the error's arguments.
fn damaged(row: usize) -> PyErr {
    PyValueError::new_err((format!("the sketch of row {row} is damaged"), row))
}

/// Makes a sketch of each stretch of values, for the row with these figures.
#[pyfunction]
pub(crate) fn rollup_samples<'py>(
    py: Python<'py>,
    values: &Bound<'py, PyAny>,
    starts: &Bound<'py, PyAny>,
    says: Says<'py>,
) -> PyResult<Written<'py>> {
    let values: Vec<f64> = read(py, "values", values)?;
    let says = figures(py, &says)?;
    let edges = stretches(py, starts, values.len(), says.len())?;
    let out = py.detach(|| {
        let (mut builder, mut out) = (Builder::default(), Out::new(says.len()));
        for (edge, says) in edges.windows(2).zip(&says) {
            values[edge[0]..edge[1]].iter().for_each(|value| builder.add(*value));
            out.put(&mut builder, says);
        }
        out
    });
    out.write(py)
}

/// Packs the sketch of each window; readings of one that has none, or none that can be its own, are missing.
#[pyfunction]
pub(crate) fn rollup_windows<'py>(
    py: Python<'py>,
    sizes: &Bound<'py, PyAny>,
    keys: &Bound<'py, PyAny>,
    counts: &Bound<'py, PyAny>,
    zeros: &Bound<'py, PyAny>,
    says: Says<'py>,
) -> PyResult<Written<'py>> {
    let packed = Packed::read(py, sizes, keys, counts, zeros)?;
    let says = figures(py, &says)?;
    if packed.len() != says.len() {
        return Err(refused(format!("{} sketches of {} windows", packed.len(), says.len())));
    }
    let out = py.detach(|| {
        let (mut builder, mut out) = (Builder::default(), Out::new(says.len()));
        for (bins, says) in packed.sketches().zip(&says) {
            builder.add_window(&bins, says);
            out.put(&mut builder, says);
        }
        out
    });
    out.write(py)
}

/// Merges the sketches of each stretch of rows, for the row with the figures `into`. The readings of a damaged one are missing:
/// what is made of the others goes on, and whoever asks is told.
#[pyfunction]
pub(crate) fn rollup_merge<'py>(
    py: Python<'py>,
    data: &[u8],
    offsets: &Bound<'py, PyAny>,
    says: Says<'py>,
    starts: &Bound<'py, PyAny>,
    into: Says<'py>,
) -> PyResult<Written<'py>> {
    let rows = Rows::read(py, data, offsets, &says)?;
    let into = figures(py, &into)?;
    let edges = stretches(py, starts, rows.len(), into.len())?;
    let out = py.detach(|| {
        let (mut builder, mut out) = (Builder::default(), Out::new(into.len()));
        for (edge, says) in edges.windows(2).zip(&into) {
            for row in edge[0]..edge[1] {
                if rows.add(row, &mut builder).is_err() {
                    builder.add_missing(rows.says[row].count);
                }
            }
            out.put(&mut builder, says);
        }
        out
    });
    out.write(py)
}

/// Merges the sketches of each group of rows; groups come back ascending. Also gives how many readings each row's sketch
/// knows nothing of.
#[pyfunction]
pub(crate) fn rollup_group<'py>(
    py: Python<'py>,
    data: &[u8],
    offsets: &Bound<'py, PyAny>,
    says: Says<'py>,
    groups: &Bound<'py, PyAny>,
) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>, Columns<'py>)> {
    let rows = Rows::read(py, data, offsets, &says)?;
    let groups: Vec<i64> = read(py, "groups", groups)?;
    if groups.len() != rows.len() {
        return Err(refused(format!("{} groups of {} rows", groups.len(), rows.len())));
    }
    let merged = py.detach(|| {
        let mut members: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
        for (row, group) in groups.iter().enumerate() {
            members.entry(*group).or_default().push(row);
        }
        let mut builder = Builder::default();
        let mut missing = vec![0; rows.len()];
        let mut found = Vec::with_capacity(members.len());
        for some in members.values() {
            for row in some {
                let before = builder.missing();
                rows.add(*row, &mut builder)?;
                missing[*row] = builder.missing() - before;
            }
            let mut known = Known::default();
            builder.take(&mut known);
            found.push(known.bins);
        }
        Ok((members.into_keys().collect::<Vec<i64>>(), missing, found))
    });
    let (numbers, missing, found): (_, Vec<u64>, _) = merged.map_err(damaged)?;
    let columns = Packed::of(found.iter()).write(py)?;
    Ok((write(py, &numbers)?, write(py, &missing)?, columns))
}

/// Tells what is wrong with each row's sketch: 0 nothing, 1 its bytes were changed, 2 it doesn't fit the row's figures.
#[pyfunction]
pub(crate) fn rollup_faults<'py>(
    py: Python<'py>,
    data: &[u8],
    offsets: &Bound<'py, PyAny>,
    says: Says<'py>,
) -> PyResult<Bound<'py, PyAny>> {
    let rows = Rows::read(py, data, offsets, &says)?;
    let faults: Vec<u8> = py.detach(|| {
        let mut known = Known::default();
        let one = |row| {
            let mut builder = Builder::default();
            if rows.add(row, &mut builder).is_err() {
                return 1;
            }
            builder.take(&mut known);
            if fits(&known, &rows.says[row]) { 0 } else { 2 }
        };
        (0..rows.len()).map(one).collect()
    });
    write(py, &faults)
}
