//! Any bytes as a journal record: decoding never panics, and what it accepts is encoded to a record
//! that decodes to the same.
#![no_main]

use std::collections::HashMap;

use libfuzzer_sys::fuzz_target;
use telemetry::record::Numbering;
use telemetry::{Record, SeriesDef, SeriesRef};

/// Numbers stand for themselves, so that what is decoded can be encoded again.
#[derive(Default)]
struct Numbers(HashMap<u32, SeriesDef>);

impl Numbering for Numbers {
    fn define(&mut self, number: u32, def: SeriesDef) {
        self.0.insert(number, def);
    }
    fn resolve(&self, number: u32) -> Option<SeriesRef> {
        self.0.contains_key(&number).then_some(SeriesRef(number))
    }
}

fuzz_target!(|data: &[u8]| {
    let mut numbers = Numbers::default();
    let Ok(record) = Record::decode(data, &mut numbers) else { return };
    let defs: Vec<_> = numbers.0.into_iter().map(|(number, def)| (SeriesRef(number), def.into())).collect();
    let mut bytes = Vec::new();
    record.encode(&mut bytes, &defs);
    let again = Record::decode(&bytes, &mut Numbers::default()).unwrap();
    // By their bytes: NaN is not equal to itself.
    let mut twice = Vec::new();
    again.encode(&mut twice, &defs);
    assert_eq!(bytes, twice);
});
