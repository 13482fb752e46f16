//! The table of windows, written and read: columns of equal length, sketches behind one another.

use telemetry::{Bins, SeriesRef, WindowRow};

use super::Window;
use crate::column::{self, Scratch};
use crate::error::{DecodeError, TooLarge};
use crate::limits::MAX_ROWS;
use crate::msgpack::{Reader, put_map, put_text};

const TABLE: &str = "the windows";
const SKETCH: &str = "the sketches";

/// Appends the table; gives the series numbers in it, ascending, each once.
pub(super) fn encode(
    out: &mut Vec<u8>,
    rows: &[WindowRow],
    mut number: impl FnMut(SeriesRef) -> u32,
    scratch: &mut Scratch,
) -> Result<Vec<u32>, TooLarge> {
    let mut rows: Vec<(u32, &WindowRow)> = rows.iter().map(|row| (number(row.series), row)).collect();
    rows.sort_by_key(|(id, row)| (*id, row.start));
    let ids: Vec<u32> = rows.iter().map(|(id, _)| *id).collect();
    // One segment a series: what is measured has one precision.
    let segments: Vec<u32> = ids.chunk_by(|a, b| a == b).map(|run| run.len() as u32).collect();
    let rows: Vec<&WindowRow> = rows.into_iter().map(|(_, row)| row).collect();

    put_map(out, 12);
    put_text(out, "id");
    column::encode(out, &ids, scratch);
    let mut integers = |name, of: fn(&WindowRow) -> i64| {
        put_text(out, name);
        column::encode(out, &rows.iter().map(|row| of(row)).collect::<Vec<_>>(), scratch);
    };
    integers("t0", |row| row.start);
    integers("len", |row| row.length);
    // From the window's start they are small numbers; here they are whole times, of which differences are taken.
    integers("ft", |row| row.first.0);
    integers("lt", |row| row.last.0);
    put_text(out, "n");
    column::encode(out, &rows.iter().map(|row| row.count).collect::<Vec<_>>(), scratch);
    let mut floats = |name, of: fn(&WindowRow) -> f64| {
        put_text(out, name);
        column::encode_floats(out, &rows.iter().map(|row| of(row)).collect::<Vec<_>>(), &segments, scratch);
    };
    floats("sum", |row| row.sum);
    floats("min", |row| row.min);
    floats("max", |row| row.max);
    floats("fv", |row| row.first.1);
    floats("lv", |row| row.last.1);
    put_text(out, "k");
    encode_sketches(out, &rows, scratch)?;
    let mut ids = ids;
    ids.dedup();
    Ok(ids)
}

fn encode_sketches(out: &mut Vec<u8>, rows: &[&WindowRow], scratch: &mut Scratch) -> Result<(), TooLarge> {
    let sides = || rows.iter().flat_map(|row| [&row.bins.positive, &row.bins.negative]);
    let bins: usize = sides().map(Vec::len).sum();
    if bins > MAX_ROWS {
        return Err(TooLarge { what: "bins of sketches", size: bins, max: MAX_ROWS });
    }
    put_map(out, 4);
    put_text(out, "n");
    column::encode(out, &sides().map(|side| side.len() as u32).collect::<Vec<_>>(), scratch);
    put_text(out, "key");
    column::encode(out, &sides().flatten().map(|bin| bin.0).collect::<Vec<_>>(), scratch);
    put_text(out, "cnt");
    column::encode(out, &sides().flatten().map(|bin| bin.1).collect::<Vec<_>>(), scratch);
    put_text(out, "zero");
    column::encode(out, &rows.iter().map(|row| row.bins.zero).collect::<Vec<_>>(), scratch);
    Ok(())
}

#[derive(Default)]
struct Columns {
    id: Option<Vec<u32>>,
    t0: Option<Vec<i64>>,
    len: Option<Vec<i64>>,
    n: Option<Vec<u64>>,
    sum: Option<Vec<f64>>,
    min: Option<Vec<f64>>,
    max: Option<Vec<f64>>,
    ft: Option<Vec<i64>>,
    fv: Option<Vec<f64>>,
    lt: Option<Vec<i64>>,
    lv: Option<Vec<f64>>,
    k: Option<Vec<Bins>>,
}

/// Puts a value where none is yet.
pub(super) fn once<T>(table: &'static str, place: &mut Option<T>, value: T) -> Result<(), DecodeError> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(DecodeError::Incomplete { table }),
    }
}

/// Reads the table.
pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Vec<Window>, DecodeError> {
    let mut found = Columns::default();
    for _ in 0..reader.map()? {
        let key = reader.text()?;
        let integers = |reader: &mut Reader<'_>| column::decode::<i64>(reader, MAX_ROWS);
        let floats = |reader: &mut Reader<'_>| column::decode_floats(reader, MAX_ROWS);
        match key {
            "id" => once(TABLE, &mut found.id, column::decode(reader, MAX_ROWS)?),
            "t0" => once(TABLE, &mut found.t0, integers(reader)?),
            "len" => once(TABLE, &mut found.len, integers(reader)?),
            "n" => once(TABLE, &mut found.n, column::decode(reader, MAX_ROWS)?),
            "sum" => once(TABLE, &mut found.sum, floats(reader)?),
            "min" => once(TABLE, &mut found.min, floats(reader)?),
            "max" => once(TABLE, &mut found.max, floats(reader)?),
            "ft" => once(TABLE, &mut found.ft, integers(reader)?),
            "fv" => once(TABLE, &mut found.fv, floats(reader)?),
            "lt" => once(TABLE, &mut found.lt, integers(reader)?),
            "lv" => once(TABLE, &mut found.lv, floats(reader)?),
            "k" => once(TABLE, &mut found.k, sketches(reader)?),
            _ => Err(DecodeError::UnknownKey { table: TABLE, key: key.to_owned() }),
        }?;
    }
    found.rows().ok_or(DecodeError::Incomplete { table: TABLE })?
}

impl Columns {
    /// `None` when a column is missing.
    fn rows(self) -> Option<Result<Vec<Window>, DecodeError>> {
        let (id, t0, len, n) = (self.id?, self.t0?, self.len?, self.n?);
        let (sum, min, max, mut bins) = (self.sum?, self.min?, self.max?, self.k?.into_iter());
        let (ft, fv, lt, lv) = (self.ft?, self.fv?, self.lt?, self.lv?);
        let rows = id.len();
        let integers = [&t0, &len, &ft, &lt].into_iter().all(|column| column.len() == rows);
        let floats = [&sum, &min, &max, &fv, &lv].into_iter().all(|column| column.len() == rows);
        if !integers || !floats || n.len() != rows || bins.len() != rows {
            return Some(Err(DecodeError::Inconsistent("the windows' columns differ in length")));
        }
        if n.contains(&0) || len.iter().any(|length| *length <= 0) {
            return Some(Err(DecodeError::Inconsistent("a window without samples or without length")));
        }
        if !(1..rows).all(|at| (id[at - 1], t0[at - 1]) <= (id[at], t0[at])) {
            return Some(Err(DecodeError::Inconsistent(
                "the windows aren't in the order of series and start",
            )));
        }
        let window = |at: usize| Window {
            id: id[at],
            start: t0[at],
            length: len[at],
            count: n[at],
            sum: sum[at],
            min: min[at],
            max: max[at],
            first: (ft[at], fv[at]),
            last: (lt[at], lv[at]),
            bins: bins.next().unwrap_or_default(),
        };
        Some(Ok((0..rows).map(window).collect()))
    }
}

fn sketches(reader: &mut Reader<'_>) -> Result<Vec<Bins>, DecodeError> {
    let (mut n, mut key, mut count, mut zero) = (None, None, None, None);
    for _ in 0..reader.map()? {
        match reader.text()? {
            "n" => once(SKETCH, &mut n, column::decode::<u32>(reader, 2 * MAX_ROWS)?),
            "key" => once(SKETCH, &mut key, column::decode::<i32>(reader, MAX_ROWS)?),
            "cnt" => once(SKETCH, &mut count, column::decode::<u64>(reader, MAX_ROWS)?),
            "zero" => once(SKETCH, &mut zero, column::decode::<u64>(reader, MAX_ROWS)?),
            other => Err(DecodeError::UnknownKey { table: SKETCH, key: other.to_owned() }),
        }?;
    }
    let (Some(n), Some(key), Some(count), Some(zero)) = (n, key, count, zero) else {
        return Err(DecodeError::Incomplete { table: SKETCH });
    };
    let bins: u64 = n.iter().map(|n| u64::from(*n)).sum();
    if n.len() != 2 * zero.len() || bins != key.len() as u64 || key.len() != count.len() {
        return Err(DecodeError::Inconsistent("the sketches' columns differ in length"));
    }
    let mut all = key.into_iter().zip(count);
    let mut side = |n: u32| all.by_ref().take(n as usize).collect();
    let sketch = |(n, zero): (&[u32], u64)| Bins { positive: side(n[0]), negative: side(n[1]), zero };
    Ok(n.chunks_exact(2).zip(zero).map(sketch).collect())
}
