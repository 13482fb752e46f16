//! Priority classes: which readings go first when there isn't room for all, and how they go.
//!
//! A batch holds rows of one [`Class`] only, so that it can be kept or dropped as a whole. The class is
//! written with the batch: what was cut under one configuration is treated by it to the end.

use std::collections::BTreeMap;

use telemetry::{Attribute, Event, SeriesDef, SeriesRef, SeriesTable, Severity, glob};

/// Most entries of a configuration.
pub const MAX_CLASS_RULES: usize = 100;
/// Series of anomaly scores: worth most when the rest is gone.
const SCORES: &str = "telemetryx.anomaly.score";

/// Which is dropped first: the lowest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Priority {
    /// Goes first.
    Low = 0,
    /// Goes when nothing low is left.
    #[default]
    Normal = 1,
    /// Goes last.
    High = 2,
}

/// What happens to a class when it is its turn to make room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Overflow {
    /// Its oldest batches are dropped.
    #[default]
    DropOldest,
    /// Its newest batches are dropped, which keeps how it began.
    DropNewest,
    /// Nothing of it is dropped: its rows aren't taken until there is room.
    Block,
    /// Raw samples that were never offered become windows of so many nanoseconds; after that as `DropOldest`.
    Thin(i64),
}

/// How much a batch is worth and how it goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Class {
    /// Whether it goes before or after others.
    pub priority: Priority,
    /// How it goes.
    pub overflow: Overflow,
}

/// One entry of the configuration: what it takes, and the class of that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassRule {
    /// Series whose metric name fits this glob; `None` with neither labels nor severity is everything.
    pub name: Option<String>,
    /// Labels (of an event: attributes) that must fit too, each value a glob.
    pub labels: BTreeMap<String, String>,
    /// Events of this severity and above.
    pub min_severity: Option<Severity>,
    /// Their class.
    pub class: Class,
}

impl ClassRule {
    /// True when it speaks of this series.
    fn takes_series(&self, def: &SeriesDef) -> bool {
        // An entry that gives a severity and no name speaks of events alone.
        if self.name.is_none() && self.min_severity.is_some() {
            return false;
        }
        self.name.as_ref().is_none_or(|name| glob::matches(name, def.key.name()))
            && self
                .labels
                .iter()
                .all(|(label, value)| glob::matches(value, def.key.label(label).unwrap_or("")))
    }

    /// True when it speaks of this event.
    fn takes_event(&self, event: &Event) -> bool {
        let severe = match (self.min_severity, &self.name) {
            (Some(min), _) => event.severity >= min,
            (None, Some(_)) => false,
            (None, None) => true,
        };
        severe && self.labels.iter().all(|(name, value)| glob::matches(value, text(event, name)))
    }
}

/// The text of an event's attribute, "" where there is none.
fn text<'a>(event: &'a Event, name: &str) -> &'a str {
    event
        .attributes
        .iter()
        .find_map(|(key, value)| match value {
            Attribute::Text(text) if key == name => Some(&**text),
            _ => None,
        })
        .unwrap_or("")
}

/// The configured rules with what they decided: one look in a table for each series.
pub(crate) struct Classes {
    rules: Vec<ClassRule>,
    /// The classes in use; the first is the default.
    list: Vec<Class>,
    /// By index in this process's table: which of `list`; [`UNDECIDED`] until it is asked for.
    series: Vec<u8>,
}

const UNDECIDED: u8 = u8::MAX;
const DEFAULT: u8 = 0;

impl Classes {
    pub(crate) fn new(configured: &[ClassRule]) -> Self {
        let high = Class { priority: Priority::High, ..Class::default() };
        let mut rules: Vec<ClassRule> = configured.iter().take(MAX_CLASS_RULES).cloned().collect();
        rules.push(ClassRule {
            name: Some(SCORES.into()),
            labels: BTreeMap::new(),
            min_severity: Some(Severity::Error),
            class: high,
        });
        let mut list = vec![Class::default()];
        for rule in &rules {
            if !list.contains(&rule.class) {
                list.push(rule.class);
            }
        }
        Self { rules, list, series: Vec::new() }
    }

    /// How many classes are in use.
    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    pub(crate) fn class(&self, index: u8) -> Class {
        self.list.get(usize::from(index)).copied().unwrap_or_default()
    }

    /// True when some class isn't dropped but blocks.
    pub(crate) fn may_block(&self) -> bool {
        self.list.iter().any(|class| class.overflow == Overflow::Block)
    }

    #[inline]
    pub(crate) fn of_series(&mut self, series: SeriesRef, table: &SeriesTable) -> u8 {
        match self.series.get(series.index()) {
            Some(class) if *class != UNDECIDED => *class,
            _ => self.decide(series, table),
        }
    }

    #[cold]
    fn decide(&mut self, series: SeriesRef, table: &SeriesTable) -> u8 {
        let Some(def) = table.get(series) else { return DEFAULT };
        if series.index() >= self.series.len() {
            self.series.resize(series.index() + 1, UNDECIDED);
        }
        let class = self.index(self.rules.iter().find(|rule| rule.takes_series(&def)));
        self.series[series.index()] = class;
        class
    }

    pub(crate) fn of_event(&self, event: &Event) -> u8 {
        self.index(self.rules.iter().find(|rule| rule.takes_event(event)))
    }

    fn index(&self, rule: Option<&ClassRule>) -> u8 {
        let of = |rule: &ClassRule| self.list.iter().position(|class| *class == rule.class);
        rule.and_then(of).map_or(DEFAULT, |at| at as u8)
    }
}

#[cfg(test)]
mod tests {
    use telemetry::SeriesKey;

    use super::*;

    fn low() -> Class {
        Class { priority: Priority::Low, overflow: Overflow::Thin(60) }
    }

    fn rule(name: Option<&str>, labels: &[(&str, &str)], min_severity: Option<Severity>) -> ClassRule {
        let labels = labels.iter().map(|(label, value)| ((*label).into(), (*value).into())).collect();
        ClassRule { name: name.map(Into::into), labels, min_severity, class: low() }
    }

    fn event(severity: Severity, site: &str) -> Event {
        Event {
            source: "app".into(),
            time: 0,
            severity,
            body: String::new(),
            attributes: vec![("site".into(), Attribute::Text(site.into()))],
        }
    }

    fn of(classes: &mut Classes, table: &SeriesTable, name: &str, labels: &[(&str, &str)]) -> Class {
        let key = SeriesKey::new(name, labels.iter().copied()).unwrap();
        let series = table.intern(SeriesDef::bare(key)).unwrap();
        let first = classes.of_series(series, table);
        assert_eq!(classes.of_series(series, table), first, "asked twice it says the same");
        classes.class(first)
    }

    #[test]
    fn scores_and_errors_are_high_and_all_else_is_normal() {
        let (mut classes, table) = (Classes::new(&[]), SeriesTable::new(9));
        assert_eq!(of(&mut classes, &table, SCORES, &[]).priority, Priority::High);
        assert_eq!(of(&mut classes, &table, "load", &[]), Class::default());
        let class = |severity| classes.class(classes.of_event(&event(severity, "")));
        assert_eq!(class(Severity::Error).priority, Priority::High);
        assert_eq!(class(Severity::Fatal).priority, Priority::High);
        assert_eq!(class(Severity::Warn), Class::default());
    }

    #[test]
    fn the_first_entry_that_fits_decides_and_comes_before_the_defaults() {
        let table = SeriesTable::new(9);
        let mut classes = Classes::new(&[rule(Some("debug.*"), &[("site", "north*")], None)]);
        assert_eq!(of(&mut classes, &table, "debug.x", &[("site", "north-1")]), low());
        assert_eq!(of(&mut classes, &table, "debug.x", &[("site", "south")]), Class::default());
        assert_eq!(classes.class(classes.of_event(&event(Severity::Info, "north-1"))), Class::default());
        let mut classes = Classes::new(&[rule(Some("*"), &[], None)]);
        assert_eq!(of(&mut classes, &table, SCORES, &[]), low());
    }

    #[test]
    fn a_severity_speaks_of_events_and_an_entry_without_anything_of_all() {
        let table = SeriesTable::new(9);
        let mut classes = Classes::new(&[rule(None, &[("site", "n*")], Some(Severity::Warn))]);
        assert_eq!(of(&mut classes, &table, "load", &[("site", "n")]), Class::default());
        assert_eq!(classes.class(classes.of_event(&event(Severity::Warn, "n"))), low());
        assert_eq!(classes.class(classes.of_event(&event(Severity::Warn, "s"))), Class::default());
        assert_eq!(classes.class(classes.of_event(&event(Severity::Info, "n"))), Class::default());
        let mut classes = Classes::new(&[rule(None, &[], None)]);
        assert_eq!(of(&mut classes, &table, "load", &[]), low());
        assert_eq!(classes.class(classes.of_event(&event(Severity::Info, ""))), low());
    }
}
