//! Columns written by hand, each in a form that a reader must take.

use crate::Error;
use crate::byhand::{Document, Value, column, f64s, i64s, planes, raw, samples, u32s};
use crate::expect::{Series, Vector};

/// One series whose columns were written by hand.
fn byhand(
    name: &'static str,
    about: &'static str,
    times: Value,
    values: Value,
    t: Vec<i64>,
    v: Vec<f64>,
) -> Result<Vector, Error> {
    let payload = Document::series(t.len() as u32, times, values).pack()?;
    let series = vec![Series { id: 1, times: t, values: v, flags: vec![] }];
    Ok(Vector { name, about, payload, series, ..Vector::default() })
}

pub fn times_by_hand() -> Result<Vec<Vector>, Error> {
    let of = |n: usize| f64s(&vec![1.5; n]);
    let ones = |n: usize| vec![1.5; n];
    let wide = 0x0102_0304_0506_0708i64;
    let far: Vec<u8> = [wide, 2].iter().flat_map(|step| step.to_le_bytes()).collect();
    Ok(vec![
        byhand("t-raw", "Times: encoding 0.", i64s(&[5, 6, 9]), of(3), vec![5, 6, 9], ones(3))?,
        byhand(
            "t-raw-planes",
            "Times: encoding 16.",
            column(16, 2, &[], planes(8, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16])),
            of(2),
            vec![0x0807_0605_0403_0201, 0x100f_0e0d_0c0b_0a09],
            ones(2),
        )?,
        byhand(
            "t-constant",
            "Times: encoding 1.",
            column(1, 4, &[], 9i64.to_le_bytes()),
            of(4),
            vec![9; 4],
            ones(4),
        )?,
        byhand(
            "t-delta",
            "Times: encoding 2, width 1, and wrapping.",
            column(2, 4, &[1, i128::from(i64::MAX)], [0, 0, 0]),
            of(4),
            vec![i64::MAX; 4],
            ones(4),
        )?,
        byhand(
            "t-delta-8",
            "Times: encoding 2, width 8.",
            column(2, 3, &[8, 10], far),
            of(3),
            vec![10, 10 + wide, 12 + wide],
            ones(3),
        )?,
        byhand(
            "t-delta-planes",
            "Times: encoding 18, width 2.",
            column(18, 4, &[2, -3], planes(2, &[1, 0, 2, 1, 0, 0])),
            of(4),
            vec![-3, -2, 256, 256],
            ones(4),
        )?,
        byhand(
            "t-delta-zigzag",
            "Times: encoding 34, width 1.",
            column(34, 4, &[1, 7], [2, 4, 0]),
            of(4),
            vec![7, 8, 10, 10],
            ones(4),
        )?,
        byhand(
            "t-delta-zigzag-planes",
            "Times: encoding 50, width 4.",
            column(50, 3, &[4, 0], planes(4, &[2, 0, 0, 0, 0, 0, 1, 0])),
            of(3),
            vec![0, 1, 32_769],
            ones(3),
        )?,
        byhand(
            "t-dod",
            "Times: encoding 3, width 1.",
            column(3, 5, &[1, 100, 10], [0, 1, 0xff]),
            of(5),
            vec![100, 110, 120, 131, 141],
            ones(5),
        )?,
        byhand(
            "t-dod-two",
            "Times: encoding 3 with two items has no data.",
            column(3, 2, &[1, i128::from(i64::MIN), -1], []),
            of(2),
            vec![i64::MIN, i64::MAX],
            ones(2),
        )?,
        byhand(
            "t-dod-zigzag-planes",
            "Times: encoding 51, width 2.",
            column(51, 5, &[2, 0, 1000], planes(2, &[0, 1, 1, 0, 0, 0])),
            of(5),
            vec![0, 1000, 2128, 3255, 4382],
            ones(5),
        )?,
        byhand(
            "t-run-length",
            "Times: encoding 5.",
            column(
                5,
                5,
                &[2],
                [
                    3u32.to_le_bytes().to_vec(),
                    2u32.to_le_bytes().to_vec(),
                    4i64.to_le_bytes().to_vec(),
                    8i64.to_le_bytes().to_vec(),
                ]
                .concat(),
            ),
            of(5),
            vec![4, 4, 4, 8, 8],
            ones(5),
        )?,
    ])
}

pub fn values_by_hand() -> Result<Vec<Vector>, Error> {
    let t = |n: usize| -> Vec<i64> { (0..n as i64).collect() };
    let segments = |scales: &[u8], lengths: &[u32], bases: &[i64], steps: Value, rest: Value, n: i128| {
        Value::Array(vec![
            Value::Int(8),
            Value::Int(n),
            u32s(lengths),
            column(0, scales.len() as i128, &[], scales),
            i64s(bases),
            steps,
            rest,
        ])
    };
    let narrow = |items: &[u8]| column(6, items.len() as i128, &[1], items);
    let nan = f64::from_bits(0x7ff8_0000_0000_0001);
    Ok(vec![
        byhand(
            "v-constant",
            "Values: encoding 1, a NaN with a payload.",
            i64s(&t(3)),
            column(1, 3, &[], nan.to_le_bytes()),
            t(3),
            vec![nan; 3],
        )?,
        byhand(
            "v-raw-planes",
            "Values: encoding 16.",
            i64s(&t(2)),
            column(16, 2, &[], planes(8, &[1.5f64.to_le_bytes(), (-0.0f64).to_le_bytes()].concat())),
            t(2),
            vec![1.5, -0.0],
        )?,
        byhand(
            "v-decimal",
            "Values: encoding 4, one decimal.",
            i64s(&t(4)),
            column(4, 4, &[1, 1, 205], [1, 0xfe, 0]),
            t(4),
            vec![20.5, 20.6, 20.4, 20.4],
        )?,
        byhand(
            "v-decimal-planes",
            "Values: encoding 20, nine decimals, width 4.",
            i64s(&t(3)),
            column(20, 3, &[9, 4, -1], planes(4, &[[2, 0, 0, 0], [0, 0, 0, 0x80]].concat())),
            t(3),
            vec![-1e-9, 1e-9, -2.147_483_647],
        )?,
        byhand(
            "v-decimal-zigzag",
            "Values: encoding 36, whole numbers, width 2.",
            i64s(&t(3)),
            column(36, 3, &[0, 2, 0], [1, 0, 0xff, 0xff]),
            t(3),
            vec![0.0, -1.0, -32_769.0],
        )?,
        byhand(
            "v-decimal-edge",
            "Values: encoding 4 at the last whole number below 2^53.",
            i64s(&t(2)),
            column(4, 2, &[0, 1, (1 << 53) - 2], [1]),
            t(2),
            vec![9_007_199_254_740_990.0, 9_007_199_254_740_991.0],
        )?,
        byhand(
            "v-run-length",
            "Values: encoding 5.",
            i64s(&t(4)),
            column(
                5,
                4,
                &[2],
                [
                    1u32.to_le_bytes().to_vec(),
                    3u32.to_le_bytes().to_vec(),
                    1.25f64.to_le_bytes().to_vec(),
                    (-0.0f64).to_le_bytes().to_vec(),
                ]
                .concat(),
            ),
            t(4),
            vec![1.25, -0.0, -0.0, -0.0],
        )?,
        byhand(
            "v-segments",
            "Values: encoding 8 with segments of each kind, cut elsewhere than at series.",
            i64s(&t(9)),
            segments(
                &[1, 255, 34, 0],
                &[3, 2, 3, 1],
                &[205, 1000, -5],
                narrow(&[2, 3, 0, 1, 4]),
                f64s(&[nan, f64::INFINITY]),
                9,
            ),
            t(9),
            vec![20.5, 20.6, 20.4, nan, f64::INFINITY, 10.0, 9.99, 10.02, -5.0],
        )?,
        byhand(
            "v-segments-inner",
            "Values: encoding 8 whose parts are constant, delta and decimal columns themselves.",
            i64s(&t(6)),
            Value::Array(vec![
                Value::Int(8),
                Value::Int(6),
                column(1, 3, &[], 2u32.to_le_bytes()),
                column(
                    5,
                    3,
                    &[2],
                    [2u32.to_le_bytes().to_vec(), 1u32.to_le_bytes().to_vec(), vec![2, 255]].concat(),
                ),
                column(34, 2, &[1, -100], [3]),
                column(1, 2, &[], 2u64.to_le_bytes()),
                column(4, 2, &[1, 1, 1], [1]),
            ]),
            t(6),
            vec![-1.0, -0.99, -1.02, -1.01, 0.1, 0.2],
        )?,
    ])
}

/// u32, i32, u64 and u8 columns in forms of their own.
pub fn columns_of_other_types() -> Result<Vec<Vector>, Error> {
    let series = |id: u32, times: &[i64], value: f64| Series {
        id,
        times: times.to_vec(),
        values: vec![value; times.len()],
        flags: vec![],
    };
    let two = |ids: Value, lines: Value, lengths: Value, flags: Value| Document {
        timelines: Value::Array(vec![i64s(&[5]), i64s(&[6])]),
        samples: samples(ids, lines, lengths, column(1, 2, &[], 2.5f64.to_le_bytes()), flags),
        ..Document::empty()
    };
    let list = |first: u32, second: u32| vec![series(first, &[6], 2.5), series(second, &[5], 2.5)];
    let narrow = two(
        column(22, 2, &[2], planes(2, &[1, 0, 0, 2])),
        column(6, 2, &[1], [1, 0]),
        column(1, 2, &[], 1u32.to_le_bytes()),
        Value::Nil,
    );
    let delta = two(
        column(2, 2, &[4, 7], (-8i32 + 1_000_000).to_le_bytes()),
        raw(&[1u32.to_le_bytes(), 0u32.to_le_bytes()]),
        column(5, 2, &[1], [2u32.to_le_bytes(), 1u32.to_le_bytes()].concat()),
        column(5, 2, &[2], [&1u32.to_le_bytes()[..], &1u32.to_le_bytes()[..], &[4, 0]].concat()),
    );
    let mut flagged = list(7, 999_999);
    flagged[0].flags = vec![4];
    flagged[1].flags = vec![0];
    Ok(vec![
        Vector {
            name: "u32-narrow",
            about: "Series numbers: encoding 22, width 2; timelines: encoding 6, width 1.",
            payload: narrow.pack()?,
            series: list(1, 512),
            ..Vector::default()
        },
        Vector {
            name: "u32-delta",
            about: "Series numbers: encoding 2, width 4; counts and flags: encoding 5.",
            payload: delta.pack()?,
            series: flagged,
            ..Vector::default()
        },
    ])
}
