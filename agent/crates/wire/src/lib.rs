//! The wire: frames and columns, the same bytes over gRPC and MQTT (`proto/README.md` draws them).
//!
//! Floor 1, beside the segmented log. The spool encodes rows into payloads here, the uplink puts
//! them into frames, and the collector reads them with code of its own; `proto/vectors/` keeps the
//! two readers honest. Whatever is read here has limits, and nothing is allocated on a claim alone.

mod column;
mod compression;
pub mod definitions;
pub mod envelope;
mod error;
pub mod limits;
mod msgpack;
pub mod payload;
mod ranges;

/// The frames of `proto/telemetryx/v1/link.proto`.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/telemetryx.v1.rs"));
}

pub use error::{DecodeError, TooLarge};
pub use ranges::RangeSet;

/// A batch's checksum: 12 bytes of the payload and 4 of the series it speaks of. By numbers alone two clones of
/// one disk could mean different series and yet send equal bytes.
pub type Checksum = [u8; 16];

/// How many bytes of a [`Checksum`] speak of the payload.
const OF_PAYLOAD: usize = 12;

/// The checksum of a payload: the first 12 bytes of SHA-256 over it, then what [`definitions::digest`] says of its series.
pub fn checksum(payload: &[u8], series: [u8; 4]) -> Checksum {
    let mut sum = [0; 16];
    sum[..OF_PAYLOAD].copy_from_slice(&half_sha256(payload)[..OF_PAYLOAD]);
    sum[OF_PAYLOAD..].copy_from_slice(&series);
    sum
}

/// Whether bytes are the payload that a checksum speaks of.
pub fn fits(checksum: &Checksum, payload: &[u8]) -> bool {
    half_sha256(payload)[..OF_PAYLOAD] == checksum[..OF_PAYLOAD]
}

/// The first half of SHA-256.
pub fn half_sha256(bytes: &[u8]) -> [u8; 16] {
    use sha2::Digest;
    let digest = sha2::Sha256::digest(bytes);
    let mut half = [0; 16];
    half.copy_from_slice(&digest[..16]);
    half
}
