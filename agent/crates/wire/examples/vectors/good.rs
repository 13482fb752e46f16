//! Payloads that every reader must take: which there are, and how one is made of rows.

mod columns;
mod events;
mod samples;
mod windows;

use telemetry::{Rows, SeriesRef, WindowRow};
use wire::payload::Window;

use crate::Error;
use crate::expect::{Series, Vector};

const T: i64 = 1_700_000_000_000_000_000;
const SECOND: i64 = 1_000_000_000;

pub fn vectors() -> Result<Vec<Vector>, Error> {
    let mut all = vec![
        encoded("empty", "Nothing at all: no samples, no windows, no events, no counts.", Rows::default())?,
        samples::one_sample()?,
        samples::shared_timeline()?,
        samples::order_of_arrival()?,
        samples::special_values()?,
        samples::ends_of_time()?,
        samples::large_values()?,
        samples::decimals_by_series()?,
        samples::flags()?,
        events::counts()?,
        windows::windows()?,
        windows::partial_windows()?,
        events::events()?,
        events::everything()?,
        samples::long()?,
    ];
    all.extend(columns::times_by_hand()?);
    all.extend(columns::values_by_hand()?);
    all.extend(columns::columns_of_other_types()?);
    Ok(all)
}

/// The series of some rows, as the wire orders them. Numbers are 100 - the row's reference.
fn expected(rows: &Rows) -> Vec<Series> {
    let mut order: Vec<usize> = (0..rows.series.len()).collect();
    order.sort_by_key(|at| (number(rows.series[*at]), rows.times[*at]));
    let mut list: Vec<Series> = Vec::new();
    for at in order {
        let id = number(rows.series[at]);
        if list.last().is_none_or(|last| last.id != id) {
            list.push(Series { id, ..Series::default() });
        }
        if let Some(series) = list.last_mut() {
            series.times.push(rows.times[at]);
            series.values.push(rows.values[at]);
            if rows.flags.iter().any(|flags| *flags != 0) {
                series.flags.push(rows.flags[at]);
            }
        }
    }
    list
}

fn number(series: SeriesRef) -> u32 {
    100 - series.0
}

fn encoded(name: &'static str, about: &'static str, rows: Rows) -> Result<Vector, Error> {
    let payload = wire::payload::encode(&rows, number)?.bytes;
    let mut windows: Vec<Window> = rows.windows.iter().map(window).collect();
    windows.sort_by_key(|window| (window.id, window.start));
    Ok(Vector {
        name,
        about,
        payload,
        counts: rows.counts.iter().map(|(cause, count)| (cause as u8, count)).collect(),
        series: expected(&rows),
        windows,
        events: rows.events,
    })
}

fn window(row: &WindowRow) -> Window {
    Window {
        id: number(row.series),
        start: row.start,
        length: row.length,
        count: row.count,
        sum: row.sum,
        min: row.min,
        max: row.max,
        first: row.first,
        last: row.last,
        bins: row.bins.clone(),
    }
}
