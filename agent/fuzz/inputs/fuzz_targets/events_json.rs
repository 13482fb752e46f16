//! Any bytes as JSON, and what is JSON as an event: read or refused, within the bounds.
#![no_main]

use inputs::{events, json};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(value) = json::parse(data, events::BOUNDS) {
        if let Ok(event) = events::read(&value, "fuzz", 0, &fuzz_inputs::UTC) {
            fuzz_inputs::fill(|out| _ = out.event(event));
        }
    }
    let _ = json::each_element(data, events::BOUNDS, |_, value| _ = events::read(&value, "fuzz", 0, &fuzz_inputs::UTC));
});
