//! What a form will cost after compression, guessed from its bytes without compressing them.
//!
//! A column goes to zstd as byte planes, so the guess is the order-0 entropy of each plane, taken
//! from at most 1,024 items. Repeats that zstd finds beyond that favour no form over another.

/// Items that are looked at.
const LOOK: usize = 1024;
/// Below this many, counting bytes says less than counting bits.
const FEW: usize = 48;

/// Scratch space and a table of n·log2(n).
pub(crate) struct Cost {
    counts: Box<[[u16; 256]; 8]>,
    nlogn: Box<[f32]>,
}

impl Cost {
    pub(crate) fn new() -> Self {
        let nlogn = (0..=LOOK).map(|n| if n == 0 { 0.0 } else { n as f32 * (n as f32).log2() });
        Self { counts: Box::new([[0; 256]; 8]), nlogn: nlogn.collect() }
    }

    /// Bits an item of these stored items will take.
    pub(crate) fn bits(&mut self, items: &[u64]) -> f32 {
        if items.is_empty() {
            return 0.0;
        }
        if items.len() < FEW {
            let bits: u32 = items.iter().map(|item| 65 - item.leading_zeros()).sum();
            return bits as f32 / items.len() as f32;
        }
        // Four pieces, spread out, so that neither the start nor a period decides alone.
        let n = items.len().min(LOOK);
        let (piece, apart) = if items.len() > LOOK { (LOOK / 4, items.len() / 4) } else { (n, n) };
        let pieces = || items.chunks(apart).take(LOOK / piece).map(|chunk| &chunk[..piece.min(chunk.len())]);
        let width = width(pieces().flatten().fold(0, |all, item| all | item));
        for item in pieces().flatten() {
            for (plane, byte) in self.counts[..width].iter_mut().zip(item.to_le_bytes()) {
                plane[usize::from(byte)] += 1;
            }
        }
        let mut bits = 0.0;
        for plane in &mut self.counts[..width] {
            let sum: f32 = plane.iter().map(|n| self.nlogn[usize::from(*n)]).sum();
            bits += self.nlogn[n] - sum;
            plane.fill(0);
        }
        bits / n as f32
    }
}

/// The narrowest of 1, 2, 4 and 8 bytes for items whose bits are `all` together.
pub(crate) fn width(all: u64) -> usize {
    match all {
        0..=0xff => 1,
        0x100..=0xffff => 2,
        0x1_0000..=0xffff_ffff => 4,
        _ => 8,
    }
}
