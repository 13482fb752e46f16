//! Series definitions beside a payload: `zstd(msgpack([[number, name, unit, {label: value}], ...]))`.
//!
//! They lie outside the payload's checksum, because what is sent for the second time may need others.

use std::sync::Arc;

use telemetry::{SeriesDef, SeriesKey};

use crate::compression::{Packer, unpack};
use crate::error::{DecodeError, TooLarge};
use crate::limits::{MAX_DEFINITIONS, MAX_DEFINITIONS_RAW};
use crate::msgpack::{Reader, put_array, put_map, put_text, put_unsigned};

/// Encodes (number, definition) pairs; no bytes for none.
///
/// # Errors
/// [`TooLarge`] when they don't fit beside one batch.
pub fn encode(defs: &[(u32, Arc<SeriesDef>)]) -> Result<Vec<u8>, TooLarge> {
    if defs.is_empty() {
        return Ok(Vec::new());
    }
    let mut raw = Vec::with_capacity(defs.len() * 64);
    put_array(&mut raw, defs.len());
    for (number, def) in defs {
        put_array(&mut raw, 4);
        put_unsigned(&mut raw, u64::from(*number));
        put_text(&mut raw, def.key.name());
        put_text(&mut raw, &def.unit);
        put_map(&mut raw, def.key.labels().len());
        for (label, value) in def.key.labels() {
            put_text(&mut raw, label);
            put_text(&mut raw, value);
        }
    }
    if raw.len() > MAX_DEFINITIONS_RAW {
        return Err(TooLarge { what: "definitions in bytes", size: raw.len(), max: MAX_DEFINITIONS_RAW });
    }
    let packed = Packer::new(3).pack(&raw);
    if packed.len() > MAX_DEFINITIONS {
        return Err(TooLarge { what: "compressed definitions", size: packed.len(), max: MAX_DEFINITIONS });
    }
    Ok(packed)
}

/// Four bytes of what the series of a batch are, by ascending number: XXH3-64 over number, name and labels. The unit
/// isn't part of a series' identity and counts for nothing.
pub fn digest<'a>(defs: impl Iterator<Item = (u32, &'a SeriesDef)>) -> [u8; 4] {
    let mut hash = xxhash_rust::xxh3::Xxh3::new();
    // A byte that no text holds ends each.
    let mut text = |text: &str| {
        hash.update(text.as_bytes());
        hash.update(&[0xff]);
    };
    for (number, def) in defs {
        text(def.key.name());
        for (label, value) in def.key.labels() {
            text(label);
            text(value);
        }
        text(&number.to_string());
    }
    (hash.digest() as u32).to_le_bytes()
}

/// Bytes that a definition takes before compression, at most; the sum is what [`MAX_DEFINITIONS_RAW`] caps.
pub fn size(def: &SeriesDef) -> usize {
    let labels: usize = def.key.labels().map(|(label, value)| label.len() + value.len() + 6).sum();
    def.key.name().len() + def.unit.len() + labels + 20
}

/// Reads them back; no bytes are none.
///
/// # Errors
/// [`DecodeError`] for anything [`encode`] doesn't write.
pub fn decode(bytes: &[u8]) -> Result<Vec<(u32, SeriesDef)>, DecodeError> {
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    let raw = unpack(bytes, "definitions in bytes", MAX_DEFINITIONS, MAX_DEFINITIONS_RAW)?;
    let mut reader = Reader::new(&raw);
    let mut defs = Vec::new();
    for _ in 0..reader.array()? {
        if reader.array()? != 4 {
            return Err(DecodeError::Inconsistent("a definition has other than four parts"));
        }
        let number = reader.number("a series number", u64::from(u32::MAX))? as u32;
        let name = reader.text()?;
        let unit = reader.text()?;
        let labels = (0..reader.map()?)
            .map(|_| Ok((reader.text()?, reader.text()?)))
            .collect::<Result<Vec<_>, DecodeError>>()?;
        defs.push((number, SeriesDef { key: SeriesKey::new(name, labels)?, unit: unit.into() }));
    }
    reader.end()?;
    Ok(defs)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn definitions_come_back_as_they_were(names in proptest::collection::vec("[a-zé.]{1,20}", 0..20), value in "\\PC{1,30}") {
            let defs: Vec<_> = names.iter().enumerate().map(|(at, name)| {
                let key = SeriesKey::new(name.as_str(), [("device", value.as_str()), ("n", "1")]).unwrap();
                let def = SeriesDef { key, unit: "Cel".into() };
                prop_assert!(size(&def) >= encode(&[(1, Arc::new(def.clone()))]).unwrap().len().saturating_sub(40));
                Ok((at as u32 * 1000, Arc::new(def)))
            }).collect::<Result<_, TestCaseError>>()?;
            let back = decode(&encode(&defs).unwrap()).unwrap();
            prop_assert_eq!(back.len(), defs.len());
            for ((number, def), (was, were)) in back.into_iter().zip(defs) {
                prop_assert_eq!((number, &def, &def.unit), (was, &*were, &were.unit));
            }
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(raw in proptest::collection::vec(any::<u8>(), 0..200)) {
            drop(decode(&raw));
            drop(decode(&Packer::new(1).pack(&raw)));
        }
    }

    #[test]
    fn more_definitions_than_fit_are_refused_by_the_writer() {
        let labels: Vec<_> = (0..40).map(|at| (format!("label{at}"), "x".repeat(1024))).collect();
        let def = Arc::new(SeriesDef::bare(SeriesKey::new("m", labels).unwrap()));
        let defs: Vec<_> = (0..500).map(|number| (number, Arc::clone(&def))).collect();
        assert!(encode(&defs).is_err());
    }
}
