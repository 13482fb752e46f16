//! The agent's fold over columns: what an agent with this configuration and these models would ship.

use std::collections::HashMap;

use fold::Fold;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use score::OnnxScorer;
use telemetry::{
    Cause, DeviceClock, Intake, Record, Rows, SeriesDef, SeriesKey, SeriesRef, SeriesTable, Stamp,
};

use crate::columns::{Samples, keys, read, refused, write};
use crate::sketch::pack;

/// Replays samples through a fold. `records` are R + 1 offsets that cut the samples into what arrived
/// together, `arrivals` the R times of arrival in ns, never falling; a tick is put in for each `tick_ns` that passes, and
/// `drain` after the last. Models are (slot, manifest, ONNX). Gives a dict: `series` as (name, labels), the
/// columns `samples` and `windows` by index into it, `counts` by cause, `status` as JSON.
#[pyfunction]
#[pyo3(signature = (config, names, labels, series, times, values, records, arrivals, models=vec![], tick_ns=1_000_000_000, drain_ns=30_000_000_000))]
#[expect(clippy::too_many_arguments, reason = "columns, each by its name in Python")]
pub(crate) fn fold_replay<'py>(
    py: Python<'py>,
    config: Vec<u8>,
    names: Vec<String>,
    labels: Vec<HashMap<String, String>>,
    series: &Bound<'py, PyAny>,
    times: &Bound<'py, PyAny>,
    values: &Bound<'py, PyAny>,
    records: &Bound<'py, PyAny>,
    arrivals: &Bound<'py, PyAny>,
    models: Vec<(String, Vec<u8>, Vec<u8>)>,
    tick_ns: i64,
    drain_ns: i64,
) -> PyResult<Bound<'py, PyDict>> {
    let keys = keys(names, labels)?;
    let samples = Samples::read(py, series, times, values, keys.len())?;
    let records: Vec<i64> = read(py, "records", records)?;
    let arrivals: Vec<i64> = read(py, "arrivals", arrivals)?;
    check(&samples, &records, &arrivals, tick_ns, drain_ns)?;
    let table = SeriesTable::new(usize::MAX);
    let mut replay = Replay {
        fold: Fold::new(table.clone(), Box::new(OnnxScorer::new())),
        position: 0,
        rows: Rows::default(),
    };
    py.detach(|| {
        let refs: Vec<SeriesRef> = keys.into_iter().map(|key| table.restore(SeriesDef::bare(key))).collect();
        replay.run(config, models, &samples, &refs, &records, &arrivals, (tick_ns, drain_ns));
    });
    replay.result(py, &table)
}

fn check(samples: &Samples, records: &[i64], arrivals: &[i64], tick: i64, drain: i64) -> PyResult<()> {
    let n = samples.times.len() as i64;
    let whole = records.first() == Some(&0) && records.last() == Some(&n) && records.is_sorted();
    if !whole || records.len() != arrivals.len() + 1 {
        return Err(refused(format!(
            "records must be {} offsets that rise from 0 to {n}",
            arrivals.len() + 1
        )));
    }
    if !arrivals.is_sorted() || arrivals.first().is_some_and(|first| *first < 0) {
        return Err(refused("arrivals must not fall, nor be before 1970"));
    }
    // Each tick is work: a hole of years between two arrivals must not become a loop without end.
    let span = arrivals.last().unwrap_or(&0) - arrivals.first().unwrap_or(&0);
    if tick <= 0 || drain < 0 || (span.saturating_add(drain)) / tick > 100_000_000 {
        return Err(refused(format!("ticks of {tick} ns over {span} ns and {drain} ns are too many")));
    }
    Ok(())
}

struct Replay {
    fold: Fold,
    position: u64,
    rows: Rows,
}

impl Replay {
    fn apply(&mut self, record: &Record) {
        self.position += 1;
        self.fold.apply(self.position, record, &mut self.rows);
    }

    #[expect(clippy::too_many_arguments, reason = "what fold_replay was given")]
    fn run(
        &mut self,
        config: Vec<u8>,
        models: Vec<(String, Vec<u8>, Vec<u8>)>,
        samples: &Samples,
        refs: &[SeriesRef],
        records: &[i64],
        arrivals: &[i64],
        (tick, drain): (i64, i64),
    ) {
        // History may be older than any clock that counts as set: the wall time only says what is too far ahead.
        let stamp = |at: i64| Stamp { wall: at.max(telemetry::clock::SET_AFTER), mono: at as u64 };
        let mut now = arrivals.first().copied().unwrap_or(0);
        self.apply(&Record::Config { stamp: stamp(now), generation: 1, config });
        for (slot, manifest, onnx) in models {
            self.apply(&Record::Model { stamp: stamp(now), slot, model: Some((manifest, onnx)) });
        }
        for (at, arrival) in arrivals.iter().enumerate() {
            self.pass(&mut now, *arrival, tick);
            let mut intake = Intake::new(0, stamp(*arrival));
            let mut places: HashMap<i64, u32> = HashMap::new();
            for sample in records[at] as usize..records[at + 1] as usize {
                let series = samples.series[sample];
                let place = *places.entry(series).or_insert_with(|| {
                    intake.series.push(refs[series as usize]);
                    (intake.series.len() - 1) as u32
                });
                intake.push(place, samples.times[sample], samples.values[sample], 0);
            }
            intake.counts.add(Cause::Received, intake.index.len() as u64);
            self.apply(&Record::Intake(intake));
        }
        let end = now.saturating_add(drain);
        self.pass(&mut now, end, tick);
    }

    fn pass(&mut self, now: &mut i64, until: i64, tick: i64) {
        while until - *now >= tick {
            *now += tick;
            let at = Stamp { wall: *now, mono: *now as u64 };
            self.apply(&Record::Tick(DeviceClock { at, boot: [0; 16], synced: true }));
        }
    }

    fn result<'py>(&self, py: Python<'py>, table: &SeriesTable) -> PyResult<Bound<'py, PyDict>> {
        let rows = &self.rows;
        let index = |series: &[SeriesRef]| series.iter().map(|at| i64::from(at.0)).collect::<Vec<_>>();
        let flags = if rows.flags.is_empty() { vec![0; rows.series.len()] } else { rows.flags.clone() };
        let samples = PyDict::new(py);
        samples.set_item("series", write(py, &index(&rows.series))?)?;
        samples.set_item("times", write(py, &rows.times)?)?;
        samples.set_item("values", write(py, &rows.values)?)?;
        samples.set_item("flags", write(py, &flags)?)?;
        let counts = PyDict::new(py);
        for (cause, n) in rows.counts.iter() {
            counts.set_item(cause.name(), n)?;
        }
        let series = (0..table.len() as u32).filter_map(|at| table.get(SeriesRef(at)));
        let series: Vec<_> = series.map(|def| (def.key.name().to_owned(), labels(&def.key))).collect();
        let status =
            serde_json::to_string(&self.fold.status()).map_err(|error| refused(error.to_string()))?;
        let out = PyDict::new(py);
        out.set_item("series", series)?;
        out.set_item("samples", samples)?;
        out.set_item("windows", self.windows(py)?)?;
        out.set_item("counts", counts)?;
        out.set_item("status", status)?;
        Ok(out)
    }

    fn windows<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let windows = &self.rows.windows;
        let whole = |f: &dyn Fn(&telemetry::WindowRow) -> i64| windows.iter().map(f).collect::<Vec<_>>();
        let float = |f: &dyn Fn(&telemetry::WindowRow) -> f64| windows.iter().map(f).collect::<Vec<_>>();
        let out = PyDict::new(py);
        out.set_item("series", write(py, &whole(&|window| i64::from(window.series.0)))?)?;
        out.set_item("start", write(py, &whole(&|window| window.start))?)?;
        out.set_item("length", write(py, &whole(&|window| window.length))?)?;
        out.set_item("count", write(py, &windows.iter().map(|window| window.count).collect::<Vec<_>>())?)?;
        out.set_item("sum", write(py, &float(&|window| window.sum))?)?;
        out.set_item("min", write(py, &float(&|window| window.min))?)?;
        out.set_item("max", write(py, &float(&|window| window.max))?)?;
        out.set_item("first_time", write(py, &whole(&|window| window.first.0))?)?;
        out.set_item("first", write(py, &float(&|window| window.first.1))?)?;
        out.set_item("last_time", write(py, &whole(&|window| window.last.0))?)?;
        out.set_item("last", write(py, &float(&|window| window.last.1))?)?;
        out.set_item("sketch", pack(py, &windows.iter().map(|window| &window.bins).collect::<Vec<_>>())?)?;
        Ok(out)
    }
}

fn labels(key: &SeriesKey) -> HashMap<String, String> {
    key.labels().map(|(label, value)| (label.to_owned(), value.to_owned())).collect()
}
