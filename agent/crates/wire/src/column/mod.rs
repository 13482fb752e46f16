//! One column, `[encoding, count, parameter..., data]` (proto/README.md has the table).
//!
//! `encode` writes a column in the form that a cheap look says will compress best; `decode` reads any
//! form; `segments` holds the one that float columns take most: decimals, with a scale for each series.

mod cost;
mod decode;
mod encode;
mod item;
mod segments;

pub(crate) use decode::{decode, decode_floats};
pub(crate) use encode::{encode, encode_floats};
pub(crate) use item::Item;
pub(crate) use segments::Scratch;

pub(crate) const RAW: u8 = 0;
pub(crate) const CONSTANT: u8 = 1;
pub(crate) const DELTA: u8 = 2;
pub(crate) const DELTA_OF_DELTA: u8 = 3;
pub(crate) const DECIMAL: u8 = 4;
pub(crate) const RUN_LENGTH: u8 = 5;
pub(crate) const NARROW: u8 = 6;
pub(crate) const SEGMENTS: u8 = 8;
/// Added to an encoding: the data is transposed to byte planes.
pub(crate) const PLANES: u8 = 16;
/// Added to an encoding: its differences are zigzagged.
pub(crate) const ZIGZAG: u8 = 32;

/// Decimals stay below this: every whole number up to here is an f64.
pub(crate) const EXACT: i64 = 1 << 53;
/// 10^0 to 10^9, the scales of decimals. All exact.
pub(crate) const POWERS: [f64; 10] = [1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];

pub(crate) fn zigzag(difference: i64) -> u64 {
    (difference << 1 ^ difference >> 63) as u64
}

pub(crate) fn unzigzag(stored: u64) -> i64 {
    (stored >> 1) as i64 ^ -((stored & 1) as i64)
}

#[cfg(test)]
mod tests;
