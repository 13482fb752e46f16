//! Every form of every type, forwards and backwards, and what a reader must refuse.

use proptest::prelude::*;

use super::*;
use crate::error::DecodeError;
use crate::msgpack::{Reader, put_array, put_binary, put_signed, put_unsigned};

fn same<T: Item>(items: &[T]) {
    let mut out = Vec::new();
    encode(&mut out, items, &mut Scratch::new());
    let mut reader = Reader::new(&out);
    let back: Vec<T> = decode(&mut reader, items.len()).unwrap();
    reader.end().unwrap();
    assert_eq!(
        back.iter().map(|item| item.bits()).collect::<Vec<_>>(),
        items.iter().map(|item| item.bits()).collect::<Vec<_>>()
    );
}

fn same_floats(values: &[f64], lengths: &[u32]) -> u8 {
    let mut out = Vec::new();
    encode_floats(&mut out, values, lengths, &mut Scratch::new());
    let mut reader = Reader::new(&out);
    let back = decode_floats(&mut reader, values.len()).unwrap();
    reader.end().unwrap();
    assert_eq!(
        back.iter().map(|v| v.to_bits()).collect::<Vec<_>>(),
        values.iter().map(|v| v.to_bits()).collect::<Vec<_>>()
    );
    out[1]
}

/// A series as sensors send it: decimals, integers, noise, levels, and values that are none of these.
fn series() -> impl Strategy<Value = Vec<f64>> {
    let decimals = (0i32..11, proptest::collection::vec(-1_000_000i64..1_000_000, 1..80))
        .prop_map(|(scale, whole)| whole.iter().map(|m| *m as f64 / 10f64.powi(scale)).collect());
    let level = (any::<i32>(), proptest::collection::vec(-9i64..9, 1..80))
        .prop_map(|(level, noise)| noise.iter().map(|m| (i64::from(level) + m) as f64 / 100.0).collect());
    let any_bits = proptest::collection::vec(any::<u64>().prop_map(f64::from_bits), 1..80);
    let constant = (any::<f64>(), 1usize..80).prop_map(|(value, n)| vec![value; n]);
    prop_oneof![decimals, level, any_bits, constant]
}

proptest! {
    #[test]
    fn integer_columns_come_back_bit_for_bit(
        wide in proptest::collection::vec(any::<i64>(), 0..90),
        shift in 0u32..64,
        step in any::<i64>(),
    ) {
        let small: Vec<i64> = wide.iter().map(|item| item >> shift).collect();
        same(&small);
        same(&small.iter().map(|item| *item as u64).collect::<Vec<_>>());
        same(&small.iter().map(|item| *item as u32).collect::<Vec<_>>());
        same(&small.iter().map(|item| *item as i32).collect::<Vec<_>>());
        same(&small.iter().map(|item| *item as u8).collect::<Vec<_>>());
        let regular: Vec<i64> = (0..small.len() as i64).map(|at| at.wrapping_mul(step).wrapping_add(small[at as usize] >> 50)).collect();
        same(&regular);
    }

    #[test]
    fn float_columns_come_back_bit_for_bit(series in proptest::collection::vec(series(), 0..6)) {
        let lengths: Vec<u32> = series.iter().map(|values| values.len() as u32).collect();
        same_floats(&series.concat(), &lengths);
    }

    #[test]
    fn no_bytes_make_a_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60), encoding in 0u8..64) {
        for head in [&[][..], &[0x93, encoding, 5], &[0x94, encoding, 5, 2], &[0x95, encoding, 5, 1, 3], &[0x96, encoding, 5, 1, 1, 3], &[0x97, 8, 5]] {
            let bytes = [head, &bytes].concat();
            drop(decode::<u8>(&mut Reader::new(&bytes), 100));
            drop(decode::<u64>(&mut Reader::new(&bytes), 100));
            drop(decode::<i32>(&mut Reader::new(&bytes), 100));
            drop(decode_floats(&mut Reader::new(&bytes), 100));
        }
    }
}

#[test]
fn decimals_of_several_series_keep_a_scale_each() {
    let values = [20.5, 20.6, 20.4, 1013.25, 1013.5, 0.000_123, 0.000_125, f64::NAN, 0.1 + 0.2];
    assert_eq!(same_floats(&values, &[3, 2, 2, 2]), SEGMENTS);
    assert_eq!(same_floats(&[0.1 + 0.2, f64::NEG_INFINITY, -0.0], &[3]), RAW + PLANES);
    assert_eq!(same_floats(&[-0.0; 7], &[7]), CONSTANT);
}

#[test]
fn the_largest_whole_numbers_are_exact_or_stay_as_they_are() {
    let edge = (1i64 << 51) as f64;
    same_floats(&[edge - 2.0, edge - 1.0, edge, edge + 1.0], &[4]);
    same_floats(&[-edge, 1.0, 9_007_199_254_740_991.0, f64::MAX, f64::MIN_POSITIVE, 5e-324], &[2, 1, 1, 2]);
}

#[test]
fn regular_times_cost_next_to_nothing() {
    let times: Vec<i64> = (0..1000).map(|at| 1_700_000_000_000_000_000 + at * 1_000_000_000).collect();
    let mut out = Vec::new();
    encode(&mut out, &times, &mut Scratch::new());
    assert!(zstd::bulk::compress(&out, 3).unwrap().len() < 60);
}

/// A column written by hand.
fn column(encoding: u8, count: u64, parameters: &[i64], data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_array(&mut out, 3 + parameters.len());
    out.push(encoding);
    put_unsigned(&mut out, count);
    for parameter in parameters {
        put_signed(&mut out, *parameter);
    }
    put_binary(&mut out, data);
    out
}

fn read<T: Item>(encoding: u8, count: u64, parameters: &[i64], data: &[u8]) -> Result<Vec<T>, DecodeError> {
    decode(&mut Reader::new(&column(encoding, count, parameters, data)), 1000)
}

#[test]
fn forms_that_this_writer_does_not_choose_are_read_too() {
    assert_eq!(read::<i64>(DELTA, 3, &[1, 10], &[1, 0xff]), Ok(vec![10, 11, 10]));
    assert_eq!(read::<i64>(DELTA_OF_DELTA, 4, &[1, 10, 5], &[1, 0xff]), Ok(vec![10, 15, 21, 26]));
    assert_eq!(read::<u32>(DELTA + PLANES, 3, &[2, 10], &[1, 2, 0, 1]), Ok(vec![10, 11, 269]));
    // Of no differences there are no planes either.
    assert_eq!(read::<u32>(DELTA + PLANES, 1, &[2, 10], &[]), Ok(vec![10]));
    assert_eq!(read::<u32>(DELTA_OF_DELTA + PLANES, 2, &[2, 10, 1], &[]), Ok(vec![10, 11]));
    assert_eq!(read::<i32>(DELTA + ZIGZAG, 3, &[1, -1], &[1, 2]), Ok(vec![-1, -2, -1]));
    assert_eq!(read::<u64>(NARROW, 2, &[2], &[1, 0, 0, 1]), Ok(vec![1, 256]));
    assert_eq!(read::<u8>(RUN_LENGTH, 3, &[2], &[1, 0, 0, 0, 2, 0, 0, 0, 7, 9]), Ok(vec![7, 9, 9]));
    let floats = decode_floats(&mut Reader::new(&column(DECIMAL, 3, &[1, 1, 205], &[1, 0xfe])), 10);
    assert_eq!(floats, Ok(vec![20.5, 20.6, 20.4]));
}

#[test]
fn contradictions_are_refused() {
    let inconsistent = |result: Result<Vec<u32>, DecodeError>| {
        assert!(matches!(result, Err(DecodeError::Inconsistent(_))), "{result:?}");
    };
    inconsistent(read(RAW, 2, &[], &[0; 7]));
    inconsistent(read(RAW, 2, &[1], &[0; 8]));
    inconsistent(read(RUN_LENGTH, 3, &[1], &[2, 0, 0, 0, 9, 0, 0, 0]));
    inconsistent(read(DELTA, 2, &[1, 0], &[0xff]));
    inconsistent(read(DELTA, 1, &[1, 1 << 32], &[]));
    inconsistent(read(DELTA_OF_DELTA, 1, &[1, 0, 0], &[]));
    inconsistent(read(CONSTANT, 0, &[], &[]));
    inconsistent(read(NARROW, 0, &[1], &[]));
    inconsistent(read(DECIMAL, 2, &[0, 1, 0], &[0]));
    inconsistent(read(SEGMENTS, 1, &[], &[]));
    assert!(matches!(read::<u8>(NARROW, 1, &[2], &[0, 0]), Err(DecodeError::Inconsistent(_))));
    assert!(matches!(read::<u32>(CONSTANT, 1001, &[], &[0; 4]), Err(DecodeError::TooLarge { .. })));
    for encoding in [7, 9, 15, CONSTANT + PLANES, RUN_LENGTH + PLANES, RAW + ZIGZAG, NARROW + ZIGZAG, 64, 200]
    {
        let parameters = [1, 1, 1];
        for n in 0..=3 {
            let result = read::<u32>(encoding, 1, &parameters[..n], &[0; 4]);
            assert!(
                matches!(result, Err(DecodeError::Unknown { .. } | DecodeError::Type { .. })),
                "{encoding}: {result:?}"
            );
        }
    }
}
