//! Mapping: what a topic and its payload mean, as samples and events.
//!
//! [`Mapper::map`] finds the rule for the topic ([`route`]), sees what the payload is, and reads it:
//! a number, a state word, JSON ([`readings`]), line protocol, or text, which is an event.
//! docs/how-to/mapping.md describes it for a user; `tests.rs` has the real payloads that must come
//! out right by default.

pub mod config;
mod defaults;
mod last_seen;
mod pattern;
mod readings;
mod route;
mod words;

use jiff::tz::TimeZone;
use telemetry::{Cause, SampleFlags, Severity, Stamp};

use crate::intake::{IntakeBuilder, Rejection};
use crate::json::{self, Bounds, Json};
use crate::lineproto;
use readings::Readings;
use route::{Routes, Rule, Shape, Target};

pub use config::{MappingConfig, MappingError, PayloadKind, RuleConfig};
pub use last_seen::{Delivery, LastSeen};

/// Marks a topic's key in the series cache.
const TOPIC_KEY: u8 = 0xfe;

/// Turns publishes into readings. Immutable once built: share it in an `Arc`.
#[derive(Debug)]
pub struct Mapper {
    routes: Routes,
    zone: TimeZone,
    max_payload: usize,
    max_readings: usize,
    bounds: Bounds,
}

impl Mapper {
    /// Compiles the rules.
    ///
    /// # Errors
    /// [`MappingError`], naming the rule and what to change.
    pub fn new(config: &MappingConfig) -> Result<Self, MappingError> {
        let zone = match config.time_zone.as_str() {
            "" => TimeZone::system(),
            name => TimeZone::get(name).map_err(|error| MappingError {
                what: format!("time_zone {name:?} is not known here ({error}): use an IANA name such as Europe/Berlin, and install tzdata where it is missing"),
            })?,
        };
        if !(1..=100).contains(&config.max_depth) {
            return Err(MappingError { what: format!("max_depth is {}: give 1 to 100", config.max_depth) });
        }
        Ok(Self {
            routes: Routes::new(config)?,
            zone,
            max_payload: config.max_payload,
            max_readings: config.max_readings,
            bounds: Bounds {
                depth: config.max_depth,
                nodes: config.max_readings.saturating_mul(16).max(1024),
            },
        })
    }

    /// Maps one publish. Whatever can't be mapped is counted and kept through
    /// [`IntakeBuilder::rejected`]; this never fails.
    ///
    /// `retained_redelivery` says that this is a retained message sent because of a subscription
    /// and that its payload differs from the last one seen on that topic ([`Delivery::Changed`]; an
    /// equal one is not a reading: the caller counts it with [`IntakeBuilder::deduplicated`]). Its
    /// samples are marked [`SampleFlags::RETAINED`].
    pub fn map(
        &self,
        topic: &str,
        payload: &[u8],
        retained_redelivery: bool,
        at: Stamp,
        out: &mut IntakeBuilder<'_>,
    ) {
        debug_assert_eq!(at, out.at());
        let flags = if retained_redelivery { SampleFlags::RETAINED } else { 0 };
        if self.known_number(topic, payload, flags, out) {
            return;
        }
        if let Err(rejection) = self.read(topic, payload, flags, out) {
            out.rejected(rejection.cause, &format!("{topic}: {rejection}"), payload);
        }
    }

    /// The fast path: a bare number on a topic that had one before.
    #[inline]
    fn known_number(&self, topic: &str, payload: &[u8], flags: u8, out: &mut IntakeBuilder<'_>) -> bool {
        if payload.len() > 32 || !matches!(payload.first(), Some(b'0'..=b'9' | b'-')) || topic.len() > 254 {
            return false;
        }
        let Ok(value) = fast_float2::parse::<f64, _>(payload) else { return false };
        let mut key = [0_u8; 256];
        key[0] = TOPIC_KEY;
        key[1..=topic.len()].copy_from_slice(topic.as_bytes());
        let Some(slot) = out.known(&key[..=topic.len()]) else { return false };
        out.push(slot, None, value, flags).is_ok()
    }

    fn read(
        &self,
        topic: &str,
        payload: &[u8],
        flags: u8,
        out: &mut IntakeBuilder<'_>,
    ) -> Result<(), Rejection> {
        if payload.len() > self.max_payload {
            let reason =
                format!("a payload of {} bytes; at most {} are taken", payload.len(), self.max_payload);
            return Err(Rejection::new(Cause::RejectedLimit, reason));
        }
        let trimmed = payload.trim_ascii();
        // An empty payload clears a retained value: no reading.
        if trimmed.is_empty() {
            return Ok(());
        }
        let json = self.json(trimmed)?;
        let shape = shape(json.as_ref());
        let Some((rule, target)) = self.routes.find(topic, shape) else {
            return Err(Rejection::new(Cause::RejectedUnmapped, "no mapping rule fits this topic"));
        };
        let step = Step { mapper: self, rule, topic, payload, flags };
        match rule.kind {
            PayloadKind::Ignore => {
                out.deduplicated(Cause::ReducedDrop, 1);
                Ok(())
            }
            PayloadKind::Auto => match json {
                Some(json) => step.json(&json, target, out),
                None => step.text(utf8(trimmed)?, &target, true, out),
            },
            PayloadKind::Json => match json {
                Some(json) => step.json(&json, target, out),
                None => {
                    let json = json::parse(trimmed, self.bounds)?;
                    step.json(&json, target, out)
                }
            },
            PayloadKind::Number => match words::number(utf8(trimmed)?)
                .or_else(|| words::state(utf8(trimmed).ok()?))
            {
                Some(value) => step.number(value, &target, out),
                None => Err(Rejection::new(Cause::RejectedType, "the rule wants a number, and this is none")),
            },
            PayloadKind::LineProtocol => step.lines(&target, out),
            PayloadKind::Text => step.event(utf8(trimmed)?, &target, out),
        }
    }

    /// The payload as JSON, when it is an object, an array, or a quoted string.
    fn json<'a>(&self, payload: &'a [u8]) -> Result<Option<Json<'a>>, Rejection> {
        match payload {
            [b'{' | b'"', ..] => json::parse(payload, self.bounds).map(Some),
            // A log line may begin with a bracket too: `[INFO] ...`.
            [b'[', ..] => match (json::parse(payload, self.bounds), payload.get(1)) {
                (Ok(json), _) => Ok(Some(json)),
                (Err(_), Some(b'A'..=b'Z' | b'a'..=b'z')) => Ok(None),
                (Err(rejection), _) => Err(rejection),
            },
            _ => Ok(None),
        }
    }
}

fn utf8(bytes: &[u8]) -> Result<&str, Rejection> {
    std::str::from_utf8(bytes).map_err(|_| {
        Rejection::new(
            Cause::RejectedEncoding,
            "neither a number, JSON nor UTF-8 text: binary payloads are not read",
        )
    })
}

fn shape(json: Option<&Json<'_>>) -> Shape {
    match json {
        None | Some(Json::Text(_)) => Shape::Scalar,
        Some(Json::Object(fields)) => {
            let named = |keys: &[&str]| {
                fields.iter().any(|(key, value)| keys.contains(&key.as_ref()) && value.text().is_some())
            };
            let value = fields
                .iter()
                .any(|(key, value)| words::is_value_key(key) && !matches!(value, Json::Object(_)));
            if value && !named(&["metric", "name", "measurement", "parameter", "n"]) {
                Shape::Value
            } else {
                Shape::Fields
            }
        }
        Some(Json::List(items)) => match items.first() {
            Some(first @ Json::Object(_)) => shape(Some(first)),
            _ => Shape::Value,
        },
        Some(_) => Shape::Fields,
    }
}

/// One publish on its way through one rule.
struct Step<'m> {
    mapper: &'m Mapper,
    rule: &'m Rule,
    topic: &'m str,
    payload: &'m [u8],
    flags: u8,
}

impl Step<'_> {
    fn json(&self, json: &Json<'_>, target: Target, out: &mut IntakeBuilder<'_>) -> Result<(), Rejection> {
        if let Json::Text(text) = json {
            return self.text(text, &target, false, out);
        }
        let left = self.mapper.max_readings.saturating_add(1);
        let mut readings = Readings {
            rule: self.rule,
            topic: self.topic,
            payload: self.payload,
            zone: &self.mapper.zone,
            flags: self.flags,
            left,
            severity: None,
            out,
        };
        readings.payload(json, target);
        Ok(())
    }

    /// Text that isn't JSON: a number, a word, line protocol, or an event.
    fn text(
        &self,
        text: &str,
        target: &Target,
        bare: bool,
        out: &mut IntakeBuilder<'_>,
    ) -> Result<(), Rejection> {
        if text.trim().is_empty() || text.eq_ignore_ascii_case("null") {
            return Ok(());
        }
        if let Some(value) = words::number(text) {
            let slot = self.number(value, target, out);
            if bare && slot.is_ok() {
                self.remember(target, out)?;
            }
            return slot;
        }
        if let Some(value) = words::state(text) {
            return self.number(value, target, out);
        }
        if bare && lineproto::plausible(self.payload) {
            return self.lines(target, out);
        }
        self.event(text, target, out)
    }

    fn number(&self, value: f64, target: &Target, out: &mut IntakeBuilder<'_>) -> Result<(), Rejection> {
        out.sample(name(target), &pairs(target), &self.rule.unit, None, value, self.flags)
    }

    fn remember(&self, target: &Target, out: &mut IntakeBuilder<'_>) -> Result<(), Rejection> {
        let slot = out.series(name(target), &pairs(target), &self.rule.unit)?;
        let key: Vec<u8> = std::iter::once(TOPIC_KEY).chain(self.topic.bytes()).collect();
        out.remember(&key, slot);
        Ok(())
    }

    fn lines(&self, target: &Target, out: &mut IntakeBuilder<'_>) -> Result<(), Rejection> {
        let labels = pairs(target);
        let options =
            lineproto::Options { labels: &labels, flags: self.flags, ..lineproto::Options::default() };
        lineproto::parse(self.payload, &options, out);
        Ok(())
    }

    fn event(&self, text: &str, target: &Target, out: &mut IntakeBuilder<'_>) -> Result<(), Rejection> {
        let time = out.at().wall;
        let event =
            readings::event(self.topic, text, &target.name, &[], Severity::Info, &target.labels, time);
        out.event(event)
    }
}

fn name(target: &Target) -> &str {
    if target.name.is_empty() { "value" } else { &target.name }
}

fn pairs(target: &Target) -> Vec<(&str, &str)> {
    target.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

#[cfg(test)]
mod tests;
