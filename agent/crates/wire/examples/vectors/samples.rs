//! Samples as the encoder writes them: times, values and flags at their edges.

use telemetry::{Cause, Rows, SampleFlags, SeriesRef};

use super::{SECOND, T, encoded};
use crate::Error;
use crate::expect::Vector;

pub fn one_sample() -> Result<Vector, Error> {
    let mut rows = Rows::default();
    rows.push_sample(SeriesRef(0), T, 21.5, 0);
    rows.count(Cause::Received, 1);
    rows.count(Cause::Shipped, 1);
    encoded("one-sample", "One sample of one series.", rows)
}

pub fn shared_timeline() -> Result<Vector, Error> {
    let mut rows = Rows::default();
    for at in 0..12i64 {
        for series in 0..8u32 {
            rows.push_sample(SeriesRef(series), T + at * SECOND, f64::from(series) + at as f64 / 100.0, 0);
        }
        rows.push_sample(SeriesRef(8), T + at * SECOND + 7, 0.5, 0);
    }
    encoded("shared-timeline", "Eight series read together share one timeline; a ninth has its own.", rows)
}

pub fn order_of_arrival() -> Result<Vector, Error> {
    let mut rows = Rows::default();
    for (time, value) in [(5, 1.0), (3, 2.0), (5, 3.0), (4, 4.0), (5, 5.0), (3, 6.0)] {
        rows.push_sample(SeriesRef(2), T + time, value, 0);
    }
    rows.push_sample(SeriesRef(50), T, 9.0, 0);
    encoded("order", "Late samples are sorted by time; of equal times the order of arrival stays.", rows)
}

pub fn special_values() -> Result<Vector, Error> {
    let bits = [
        0x7ff8_0000_0000_0000, // NaN
        0xfff8_0000_0000_0001, // NaN with a sign and a payload
        0x7ff0_0000_0000_0001, // a signalling NaN
        0x7fff_ffff_ffff_ffff,
        0x7ff0_0000_0000_0000, // infinity
        0xfff0_0000_0000_0000,
        0x8000_0000_0000_0000, // -0.0
        0x0000_0000_0000_0000,
        0x0000_0000_0000_0001, // the smallest subnormal
        0x800f_ffff_ffff_ffff, // the largest, negative
        0x0010_0000_0000_0000, // the smallest normal
        0x7fef_ffff_ffff_ffff, // the largest
        0x3fb9_9999_9999_999a, // 0.1
        0x3fd3_3333_3333_3334, // 0.1 + 0.2
    ];
    let mut rows = Rows::default();
    for (at, bits) in bits.into_iter().enumerate() {
        rows.push_sample(SeriesRef(0), T + at as i64, f64::from_bits(bits), 0);
        rows.push_sample(SeriesRef(1), T + at as i64, f64::from_bits(0x8000_0000_0000_0000), 0);
        rows.push_sample(SeriesRef(2), T + at as i64, f64::from_bits(0x7ff8_dead_beef_0001), 0);
    }
    encoded("special-values", "NaN with payloads, infinities, -0.0, subnormals: every bit comes back.", rows)
}

pub fn ends_of_time() -> Result<Vector, Error> {
    let mut rows = Rows::default();
    for time in [i64::MIN, i64::MIN + 1, -1, 0, 1, i64::MAX - 1, i64::MAX] {
        rows.push_sample(SeriesRef(0), time, time as f64, 0);
    }
    rows.push_sample(SeriesRef(1), i64::MAX, 1.0, 0);
    rows.push_sample(SeriesRef(1), i64::MIN, 2.0, 0);
    rows.push_sample(SeriesRef(1), 0, 3.0, 0);
    encoded("ends-of-time", "Times at both ends of i64: differences wrap at 64 bits.", rows)
}

pub fn large_values() -> Result<Vector, Error> {
    let mut rows = Rows::default();
    let exact = (1u64 << 53) as f64;
    let values = [
        exact,
        -exact,
        exact - 1.0,
        1.0 - exact,
        (1u64 << 51) as f64,
        1e15 + 0.5,
        123_456_789.123_456_79,
        -1e-9,
        1e300,
    ];
    for (at, value) in values.into_iter().enumerate() {
        rows.push_sample(SeriesRef(0), T + at as i64, value, 0);
        rows.push_sample(SeriesRef(1), T + at as i64, (at as f64 - 4.0) * 1e14, 0);
        rows.push_sample(SeriesRef(2), T + at as i64, f64::from(at as u32) * 1e-9, 0);
    }
    encoded("large-values", "Values around 2^53 and the ends of what decimals hold.", rows)
}

pub fn decimals_by_series() -> Result<Vector, Error> {
    let mut rows = Rows::default();
    for at in 0..40i64 {
        let noise = (at * 7919) % 13;
        let values = [
            20.5 + at as f64 / 10.0,                // one decimal, rising
            (101_325 + noise) as f64 / 100.0,       // noise around a level
            noise as f64 / 1e7,                     // seven decimals
            1.0 / (1.0 + at as f64),                // no decimal form
            -273.15,                                // constant
            (at * at) as f64 * 1e9,                 // large steps
            if at == 20 { f64::NAN } else { 0.25 }, // one value that is none
        ];
        for (series, value) in values.into_iter().enumerate() {
            rows.push_sample(SeriesRef(series as u32), T + at * SECOND, value, 0);
        }
    }
    encoded("decimals-by-series", "Each series has decimals of its own (encoding 8).", rows)
}

pub fn flags() -> Result<Vector, Error> {
    let mut rows = Rows::default();
    for at in 0..20i64 {
        let flags = match at {
            3 => SampleFlags::ARRIVAL_TIME,
            4 => SampleFlags::RETAINED | SampleFlags::CLOCK_UNCERTAIN,
            19 => 0xff,
            _ => 0,
        };
        rows.push_sample(SeriesRef(at as u32 % 2), T + at, 1.0, flags);
    }
    encoded("flags", "Some samples carry marks, unknown ones too.", rows)
}

pub fn long() -> Result<Vector, Error> {
    let mut rows = Rows::default();
    for at in 0..1000i64 {
        rows.push_sample(SeriesRef(0), T + at * SECOND + (at % 3), 20.0 + ((at * at) % 101) as f64 / 10.0, 0);
        rows.push_sample(SeriesRef(1), T + at * SECOND, (at as f64 / 50.0).sin(), 0);
    }
    encoded(
        "long",
        "Two series of a thousand samples: jitter in one timeline, no decimals in one column.",
        rows,
    )
}
