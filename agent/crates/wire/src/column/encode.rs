//! A column in the form that will be smallest. The choice depends on the items alone, so that the
//! same rows give the same bytes wherever and whenever they are encoded.

use super::{
    CONSTANT, DELTA, DELTA_OF_DELTA, Item, NARROW, PLANES, RAW, RUN_LENGTH, Scratch, ZIGZAG, cost::width,
    segments,
};
use crate::msgpack::{put_array, put_binary_head, put_signed, put_unsigned};

/// Appends a column.
pub(crate) fn encode<T: Item>(out: &mut Vec<u8>, items: &[T], scratch: &mut Scratch) {
    if short(out, items) {
        return;
    }
    let n = items.len();
    let mut best = (Form::Stored, scratch.stored_bits(items) * n as f32);
    let runs = 1 + items.windows(2).filter(|pair| pair[0].bits() != pair[1].bits()).count();
    // A run's length is a small number, its item about as large as where it stands alone.
    let cost = best.1 / n as f32 * runs as f32 + 8.0 * runs as f32;
    if runs * 4 <= n && cost < best.1 {
        best = (Form::Runs, cost);
    }
    if T::DELTA {
        scratch.differ(items);
        let cost = scratch.cost.bits(&scratch.first) * (n - 1) as f32 + 32.0;
        if cost < best.1 {
            best = (Form::Delta, cost);
        }
        let cost = scratch.cost.bits(&scratch.second) * (n - 2) as f32 + 64.0;
        if cost < best.1 {
            best = (Form::DeltaOfDelta, cost);
        }
    }
    match best.0 {
        Form::Stored => stored(out, items),
        Form::Runs => run_length(out, items, runs),
        Form::Delta => {
            let width = widest(&scratch.first);
            head(out, 5, DELTA + ZIGZAG, width, n - 1, n);
            put_unsigned(out, width as u64);
            put_first(out, items[0]);
            put_items(out, &scratch.first, width);
        }
        Form::DeltaOfDelta => {
            let width = widest(&scratch.second);
            head(out, 6, DELTA_OF_DELTA + ZIGZAG, width, n - 2, n);
            put_unsigned(out, width as u64);
            put_first(out, items[0]);
            put_signed(out, items[1].wide().wrapping_sub(items[0].wide()));
            put_items(out, &scratch.second, width);
        }
    }
}

/// Appends a column of floats whose segments have these lengths, which add up to its own.
pub(crate) fn encode_floats(out: &mut Vec<u8>, values: &[f64], lengths: &[u32], scratch: &mut Scratch) {
    if !short(out, values) && !segments::encode(out, values, lengths, scratch) {
        stored(out, values);
    }
}

enum Form {
    Stored,
    Runs,
    Delta,
    DeltaOfDelta,
}

/// Empty columns, those of one or two items, and those of one value only have one form.
fn short<T: Item>(out: &mut Vec<u8>, items: &[T]) -> bool {
    let Some(first) = items.first() else {
        put_array(out, 3);
        out.extend_from_slice(&[RAW, 0, 0xc4, 0]);
        return true;
    };
    if items.iter().all(|item| item.bits() == first.bits()) {
        put_array(out, 3);
        out.push(CONSTANT);
        put_unsigned(out, items.len() as u64);
        put_binary_head(out, T::WIDTH);
        out.extend_from_slice(&first.bits().to_le_bytes()[..T::WIDTH]);
        return true;
    }
    if items.len() == 2 {
        stored(out, items);
    }
    items.len() == 2
}

/// The items themselves, at the narrowest width that their type may be stored in.
pub(super) fn stored<T: Item>(out: &mut Vec<u8>, items: &[T]) {
    let width = match T::NARROW {
        true => width(items.iter().fold(0, |all, item| all | item.bits())),
        false => T::WIDTH,
    };
    if width < T::WIDTH {
        head(out, 4, NARROW, width, items.len(), items.len());
        put_unsigned(out, width as u64);
    } else {
        head(out, 3, RAW, width, items.len(), items.len());
    }
    put_items(out, items, width);
}

fn run_length<T: Item>(out: &mut Vec<u8>, items: &[T], runs: usize) {
    put_array(out, 4);
    out.push(RUN_LENGTH);
    put_unsigned(out, items.len() as u64);
    put_unsigned(out, runs as u64);
    put_binary_head(out, runs * (4 + T::WIDTH));
    let each = || items.chunk_by(|a, b| a.bits() == b.bits());
    for run in each() {
        out.extend_from_slice(&(run.len() as u32).to_le_bytes());
    }
    for run in each() {
        out.extend_from_slice(&run[0].bits().to_le_bytes()[..T::WIDTH]);
    }
}

/// Array head, encoding and count. `stored` items follow the parameters, as planes where that helps.
fn head(out: &mut Vec<u8>, entries: usize, encoding: u8, width: usize, stored: usize, count: usize) {
    put_array(out, entries);
    out.push(if planes(width, stored) { encoding + PLANES } else { encoding });
    put_unsigned(out, count as u64);
}

fn planes(width: usize, stored: usize) -> bool {
    width > 1 && stored > 1
}

/// A number's own sign decides how msgpack writes it; 64-bit patterns stay what they are.
fn put_first<T: Item>(out: &mut Vec<u8>, first: T) {
    put_signed(out, first.wide());
}

fn widest(items: &[u64]) -> usize {
    width(items.iter().fold(0, |all, item| all | item))
}

fn put_items<T: Item>(out: &mut Vec<u8>, items: &[T], width: usize) {
    put_binary_head(out, items.len() * width);
    out.reserve(items.len() * width);
    if planes(width, items.len()) {
        for plane in 0..width {
            out.extend(items.iter().map(|item| (item.bits() >> (8 * plane)) as u8));
        }
        return;
    }
    for item in items {
        out.extend_from_slice(&item.bits().to_le_bytes()[..width]);
    }
}
