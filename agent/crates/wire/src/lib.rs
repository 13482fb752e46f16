//! The wire: frames and columns, the same bytes over gRPC and MQTT (`proto/README.md` draws them).
//!
//! Floor 1, beside the segmented log. The spool encodes rows into payloads here, the uplink puts
//! them into frames, and the collector reads them with code of its own; `proto/vectors/` keeps the
//! two readers honest. Whatever is read here has limits, and nothing is allocated on a claim alone.

mod column;
mod compression;
pub mod definitions;
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

/// A batch's checksum: the first half of SHA-256 over its payload.
pub type Checksum = [u8; 16];

/// The checksum of a payload.
pub fn checksum(payload: &[u8]) -> Checksum {
    use sha2::Digest;
    let digest = sha2::Sha256::digest(payload);
    let mut half = [0; 16];
    half.copy_from_slice(&digest[..16]);
    half
}
