//! Any bytes as a record of the idempotency keys' log: read as far as it goes, never a panic, never more than is kept.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| inputs::fuzz::http_keys(data));
