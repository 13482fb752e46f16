//! Any bytes as a payload, as definitions, and as a frame: refused or decoded, never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use prost::Message;

fuzz_target!(|data: &[u8]| {
    let _ = wire::payload::decode(data);
    let _ = wire::definitions::decode(data);
    let _ = wire::v1::FromCollector::decode(data);
    // Past the compression, so that the fuzzer reaches what lies inside.
    if let Ok(packed) = zstd::bulk::compress(data, 1) {
        let _ = wire::payload::decode(&packed);
        let _ = wire::definitions::decode(&packed);
    }
});
