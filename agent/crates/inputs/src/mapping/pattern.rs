//! Topic patterns with captures, and the templates that use them.

use super::config::MappingError;

/// One compiled topic pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    levels: Vec<Level>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Level {
    Literal(String),
    /// `+`
    Any,
    /// `$+`: any level that begins with `$` (built-in rules only).
    Dollar,
    /// `{name}`
    Capture(String),
    /// `#`
    Rest,
    /// `{name...}`
    CaptureRest(String),
}

/// What a topic's levels were captured as.
pub(super) type Captures<'p, 't> = Vec<(&'p str, &'t str)>;

fn wrong(what: String) -> MappingError {
    MappingError { what }
}

impl Pattern {
    pub(super) fn new(text: &str) -> Result<Self, MappingError> {
        if text.is_empty() {
            return Err(wrong(
                "a rule has no topic: give it one, such as topic = \"{site}/{device}/{metric...}\"".into(),
            ));
        }
        let parts: Vec<&str> = text.split('/').collect();
        let mut levels = Vec::new();
        let mut names = Vec::new();
        for (at, part) in parts.iter().enumerate() {
            let level = match *part {
                "+" => Level::Any,
                "$+" => Level::Dollar,
                "#" => Level::Rest,
                part => match part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) {
                    Some(name) => {
                        let (name, rest) =
                            name.strip_suffix("...").map_or((name, false), |name| (name, true));
                        let good = |c: char| c.is_ascii_alphanumeric() || c == '_';
                        if name.is_empty() || !name.chars().all(good) {
                            return Err(wrong(format!(
                                "topic {text:?}: {part:?} is no capture: a name of letters, digits and _ goes between the braces"
                            )));
                        }
                        if names.contains(&name) {
                            return Err(wrong(format!("topic {text:?}: {{{name}}} is captured twice")));
                        }
                        names.push(name);
                        if rest { Level::CaptureRest(name.into()) } else { Level::Capture(name.into()) }
                    }
                    None if part.contains(['{', '}', '+', '#']) => {
                        return Err(wrong(format!(
                            "topic {text:?}: in level {part:?} a capture or wildcard must be the whole level"
                        )));
                    }
                    None => Level::Literal(part.into()),
                },
            };
            if matches!(level, Level::Rest | Level::CaptureRest(_)) && at + 1 != parts.len() {
                return Err(wrong(format!(
                    "topic {text:?}: {part:?} takes all that is left, so it must be the last level"
                )));
            }
            levels.push(level);
        }
        Ok(Self { levels })
    }

    /// True when a template may use this capture.
    pub(super) fn captures(&self, name: &str) -> bool {
        self.levels
            .iter()
            .any(|level| matches!(level, Level::Capture(known) | Level::CaptureRest(known) if known == name))
    }

    /// Matches a topic. As in MQTT, a topic that begins with `$` needs a literal first level.
    pub(super) fn matches<'p, 't>(&'p self, topic: &'t str) -> Option<Captures<'p, 't>> {
        if topic.starts_with('$') && !matches!(self.levels.first(), Some(Level::Literal(_))) {
            return None;
        }
        let mut captures = Vec::new();
        let mut rest = Some(topic);
        for level in &self.levels {
            let here = match level {
                // As in MQTT, `a/#` fits `a` too; a capture needs something to capture.
                Level::Rest => return Some(captures),
                _ => rest?,
            };
            let (head, tail) = match here.split_once('/') {
                Some((head, tail)) => (head, Some(tail)),
                None => (here, None),
            };
            match level {
                Level::Literal(literal) if literal != head => return None,
                Level::Dollar if !head.starts_with('$') => return None,
                Level::Literal(_) | Level::Dollar | Level::Any | Level::Rest => {}
                Level::Capture(name) => captures.push((name.as_str(), head)),
                Level::CaptureRest(name) => {
                    captures.push((name.as_str(), here));
                    return Some(captures);
                }
            }
            rest = tail;
        }
        rest.is_none().then_some(captures)
    }
}

/// Text with captures: `pump-{device}`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Capture(String),
}

impl Template {
    /// Compiles a template; each capture must be one of the pattern's.
    pub(super) fn new(text: &str, pattern: &Pattern) -> Result<Self, MappingError> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(open) = rest.find('{') {
            let close = rest[open..].find('}').map(|close| open + close);
            let close = close.ok_or_else(|| wrong(format!("template {text:?}: a brace is not closed")))?;
            let name = &rest[open + 1..close];
            if !pattern.captures(name) {
                return Err(wrong(format!("template {text:?}: the topic has no {{{name}}}")));
            }
            if open > 0 {
                parts.push(Part::Text(rest[..open].into()));
            }
            parts.push(Part::Capture(name.into()));
            rest = &rest[close + 1..];
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.into()));
        }
        Ok(Self { parts })
    }

    pub(super) fn uses(&self, name: &str) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Capture(known) if known == name))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Fills it in. `dotted` turns a captured rest's slashes into dots: names of metrics.
    pub(super) fn fill(&self, captures: &Captures<'_, '_>, dotted: bool) -> String {
        let mut out = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Capture(name) => {
                    let value =
                        captures.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value);
                    if dotted { out.push_str(&value.replace('/', ".")) } else { out.push_str(value) }
                }
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches<'a>(pattern: &'a Pattern, topic: &'a str) -> Option<Vec<(&'a str, &'a str)>> {
        pattern.matches(topic)
    }

    #[test]
    fn levels_are_captured_by_name_and_the_rest_as_a_whole() {
        let pattern = Pattern::new("{site}/{device}/{metric...}").unwrap();
        assert_eq!(
            matches(&pattern, "plant1/pump7/motor/temperature"),
            Some(vec![("site", "plant1"), ("device", "pump7"), ("metric", "motor/temperature")])
        );
        assert_eq!(matches(&pattern, "plant1/pump7"), None);
        let template = Template::new("x-{metric}", &pattern).unwrap();
        let captures = pattern.matches("a/b/c/d").unwrap();
        assert_eq!(
            (template.fill(&captures, true), template.fill(&captures, false)),
            ("x-c.d".into(), "x-c/d".into())
        );
    }

    #[test]
    fn wildcards_are_those_of_mqtt() {
        let all = |pattern: &str, topic: &str| Pattern::new(pattern).unwrap().matches(topic).is_some();
        assert!(all("a/#", "a") && all("a/#", "a/b/c") && all("#", "x/y"));
        assert!(all("a/+/c", "a/b/c") && !all("a/+/c", "a/b/c/d") && !all("a/+", "a"));
        assert!(!all("#", "$SYS/broker") && !all("+/x", "$SYS/x") && all("$SYS/#", "$SYS/broker"));
        assert!(all("a//b", "a//b") && !all("a/b", "a/b/"));
    }

    #[test]
    fn a_bad_pattern_says_what_to_change() {
        for (text, why) in [
            ("", "has no topic"),
            ("a/#/b", "last level"),
            ("{a...}/b", "last level"),
            ("x{a}", "whole level"),
            ("{}", "no capture"),
            ("{a}/{a}", "captured twice"),
        ] {
            let error = Pattern::new(text).unwrap_err();
            assert!(error.what.contains(why), "{text}: {error}");
        }
        let pattern = Pattern::new("{a}").unwrap();
        assert!(Template::new("{b}", &pattern).unwrap_err().what.contains("no {b}"));
        assert!(Template::new("{a", &pattern).unwrap_err().what.contains("not closed"));
    }
}
