//! What reads files and isn't public, for the fuzzer.

/// Any bytes as records of the idempotency keys' log.
pub fn http_keys(bytes: &[u8]) {
    crate::http::fuzz_keys(bytes);
}

/// Any bytes as each of the kernel's files.
pub fn procfs(bytes: &[u8]) {
    crate::host::fuzz_parse(&String::from_utf8_lossy(bytes));
}
