//! From a topic to what it names: site, device, metric and labels.

use super::config::{MappingConfig, MappingError, PayloadKind, RuleConfig};
use super::defaults;
use super::pattern::{Pattern, Template};
use super::words::is_envelope;
use telemetry::series::{DEVICE, SITE};

/// A compiled rule.
#[derive(Debug)]
pub(super) struct Rule {
    pattern: Pattern,
    pub(super) kind: PayloadKind,
    name: Template,
    site: Template,
    device: Template,
    labels: Vec<(String, Template)>,
    /// Captures that become labels by themselves.
    own_labels: bool,
    pub(super) unit: String,
    pub(super) root: Vec<String>,
    pub(super) time: Vec<String>,
    pub(super) device_field: Vec<String>,
    only_json: bool,
    built_in: bool,
}

/// What a topic names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Target {
    /// The metric so far; "" where the payload's paths name it.
    pub(super) name: String,
    /// site, device and further labels, without empty ones.
    pub(super) labels: Vec<(String, String)>,
    /// True when a configured rule named the device, so that the payload doesn't.
    pub(super) device_is_fixed: bool,
}

impl Target {
    fn label(&mut self, name: &str, value: String) {
        if !value.is_empty() {
            self.labels.push((name.to_owned(), value));
        }
    }
}

impl Rule {
    fn new(config: &RuleConfig, only_json: bool, built_in: bool) -> Result<Self, MappingError> {
        let pattern = Pattern::new(&config.topic)?;
        let template = |text: &str, default: &str| match text {
            "" if pattern.captures(default) => Template::new(&format!("{{{default}}}"), &pattern),
            text => Template::new(text, &pattern),
        };
        let path = |text: &str| text.split('.').filter(|part| !part.is_empty()).map(str::to_owned).collect();
        Ok(Self {
            name: template(&config.name, "metric")?,
            site: template(&config.site, SITE)?,
            device: template(&config.device, DEVICE)?,
            labels: config
                .labels
                .iter()
                .map(|(label, text)| Ok((label.clone(), Template::new(text, &pattern)?)))
                .collect::<Result<_, MappingError>>()?,
            own_labels: true,
            pattern,
            kind: config.payload,
            unit: config.unit.clone(),
            root: path(&config.root),
            time: path(&config.time),
            device_field: path(&config.device_field),
            only_json,
            built_in,
        })
    }

    /// What the topic names under this rule, or `None` when it doesn't fit.
    fn target(&self, topic: &str, is_object: bool) -> Option<Target> {
        if self.only_json && !is_object {
            return None;
        }
        let captures = self.pattern.matches(topic)?;
        let mut target = Target { name: self.name.fill(&captures, true), ..Target::default() };
        if self.built_in && is_object {
            target.name = without_envelope(&target.name).to_owned();
        }
        target.label(SITE, self.site.fill(&captures, false));
        target.label(DEVICE, self.device.fill(&captures, false));
        target.device_is_fixed = !self.built_in && !self.device.is_empty();
        for (label, template) in &self.labels {
            target.label(label, template.fill(&captures, false));
        }
        if self.own_labels {
            let used = |name: &str| {
                [&self.name, &self.site, &self.device]
                    .into_iter()
                    .chain(self.labels.iter().map(|(_, t)| t))
                    .any(|template| template.uses(name))
            };
            for (name, value) in captures {
                if !used(name) && name != "metric" {
                    target.label(name, value.to_owned());
                }
            }
        }
        Some(target)
    }
}

/// `a.b.state` → `a.b`: the last part names the kind of message.
fn without_envelope(name: &str) -> &str {
    match name.rsplit_once('.') {
        Some((rest, last)) if is_envelope(last) => rest,
        None if is_envelope(name) => "",
        _ => name,
    }
}

/// All rules of one mapping.
#[derive(Debug)]
pub(super) struct Routes {
    rules: Vec<Rule>,
    generic: Option<Rule>,
}

impl Routes {
    pub(super) fn new(config: &MappingConfig) -> Result<Self, MappingError> {
        let mut rules = Vec::new();
        for (at, rule) in config.rules.iter().enumerate() {
            let rule = Rule::new(rule, false, false)
                .map_err(|error| MappingError { what: format!("rule {}: {}", at + 1, error.what) })?;
            rules.push(rule);
        }
        let mut generic = None;
        if config.default_rules {
            for built_in in defaults::rules() {
                rules.push(Rule::new(&built_in.rule, built_in.only_json, true)?);
            }
            generic =
                Some(Rule::new(&RuleConfig { topic: "#".into(), ..RuleConfig::default() }, false, true)?);
        }
        Ok(Self { rules, generic })
    }

    /// The rule for a topic, and what it names. `shape` is what the payload looks like.
    pub(super) fn find(&self, topic: &str, shape: Shape) -> Option<(&Rule, Target)> {
        let is_json = shape != Shape::Scalar;
        let found = self.rules.iter().find_map(|rule| Some((rule, rule.target(topic, is_json)?)));
        found.or_else(|| Some((self.generic.as_ref()?, plain(topic, shape))))
    }
}

/// What a payload looks like, as far as naming goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// A number, a word, other text.
    Scalar,
    /// A JSON object or array with fields that name themselves.
    Fields,
    /// A JSON object with one value that the topic names.
    Value,
}

/// `site/device/metric...`, `device/metric` or `metric`; where the payload's fields name the
/// metrics, `site/device[/group...]` or `device`.
fn plain(topic: &str, shape: Shape) -> Target {
    let mut levels: Vec<&str> = topic.split('/').filter(|level| !level.is_empty()).collect();
    let mut target = Target::default();
    if shape == Shape::Fields && levels.len() > 1 && levels.last().is_some_and(|level| is_envelope(level)) {
        levels.pop();
    }
    let fields = shape == Shape::Fields;
    let (site, device, metric) = match levels.as_slice() {
        [] => (None, None, &[][..]),
        [device] if fields => (None, Some(*device), &[][..]),
        [site, device] if fields => (Some(*site), Some(*device), &[][..]),
        [_] => (None, None, levels.as_slice()),
        [device, metric @ ..] if metric.len() == 1 => (None, Some(*device), metric),
        [site, device, metric @ ..] => (Some(*site), Some(*device), metric),
    };
    target.name = metric.join(".");
    target.label(SITE, site.unwrap_or_default().to_owned());
    target.label(DEVICE, device.unwrap_or_default().to_owned());
    target
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(topic: &str, shape: Shape) -> (String, Vec<(String, String)>) {
        let target = plain(topic, shape);
        (target.name, target.labels)
    }

    fn labels(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }

    #[test]
    fn a_plain_topic_names_site_device_and_metric_from_the_left() {
        let full = labels(&[("site", "plant1"), ("device", "pump7")]);
        assert_eq!(named("plant1/pump7/temperature", Shape::Scalar), ("temperature".into(), full.clone()));
        assert_eq!(named("plant1/pump7/motor/speed", Shape::Scalar), ("motor.speed".into(), full.clone()));
        assert_eq!(
            named("pump7/temperature", Shape::Scalar),
            ("temperature".into(), labels(&[("device", "pump7")]))
        );
        assert_eq!(named("temperature", Shape::Scalar), ("temperature".into(), vec![]));
        assert_eq!(named("/plant1//pump7/t/", Shape::Scalar), ("t".into(), full.clone()));
        assert_eq!(named("plant1/pump7", Shape::Fields), (String::new(), full.clone()));
        assert_eq!(named("plant1/pump7/telemetry", Shape::Fields), (String::new(), full.clone()));
        assert_eq!(named("plant1/pump7/vibration", Shape::Fields), ("vibration".into(), full.clone()));
        assert_eq!(named("plant1/pump7/temperature", Shape::Value), ("temperature".into(), full));
        assert_eq!(named("pump7", Shape::Fields), (String::new(), labels(&[("device", "pump7")])));
    }
}
