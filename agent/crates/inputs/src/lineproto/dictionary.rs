//! What a sender's lines looked like so far: raw key bytes → measurement, labels, and a slot a field.
//!
//! Each entry also remembers which entry came after it the last time, and each field which field:
//! a sender that repeats its lines in one order is recognised by comparison alone.

use std::collections::HashMap;

use telemetry::series::DEVICE as DEVICE_LABEL;
use telemetry::{Cause, InvalidSeries};

use super::text::{unescape, until, utf8};
use crate::intake::{IntakeBuilder, Rejection, Slot};

/// Most keys and most bytes of them; beyond, the dictionary starts anew.
const MAX_ENTRIES: usize = 65_536;
const MAX_BYTES: usize = 16 << 20;
/// Most fields that an entry remembers.
const MAX_REMEMBERED: usize = 128;

/// See the module.
#[derive(Debug, Default)]
pub struct Dictionary {
    entries: Vec<Entry>,
    by_key: HashMap<u64, u32, ahash::RandomState>,
    bytes: usize,
    context: u64,
    extra: Vec<(Box<str>, Box<str>)>,
    /// The entry that the last line had.
    last: Option<u32>,
    hasher: ahash::RandomState,
    pub(super) values: Vec<(Slot, f64)>,
    pub(super) texts: Vec<(String, String)>,
}

/// One key: a measurement with its tags.
#[derive(Debug)]
pub(super) struct Entry {
    context: u64,
    pub(super) key: Box<[u8]>,
    next: u32,
    pub(super) measurement: Box<str>,
    pub(super) labels: Vec<(Box<str>, Box<str>)>,
    pub(super) fields: Vec<Field>,
    /// The slot when `value` is the only field.
    alone: Option<Slot>,
}

/// One field of a key.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) raw: Box<[u8]>,
    slot: Option<Slot>,
}

impl Dictionary {
    /// Forgets everything. Must happen when the slots it holds are no longer valid.
    pub(crate) fn clear(&mut self) {
        self.entries.clear();
        self.by_key.clear();
        self.bytes = 0;
        self.last = None;
    }

    /// Sets the labels that lines get where they have none of their own.
    pub(super) fn context(&mut self, labels: &[(&str, &str)]) {
        let context = if labels.is_empty() { 0 } else { self.hasher.hash_one(labels) | 1 };
        if context != self.context || self.extra.len() != labels.len() {
            self.context = context;
            self.last = None;
            self.extra = labels.iter().map(|(label, value)| ((*label).into(), (*value).into())).collect();
        }
    }

    pub(super) fn entry(&self, index: u32) -> &Entry {
        &self.entries[index as usize]
    }

    /// The entry of the line that begins at `at`, and where its key ends.
    #[inline]
    pub(super) fn find(&mut self, body: &[u8], at: usize) -> Result<(u32, usize), (usize, Rejection)> {
        if let Some(last) = self.last {
            let guess = self.entries[last as usize].next;
            let entry = &self.entries[guess as usize];
            let end = at + entry.key.len();
            if body.get(end) == Some(&b' ') && body[at..end] == *entry.key && entry.context == self.context {
                self.last = Some(guess);
                return Ok((guess, end));
            }
        }
        self.search(body, at)
    }

    fn search(&mut self, body: &[u8], at: usize) -> Result<(u32, usize), (usize, Rejection)> {
        let end = until(body, at, [b' ', b' ']);
        let key = &body[at..end];
        let hash = self.hasher.hash_one((self.context, key));
        let known = self.by_key.get(&hash).copied().filter(|index| {
            let entry = &self.entries[*index as usize];
            *entry.key == *key && entry.context == self.context
        });
        let index = match known {
            Some(index) => index,
            None => self.learn(key, hash).map_err(|rejection| (end, rejection))?,
        };
        if let Some(last) = self.last {
            self.entries[last as usize].next = index;
        }
        self.last = Some(index);
        Ok((index, end))
    }

    fn learn(&mut self, key: &[u8], hash: u64) -> Result<u32, Rejection> {
        let (measurement, mut labels) = read_key(key)?;
        for (label, value) in &self.extra {
            if !labels.iter().any(|(known, _)| known == label) {
                labels.push((label.clone(), value.clone()));
            }
        }
        if !labels.iter().any(|(label, _)| **label == *DEVICE_LABEL)
            && let Some((_, host)) = labels.iter().find(|(label, _)| **label == *"host")
        {
            labels.push((DEVICE_LABEL.into(), host.clone()));
        }
        if self.entries.len() >= MAX_ENTRIES || self.bytes >= MAX_BYTES {
            self.clear();
        }
        let index = self.entries.len() as u32;
        self.bytes += 3 * key.len() + 160;
        self.entries.push(Entry {
            context: self.context,
            key: key.into(),
            next: index,
            measurement,
            labels,
            fields: Vec::new(),
            alone: None,
        });
        self.by_key.insert(hash, index);
        Ok(index)
    }

    /// The index of the field that begins at `at`, if it is the one expected or known at all, and
    /// where its name ends.
    #[inline]
    pub(super) fn field(
        &mut self,
        entry: u32,
        expected: usize,
        body: &[u8],
        at: usize,
    ) -> Result<(usize, usize), (usize, Rejection)> {
        let fields = &self.entries[entry as usize].fields;
        if let Some(field) = fields.get(expected) {
            let end = at + field.raw.len();
            if body.get(end) == Some(&b'=') && body[at..end] == *field.raw {
                return Ok((expected, end));
            }
        }
        self.search_field(entry, expected, body, at)
    }

    fn search_field(
        &mut self,
        entry: u32,
        expected: usize,
        body: &[u8],
        at: usize,
    ) -> Result<(usize, usize), (usize, Rejection)> {
        // A comma or space in a field's name must be escaped; the equals sign ends it.
        let end = until(body, at, [b'=', b',']);
        let raw = &body[at..end];
        if body.get(end) != Some(&b'=') {
            let reason = if raw.trim_ascii().is_empty() { "missing fields" } else { "missing field value" };
            return Err((at, Rejection::new(Cause::RejectedSyntax, reason)));
        }
        if raw.is_empty() {
            return Err((at, Rejection::new(Cause::RejectedSyntax, "missing field key")));
        }
        let mut bare = raw;
        while let Some(space) = memchr::memchr(b' ', bare) {
            if space == 0 || bare[space - 1] != b'\\' {
                return Err((
                    at,
                    Rejection::new(Cause::RejectedSyntax, "a space in a field key must be escaped"),
                ));
            }
            bare = &bare[space + 1..];
        }
        utf8(raw).map_err(|rejection| (at, rejection))?;
        let fields = &mut self.entries[entry as usize].fields;
        // Continue from the expected one: a sender that leaves fields out keeps their order.
        let count = fields.len();
        let from = expected.min(count);
        if let Some(found) = (from..count).chain(0..from).find(|index| *fields[*index].raw == *raw) {
            return Ok((found, end));
        }
        let field = Field { raw: raw.into(), slot: None };
        if count < MAX_REMEMBERED {
            self.bytes += raw.len() + 48;
            fields.push(field);
            Ok((count, end))
        } else {
            fields[count - 1] = field;
            Ok((count - 1, end))
        }
    }

    /// The slot of a field, or of `value` when it stands `alone`.
    #[inline]
    pub(super) fn slot(
        &mut self,
        entry: u32,
        field: usize,
        alone: bool,
        out: &mut IntakeBuilder<'_>,
    ) -> Result<Slot, Rejection> {
        let entry = &mut self.entries[entry as usize];
        let known = if alone && *entry.fields[field].raw == *b"value" {
            entry.alone
        } else {
            entry.fields[field].slot
        };
        match known {
            Some(slot) => Ok(slot),
            None => entry.intern(field, alone, out),
        }
    }
}

impl Entry {
    #[cold]
    fn intern(&mut self, field: usize, alone: bool, out: &mut IntakeBuilder<'_>) -> Result<Slot, Rejection> {
        let name = unescape(&self.fields[field].raw)?;
        let alone = alone && &*name == "value";
        let labels: Vec<(&str, &str)> =
            self.labels.iter().map(|(label, value)| (&**label, &**value)).collect();
        let slot = if alone {
            out.series(&self.measurement, &labels, "")?
        } else {
            out.series(&format!("{}.{name}", self.measurement), &labels, "")?
        };
        if alone {
            self.alone = Some(slot);
        } else {
            self.fields[field].slot = Some(slot);
        }
        Ok(slot)
    }
}

type Labels = Vec<(Box<str>, Box<str>)>;

/// `measurement[,tag=value]...`
fn read_key(key: &[u8]) -> Result<(Box<str>, Labels), Rejection> {
    let syntax = |reason: &str| Rejection::new(Cause::RejectedSyntax, reason);
    let end = until(key, 0, [b',', b',']);
    let measurement = unescape(&key[..end])?;
    if measurement.is_empty() {
        return Err(syntax("missing measurement"));
    }
    let mut labels: Labels = Vec::new();
    let mut at = end;
    while at < key.len() {
        at += 1; // the comma
        let equals = until(key, at, [b'=', b',']);
        if equals == at {
            return Err(syntax("missing tag key"));
        }
        if key.get(equals) != Some(&b'=') {
            return Err(syntax("missing tag value"));
        }
        let end = until(key, equals + 1, [b',', b'=']);
        if key.get(end) == Some(&b'=') {
            return Err(syntax("invalid tag format"));
        }
        if end == equals + 1 {
            return Err(syntax("missing tag value"));
        }
        let label = unescape(&key[at..equals])?;
        if labels.iter().any(|(known, _)| **known == *label) {
            return Err(Rejection::new(
                Cause::RejectedSyntax,
                InvalidSeries::DuplicateLabel(label.into_owned()).to_string(),
            ));
        }
        labels.push((label.into(), unescape(&key[equals + 1..end])?.into()));
        at = end;
    }
    Ok((measurement.into(), labels))
}
