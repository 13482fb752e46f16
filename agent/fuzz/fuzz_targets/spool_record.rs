//! Any bytes as what the spool keeps on disk: records, the cursor, a segment's heads. Read or refused, never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| spool::fuzz::decode(data));
