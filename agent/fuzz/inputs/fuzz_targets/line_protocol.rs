//! Any bytes as a body of line protocol: never a panic, every reading counted, and the same result
//! from a dictionary that has seen the body as from an empty one, in one piece as in many.
#![no_main]

use inputs::lineproto::{Options, Parsed, Progress, parse, parse_part};
use libfuzzer_sys::fuzz_target;
use telemetry::Cause;

fuzz_target!(|data: &[u8]| {
    let options = Options::default();
    let mut parsed = Parsed::default();
    let cold = fuzz_inputs::fill(|out| parsed = parse(data, &options, out));
    assert_eq!(cold.counts.get(Cause::Received), cold.len() as u64 + parsed.refused);
    let mut again = Parsed::default();
    let warm = fuzz_inputs::fill(|out| {
        let mut progress = Progress::default();
        while parse_part(data, &mut progress, out.len() + 1, &options, out, &mut again) {}
    });
    assert_eq!((cold.index, cold.times, cold.series, cold.events), (warm.index, warm.times, warm.series, warm.events));
    assert!(cold.values.iter().zip(&warm.values).all(|(a, b)| a.to_bits() == b.to_bits()));
    assert_eq!(parsed, again);
});
