//! A topic and a payload, split at the first line break, through the built-in mapping rules.
#![no_main]

use std::sync::LazyLock;

use inputs::{Mapper, MappingConfig};
use libfuzzer_sys::fuzz_target;

static MAPPER: LazyLock<Mapper> =
    LazyLock::new(|| Mapper::new(&MappingConfig { time_zone: "UTC".into(), ..MappingConfig::default() }).unwrap());

fuzz_target!(|data: &[u8]| {
    let split = data.iter().position(|byte| *byte == b'\n').unwrap_or(0);
    let (topic, payload) = data.split_at(split);
    let Ok(topic) = std::str::from_utf8(topic) else { return };
    // The codec lets no longer topic in. Twice: the second time by the short way.
    if topic.len() <= 65_535 {
        fuzz_inputs::fill(|out| {
            MAPPER.map(topic, payload, false, out.at(), out);
            MAPPER.map(topic, payload, true, out.at(), out);
        });
    }
});
