//! Any bytes as the sketch of a rollup's row, with a check that fits so that what is behind it is read: refused, or no more readings than the row has.
#![no_main]

use libfuzzer_sys::fuzz_target;
use telemetry::packed::{Builder, Figures, Known, fits, pack};

fuzz_target!(|data: &[u8]| {
    let Some((head, sketch)) = data.split_first_chunk::<9>() else { return };
    let Ok(count) = <[u8; 8]>::try_from(&head[..8]) else { return };
    // The ninth byte chooses among extremes: one sign, both, none.
    let (min, max) = [(1.0, 9.0), (-9.0, 9.0), (-9.0, -1.0), (f64::NAN, f64::NAN)][usize::from(head[8] % 4)];
    let figures = Figures { count: u64::from_le_bytes(count), sum: 5.0, min, max };
    let mut bytes = vec![crc8(sketch)];
    bytes.extend_from_slice(sketch);
    let (mut builder, mut found) = (Builder::default(), Known::default());
    if builder.add_packed(&bytes, &figures).is_err() {
        return;
    }
    builder.take(&mut found);
    let held: u64 = found.bins.positive.iter().chain(&found.bins.negative).map(|bin| bin.1).sum();
    assert!(held + found.bins.zero + found.missing <= figures.count);
    if fits(&found, &figures) {
        let mut again = Vec::new();
        pack(&found, &figures, &mut again);
        let (mut builder, mut same) = (Builder::default(), Known::default());
        let read = builder.add_packed(&again, &figures);
        builder.take(&mut same);
        assert!(read.is_ok());
        // Of no bytes, the row's figures may tell more than was known.
        assert!(again.is_empty() || same == found);
    }
});

/// CRC-8 with the polynomial 0x07.
fn crc8(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ byte, |crc: u8, _| if crc & 128 != 0 { crc << 1 ^ 0x07 } else { crc << 1 })
    })
}
