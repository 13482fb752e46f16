//! Series: a metric name with its labels, and the table that gives each a small number.
//!
//! Inputs intern a series once and then handle only its [`SeriesRef`]; the journal, the fold and
//! the spool write the full definition wherever their files must be readable alone. A reference
//! means something in one process only and is never written to disk without its definition.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;
use serde::{Deserialize, Serialize};

/// Longest metric name, label name and label value in bytes, and most labels of a series.
pub const MAX_NAME: usize = 512;
/// Longest label value in bytes.
pub const MAX_LABEL_VALUE: usize = 1024;
/// Most labels of one series.
pub const MAX_LABELS: usize = 40;

/// The label that names the place.
pub const SITE: &str = "site";
/// The label that names the thing that measured.
pub const DEVICE: &str = "device";

/// A metric name with its labels, sorted by label name: the identity of a series on this agent.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SeriesKey {
    name: Box<str>,
    labels: Box<[(Box<str>, Box<str>)]>,
}

/// Why a name or a label was refused. The text is written for whoever sent it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSeries {
    /// The metric name is empty.
    #[error("the metric name is empty")]
    EmptyName,
    /// A label has an empty name.
    #[error("a label has an empty name")]
    EmptyLabel,
    /// A name or a value is over its limit.
    #[error("{what} is {len} bytes long; at most {max} are taken")]
    TooLong {
        /// Which part.
        what: &'static str,
        /// Its length in bytes.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// Too many labels.
    #[error("{0} labels on one series; at most {MAX_LABELS} are taken")]
    TooManyLabels(usize),
    /// The same label twice.
    #[error("label {0:?} is given twice")]
    DuplicateLabel(String),
    /// A control character in a name or value.
    #[error("{0} holds a control character")]
    ControlCharacter(&'static str),
}

fn check(what: &'static str, text: &str, max: usize) -> Result<(), InvalidSeries> {
    if text.len() > max {
        return Err(InvalidSeries::TooLong { what, len: text.len(), max });
    }
    if text.bytes().any(|b| b < 0x20 || b == 0x7f) {
        return Err(InvalidSeries::ControlCharacter(what));
    }
    Ok(())
}

impl SeriesKey {
    /// Checks and sorts. Labels with an empty value are left out, as Prometheus does.
    ///
    /// # Errors
    /// [`InvalidSeries`], with a text for the sender.
    pub fn new<N, L, V>(name: N, labels: impl IntoIterator<Item = (L, V)>) -> Result<Self, InvalidSeries>
    where
        N: Into<Box<str>>,
        L: Into<Box<str>>,
        V: Into<Box<str>>,
    {
        let name = name.into();
        if name.is_empty() {
            return Err(InvalidSeries::EmptyName);
        }
        check("the metric name", &name, MAX_NAME)?;
        let mut list: Vec<(Box<str>, Box<str>)> = Vec::new();
        for (label, value) in labels {
            let (label, value) = (label.into(), value.into());
            if value.is_empty() {
                continue;
            }
            if label.is_empty() {
                return Err(InvalidSeries::EmptyLabel);
            }
            check("a label name", &label, MAX_NAME)?;
            check("a label value", &value, MAX_LABEL_VALUE)?;
            list.push((label, value));
        }
        if list.len() > MAX_LABELS {
            return Err(InvalidSeries::TooManyLabels(list.len()));
        }
        list.sort();
        if let Some(pair) = list.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(InvalidSeries::DuplicateLabel(pair[0].0.to_string()));
        }
        Ok(Self { name, labels: list.into_boxed_slice() })
    }

    /// The metric name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Labels, sorted by name.
    pub fn labels(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.labels.iter().map(|(label, value)| (&**label, &**value))
    }

    /// The value of one label.
    pub fn label(&self, name: &str) -> Option<&str> {
        let at = self.labels.binary_search_by(|(label, _)| (**label).cmp(name)).ok()?;
        Some(&self.labels[at].1)
    }

    /// The device that measured, or "" where none is named.
    pub fn device(&self) -> &str {
        self.label(DEVICE).unwrap_or("")
    }

    /// The site of the device, or "" where none is named.
    pub fn site(&self) -> &str {
        self.label(SITE).unwrap_or("")
    }
}

impl std::fmt::Display for SeriesKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)?;
        for (at, (label, value)) in self.labels.iter().enumerate() {
            write!(f, "{}{label}={value:?}", if at == 0 { "{" } else { "," })?;
        }
        if self.labels.is_empty() { Ok(()) } else { f.write_str("}") }
    }
}

/// A series as it is defined: its key and what is known beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeriesDef {
    /// The identity.
    pub key: SeriesKey,
    /// The unit in UCUM notation (`Cel`, `By`, `1`), "" where unknown. Not part of the identity.
    pub unit: Box<str>,
}

impl SeriesDef {
    /// A definition without a unit.
    pub fn bare(key: SeriesKey) -> Self {
        Self { key, unit: "".into() }
    }
}

/// The number of a series in this process's [`SeriesTable`]. Dense, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeriesRef(pub u32);

impl SeriesRef {
    /// As an index into a table held beside.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// The table is full: a new series was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this agent already has {0} series, its limit (agent.max_series): no new one is taken")]
pub struct SeriesLimit(pub usize);

/// All series this process has seen. Shared by inputs, journal, fold and spool; only grows.
#[derive(Debug)]
pub struct SeriesTable {
    limit: usize,
    inner: RwLock<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    by_key: HashMap<Arc<SeriesDef>, SeriesRef>,
    defs: Vec<Arc<SeriesDef>>,
}

// The map is keyed by the definition but compares only the key: one allocation serves both.
impl std::hash::Hash for SeriesDef {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.key.hash(state);
    }
}

impl std::borrow::Borrow<SeriesKey> for Arc<SeriesDef> {
    fn borrow(&self) -> &SeriesKey {
        &self.key
    }
}

impl SeriesTable {
    /// A table that refuses the `limit + 1`st series.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, inner: RwLock::default() })
    }

    /// The number of a series; a new one is entered. The first unit given stays.
    ///
    /// # Errors
    /// [`SeriesLimit`] when it is new and the table is full.
    pub fn intern(&self, def: SeriesDef) -> Result<SeriesRef, SeriesLimit> {
        if let Some(known) = self.find(&def.key) {
            return Ok(known);
        }
        self.enter(def, self.limit)
    }

    /// Enters a series read back from our own files: those were admitted once, so no limit applies.
    pub fn restore(&self, def: SeriesDef) -> SeriesRef {
        match self.find(&def.key) {
            Some(known) => known,
            None => self.enter(def, usize::MAX).unwrap_or(SeriesRef(u32::MAX)),
        }
    }

    fn enter(&self, def: SeriesDef, limit: usize) -> Result<SeriesRef, SeriesLimit> {
        let mut inner = self.inner.write();
        if let Some(known) = inner.by_key.get(&def.key) {
            return Ok(*known);
        }
        if inner.defs.len() >= limit.min(u32::MAX as usize) {
            return Err(SeriesLimit(limit));
        }
        let series = SeriesRef(inner.defs.len() as u32);
        let def = Arc::new(def);
        inner.defs.push(Arc::clone(&def));
        inner.by_key.insert(def, series);
        Ok(series)
    }

    /// The number of a series that is already known.
    pub fn find(&self, key: &SeriesKey) -> Option<SeriesRef> {
        self.inner.read().by_key.get(key).copied()
    }

    /// The definition behind a number; `None` for a number of another process.
    pub fn get(&self, series: SeriesRef) -> Option<Arc<SeriesDef>> {
        self.inner.read().defs.get(series.index()).cloned()
    }

    /// How many series are known.
    pub fn len(&self) -> usize {
        self.inner.read().defs.len()
    }

    /// True before the first series.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str, labels: &[(&str, &str)]) -> SeriesKey {
        SeriesKey::new(name, labels.iter().copied()).unwrap()
    }

    #[test]
    fn label_order_does_not_change_the_identity() {
        assert_eq!(key("t", &[("a", "1"), ("b", "2")]), key("t", &[("b", "2"), ("a", "1")]));
    }

    #[test]
    fn an_empty_label_value_is_no_label() {
        assert_eq!(key("t", &[("a", "")]), key("t", &[]));
    }

    #[test]
    fn bad_names_are_refused_with_the_reason() {
        assert_eq!(SeriesKey::new("", [("a", "b")]), Err(InvalidSeries::EmptyName));
        assert!(matches!(
            SeriesKey::new("m", [("a", "1"), ("a", "2")]),
            Err(InvalidSeries::DuplicateLabel(label)) if label == "a"
        ));
        assert!(SeriesKey::new("a\nb", [("a", "1")]).is_err());
        assert!(SeriesKey::new("x".repeat(MAX_NAME + 1), [("a", "1")]).is_err());
    }

    #[test]
    fn a_full_table_refuses_new_series_and_keeps_serving_known_ones() {
        let table = SeriesTable::new(1);
        let first = table.intern(SeriesDef::bare(key("a", &[]))).unwrap();
        assert_eq!(table.intern(SeriesDef::bare(key("b", &[]))), Err(SeriesLimit(1)));
        assert_eq!(table.intern(SeriesDef::bare(key("a", &[]))), Ok(first));
        assert_eq!(table.restore(SeriesDef::bare(key("c", &[]))), SeriesRef(1));
    }

    #[test]
    fn a_key_prints_as_a_selector() {
        assert_eq!(key("t", &[("device", "p\"7")]).to_string(), r#"t{device="p\"7"}"#);
        assert_eq!(key("t", &[]).to_string(), "t");
    }
}
