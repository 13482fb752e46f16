//! `[[spool.class]]`: which readings are worth more than others, as the config file says it, and how the
//! spool is told.

use std::collections::BTreeMap;

use fold::Span;
use schemars::JsonSchema;
use serde::Deserialize;
use spool::{Class, ClassRule, MAX_CLASS_RULES, Overflow, Priority};
use telemetry::Severity;

/// A window of thinned readings where nothing is said.
const MINUTE: i64 = 60_000_000_000;

/// Which readings are worth more than others. Entries are tried in order, and the first that fits decides. What none
/// fits: anomaly scores and events of severity `error` and above are high, everything else is normal, and all of
/// it goes oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClassConfig {
    /// Series whose metric name fits this glob (`*` any text, `?` any character). An entry with neither this
    /// nor `min_severity` takes events too.
    #[serde(rename = "match")]
    pub name: Option<String>,
    /// Labels (of events: attributes) that must fit too, each value a glob, e.g. `{ device = "pump-*" }`.
    pub labels: BTreeMap<String, String>,
    /// Events of this severity and above: `trace`, `debug`, `info`, `warn`, `error`, `fatal`. Without `match`
    /// the entry takes events alone.
    #[schemars(with = "Option<String>")]
    pub min_severity: Option<Severity>,
    /// Which goes first when there isn't room for all: `low`, then `normal`, `high` last.
    pub priority: PriorityConfig,
    /// How it goes: `drop-oldest`; `drop-newest`, which keeps how it began; `block`, which drops nothing and lets
    /// inputs push back; `thin`, which makes windows of raw readings and drops the oldest only after that.
    pub overflow: OverflowConfig,
    /// Length of the windows that `thin` makes; `1m` where nothing is said.
    pub thin_to: Option<Span>,
}

/// Which goes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PriorityConfig {
    /// First.
    Low,
    /// After that.
    #[default]
    Normal,
    /// Last.
    High,
}

/// How a class goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OverflowConfig {
    /// The oldest batches are dropped.
    #[default]
    DropOldest,
    /// The newest are.
    DropNewest,
    /// None is; readings wait.
    Block,
    /// Raw readings become windows first.
    Thin,
}

/// What happens when the disk is nearly full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FreeFloor {
    /// Batches wait in the journal, and inputs push back when there is no room for more.
    #[default]
    Wait,
    /// Batches give way as at `max_bytes`, and only when none is left they wait.
    Drop,
}

impl ClassConfig {
    fn rule(&self) -> ClassRule {
        let priority = match self.priority {
            PriorityConfig::Low => Priority::Low,
            PriorityConfig::Normal => Priority::Normal,
            PriorityConfig::High => Priority::High,
        };
        let overflow = match self.overflow {
            OverflowConfig::DropOldest => Overflow::DropOldest,
            OverflowConfig::DropNewest => Overflow::DropNewest,
            OverflowConfig::Block => Overflow::Block,
            OverflowConfig::Thin => Overflow::Thin(self.thin_to.map_or(MINUTE, Span::nanos)),
        };
        ClassRule {
            name: self.name.clone(),
            labels: self.labels.clone(),
            min_severity: self.min_severity,
            class: Class { priority, overflow },
        }
    }
}

impl ClassConfig {
    /// Whether whatever fits another entry, which is tried later, fits this one too, as far as can be seen from their texts.
    fn takes_all_of(&self, later: &Self) -> bool {
        let (series, events) = (self.takes_series(), self.takes_events());
        let any = |name: &str| !name.is_empty() && name.chars().all(|c| c == '*');
        let names = match (&self.name, &later.name) {
            (None, _) => true,
            (Some(ours), _) if any(ours) => true,
            (Some(ours), Some(its)) => ours == its,
            (Some(_), None) => false,
        };
        let severities = match (self.min_severity, later.min_severity) {
            (None, _) => true,
            (Some(ours), Some(its)) => ours <= its,
            (Some(ours), None) => ours == Severity::Trace,
        };
        let labels = self.labels.iter().all(|(label, value)| later.labels.get(label) == Some(value));
        labels
            && (!later.takes_series() || series && names)
            && (!later.takes_events() || events && severities)
    }

    fn takes_series(&self) -> bool {
        self.name.is_some() || self.min_severity.is_none()
    }

    fn takes_events(&self) -> bool {
        self.name.is_none() || self.min_severity.is_some()
    }
}

/// What the spool is told.
pub fn rules(classes: &[ClassConfig]) -> Vec<ClassRule> {
    classes.iter().map(ClassConfig::rule).collect()
}

/// What can't work: the section it is in, and a sentence.
pub fn problems(classes: &[ClassConfig]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    if classes.len() > MAX_CLASS_RULES {
        found.push((
            "spool.class".into(),
            format!("{} entries of spool.class; at most {MAX_CLASS_RULES} are taken", classes.len()),
        ));
    }
    found
}

/// What is allowed and does nothing, or not what it seems: the section it is in, and a sentence.
pub fn warnings(classes: &[ClassConfig]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (at, class) in (1..).zip(classes) {
        let mut say = |said: &str| {
            found.push((format!("spool.class.{at}"), format!("spool.class {at}: {said}")));
        };
        let thins = class.overflow == OverflowConfig::Thin;
        if !thins && class.thin_to.is_some() {
            say("thin_to counts only with overflow = \"thin\": set that, or take thin_to out");
        }
        if thins && class.min_severity.is_some() {
            match class.name {
                None => say(
                    "min_severity without match takes events alone, and overflow = \"thin\" makes windows of samples: its events go as with \"drop-oldest\"; write that, or name series with match",
                ),
                Some(_) => say(
                    "overflow = \"thin\" makes windows of samples: the events of min_severity and above go as with \"drop-oldest\"; give them an entry of their own",
                ),
            }
        }
        // The first entry that fits decides.
        if let Some((before, _)) = (1..at).zip(classes).find(|(_, earlier)| earlier.takes_all_of(class)) {
            say(&format!(
                "entry {before} takes all that fits this one, and the first that fits decides: put this one before it, or take it out"
            ));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;

    #[test]
    fn entries_say_what_the_spool_is_told() {
        let text = r#"
            [[spool.class]]
            match = "debug.*"
            labels = { site = "north" }
            priority = "low"
            overflow = "thin"
            thin_to = "5m"
            [[spool.class]]
            min_severity = "warn"
            priority = "high"
            overflow = "block"
        "#;
        let config = Config::parse(text, Path::new("agent.toml")).unwrap();
        let [thinned, warned] = &rules(&config.spool.class)[..] else { panic!("two entries") };
        assert_eq!((thinned.name.as_deref(), thinned.min_severity), (Some("debug.*"), None));
        assert_eq!(
            thinned.class,
            Class { priority: Priority::Low, overflow: Overflow::Thin(300_000_000_000) }
        );
        assert_eq!(thinned.labels["site"], "north");
        assert_eq!((warned.name.as_deref(), warned.min_severity), (None, Some(Severity::Warn)));
        assert_eq!(warned.class, Class { priority: Priority::High, overflow: Overflow::Block });
    }

    #[test]
    fn a_window_that_cannot_be_is_refused_with_its_entry() {
        let text = "[[spool.class]]\noverflow = \"thin\"\nthin_to = \"10ms\"\n";
        let error = Config::parse(text, Path::new("agent.toml")).unwrap_err().to_string();
        assert!(error.contains("spool.class.1.thin_to = \"10ms\" is out of range: give 1s to 1d"), "{error}");
        let error = Config::parse("[[spool.class]]\noverflow = \"drop\"\n", Path::new("agent.toml"));
        assert!(error.unwrap_err().to_string().contains("drop-oldest"));
    }

    #[test]
    fn an_entry_that_does_less_than_it_says_is_warned_of() {
        let warned = |text: &str| {
            let config = Config::parse(text, Path::new("agent.toml")).unwrap();
            warnings(&config.spool.class).into_iter().map(|(_, said)| said).collect::<Vec<_>>()
        };
        for (text, said) in [
            (
                "[[spool.class]]\nmin_severity = \"warn\"\noverflow = \"thin\"\n",
                "min_severity without match takes events alone",
            ),
            (
                "[[spool.class]]\nmatch = \"m*\"\nmin_severity = \"warn\"\noverflow = \"thin\"\n",
                "events of min_severity and above go as with \"drop-oldest\"",
            ),
            (
                "[[spool.class]]\npriority = \"low\"\n[[spool.class]]\nmatch = \"x*\"\npriority = \"high\"\n",
                "spool.class 2: entry 1 takes all that fits this one",
            ),
            (
                "[[spool.class]]\nmatch = \"*\"\n[[spool.class]]\nmatch = \"x*\"\nlabels = { a = \"b\" }\n",
                "spool.class 2: entry 1 takes all",
            ),
            (
                "[[spool.class]]\nmin_severity = \"info\"\n[[spool.class]]\nmin_severity = \"warn\"\npriority = \"high\"\n",
                "spool.class 2: entry 1 takes all",
            ),
            ("[[spool.class]]\nmatch = \"m*\"\nthin_to = \"5m\"\n", "thin_to counts only"),
        ] {
            let found = warned(text);
            assert!(found.len() == 1 && found[0].contains(said), "{text}: {found:?}");
        }
        for text in [
            "[[spool.class]]\nmatch = \"m*\"\noverflow = \"thin\"\n[[spool.class]]\nmin_severity = \"warn\"\npriority = \"high\"\n[[spool.class]]\npriority = \"low\"\n",
            // Of the second the events are left, of the third the samples.
            "[[spool.class]]\nmatch = \"*\"\n[[spool.class]]\npriority = \"low\"\n",
            "[[spool.class]]\nmin_severity = \"warn\"\n[[spool.class]]\nmin_severity = \"info\"\n[[spool.class]]\nlabels = { a = \"b\" }\n",
            "[[spool.class]]\nlabels = { a = \"b\" }\n[[spool.class]]\nlabels = { c = \"d\" }\n",
        ] {
            assert_eq!(warned(text), Vec::<String>::new(), "{text}");
        }
    }
}
