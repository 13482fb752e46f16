//! Any bytes on the MQTT port, in both versions: refused or decoded, never a panic, never past the bytes.
#![no_main]

use inputs::mqtt::codec::{Version, decode, frame};
use inputs::mqtt::connect::{decode_connect, level};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    for version in [Version::V4, Version::V5] {
        if let Ok(Some(found)) = frame(data, 256 << 10) {
            let _ = level(found);
            let _ = decode_connect(version, found);
        }
        if let Ok(Some(found)) = frame(data, 256 << 10) {
            let _ = decode(version, found);
        }
    }
});
