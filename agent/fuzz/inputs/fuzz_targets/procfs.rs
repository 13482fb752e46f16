//! Any bytes as the kernel's text files: what isn't there is left out, what is read is finite, never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| inputs::fuzz::procfs(data));
