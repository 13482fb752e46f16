//! Windows with their sketches.

use telemetry::{Bins, Cause, Rows, SeriesRef, WindowRow};

use super::{SECOND, T, encoded};
use crate::Error;
use crate::expect::Vector;

pub fn row(series: u32, start: i64, bins: Bins) -> WindowRow {
    WindowRow {
        series: SeriesRef(series),
        start,
        length: 10 * SECOND,
        count: 10,
        sum: 215.5,
        min: 21.0,
        max: 22.25,
        first: (start + 1, 21.0),
        last: (start + 9 * SECOND, 0.1 + 0.2),
        bins,
    }
}

pub fn windows() -> Result<Vector, Error> {
    let mut rows = Rows::default();
    for series in 0..3 {
        for at in 0..4i64 {
            let bins = Bins {
                positive: (150..150 + at as i32).map(|key| (key, 3)).collect(),
                negative: if series == 1 {
                    vec![(i32::MIN, 1), (-7, u64::MAX), (i32::MAX, 2)]
                } else {
                    vec![]
                },
                zero: at as u64,
            };
            rows.windows.push(row(series, T + at * 10 * SECOND, bins));
        }
    }
    rows.count(Cause::ReducedWindow, 120);
    encoded("windows", "Windows of three series with sketches: positive, negative and zero bins.", rows)
}

pub fn partial_windows() -> Result<Vector, Error> {
    let mut rows = Rows::default();
    rows.windows.push(row(0, T, Bins { zero: 1, ..Bins::default() }));
    rows.windows.push(WindowRow {
        count: 1,
        sum: f64::NAN,
        ..row(0, T, Bins { zero: 2, ..Bins::default() })
    });
    rows.windows.push(WindowRow {
        length: i64::MAX,
        count: u64::MAX,
        min: f64::NEG_INFINITY,
        max: f64::INFINITY,
        first: (i64::MIN, -0.0),
        last: (i64::MAX, f64::MAX),
        ..row(7, i64::MIN, Bins::default())
    });
    encoded(
        "partial-windows",
        "Two rows of one window in the order they came, and one with everything at its end.",
        rows,
    )
}
