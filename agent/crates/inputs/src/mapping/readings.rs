//! A JSON payload as samples and events.
//!
//! Numbers, booleans, numeric strings and state words are samples, named by their path. `null` is
//! no sample. An object's own time holds for all in it. Text beside numbers describes them and is
//! no reading of its own; text under a key such as `action` or `message`, or in a payload without
//! any number, is an event, as bad as its object says ([`events::severity`]). An object with a `value` is one reading, and may name itself.

use telemetry::series::{DEVICE, SITE};
use telemetry::{Attribute, Cause, Event, SampleFlags, Severity};

use super::route::{Rule, Target};
use super::words::{is_event_key, is_time_key, is_value_key, number, state};
use crate::events;
use crate::intake::{IntakeBuilder, Rejection};
use crate::json::Json;
use crate::times::{self, InvalidTime, Time};

/// Keys that name what a `value` is, the device and the site, and the unit.
const NAME_KEYS: [&str; 5] = ["metric", "name", "measurement", "parameter", "n"];
const DEVICE_KEYS: [&str; 5] = ["device", "device_id", "deviceId", "device_name", "deviceName"];
const UNIT_KEYS: [&str; 4] = ["unit", "unit_of_measurement", "uom", "u"];
const LABEL_KEYS: [&str; 2] = ["labels", "tags"];
const BODY_KEYS: [&str; 4] = ["message", "msg", "text", "event"];

/// When a reading was taken, as far as its payload says.
#[derive(Clone, Copy, Debug, Default)]
struct When {
    time: Option<i64>,
    flags: u8,
}

/// Reads one payload.
pub(super) struct Readings<'r, 'a, 'b> {
    pub(super) rule: &'r Rule,
    pub(super) topic: &'r str,
    pub(super) payload: &'r [u8],
    pub(super) zone: &'r jiff::tz::TimeZone,
    pub(super) flags: u8,
    pub(super) left: usize,
    /// What the objects around the walk's place say of how bad it is.
    pub(super) severity: Option<Severity>,
    pub(super) out: &'b mut IntakeBuilder<'a>,
}

/// What the walk through one object found beside samples.
#[derive(Default)]
struct Found {
    samples: usize,
    texts: Vec<(String, String)>,
}

impl Readings<'_, '_, '_> {
    /// Takes a whole payload, whose readings may sit under the rule's `root`.
    pub(super) fn payload(&mut self, json: &Json<'_>, mut target: Target) {
        let mut when = When { time: None, flags: self.flags };
        if !self.rule.time.is_empty()
            && let Some(value) = json.at(self.rule.time.iter().map(String::as_str))
        {
            match self.time(value) {
                Ok(found) => when = found,
                Err(error) => return self.refuse(&Rejection::new(Cause::RejectedTime, error.to_string())),
            }
        }
        if !self.rule.device_field.is_empty()
            && let Some(device) =
                json.at(self.rule.device_field.iter().map(String::as_str)).and_then(Json::text)
        {
            set(&mut target.labels, DEVICE, device);
            target.device_is_fixed = true;
        }
        let Some(root) = json.at(self.rule.root.iter().map(String::as_str)) else {
            let reason = format!("the payload has no {:?}: nothing decoded it", self.rule.root.join("."));
            return self.refuse(&Rejection::new(Cause::RejectedUnmapped, reason));
        };
        self.reading(root, &target, when);
    }

    /// One object (or value, or each element of a list) with the events it makes by itself.
    fn reading(&mut self, json: &Json<'_>, target: &Target, when: When) {
        if let Json::List(items) = json
            && items.iter().any(|item| matches!(item, Json::Object(_)))
        {
            for item in items {
                if self.left == 0 {
                    return;
                }
                self.reading(item, target, when);
            }
            return;
        }
        let mut found = Found::default();
        let mut path = target.name.clone();
        let (event_when, own) = match json {
            Json::Object(fields) => match self.object(fields, target, &mut path, when, &mut found) {
                Some(result) => result,
                None => return,
            },
            other => {
                self.leaf(other, &target.labels, "", &mut path, when, &mut found);
                (when, target.labels.clone())
            }
        };
        self.texts(json, &own, event_when, found);
    }

    /// An object's fields. Gives its own time and labels, or `None` when its time was refused.
    fn object(
        &mut self,
        fields: &[(std::borrow::Cow<'_, str>, Json<'_>)],
        target: &Target,
        path: &mut String,
        inherited: When,
        found: &mut Found,
    ) -> Option<(When, Vec<(String, String)>)> {
        let mut when = inherited;
        let mut time_key = None;
        if self.rule.time.is_empty()
            && let Some((key, value)) = fields.iter().find(|(key, value)| {
                is_time_key(key) && matches!(value, Json::Int(_) | Json::Float(_) | Json::Text(_))
            })
        {
            time_key = Some(key.as_ref());
            match self.time(value) {
                Ok(own) => when = own,
                Err(InvalidTime::NotATime(_) | InvalidTime::NoSuchDate(_)) => {
                    // The reading is good though its time can't be read: that of arrival, in doubt.
                    when = When { time: None, flags: self.flags | SampleFlags::CLOCK_UNCERTAIN };
                }
                Err(error) => {
                    self.refuse(&Rejection::new(Cause::RejectedTime, error.to_string()));
                    return None;
                }
            }
        }
        let get = |keys: &[&str]| fields.iter().find(|(key, _)| keys.contains(&key.as_ref()));
        let text = |keys: &[&str]| get(keys).and_then(|(key, value)| Some((key.as_ref(), value.text()?)));
        let mut labels = target.labels.clone();
        // Where a rule says which field is the time, that field is no reading.
        let mut consumed: Vec<&str> =
            time_key.into_iter().chain(self.rule.time.last().map(String::as_str)).collect();
        if !target.device_is_fixed {
            for (keys, label) in [(&DEVICE_KEYS[..], DEVICE), (&[SITE][..], SITE)] {
                if let Some((key, value)) = text(keys) {
                    set(&mut labels, label, value);
                    consumed.push(key);
                }
            }
        }
        let value = fields.iter().find(|(key, value)| is_value_key(key) && !matches!(value, Json::Object(_)));
        let mut unit = "";
        if let Some((key, _)) = value {
            // A field that says the value is bad: no sample.
            if matches!(get(&["q"]), Some((_, Json::Bool(false)))) {
                return Some((when, labels));
            }
            if let Some((name_key, name)) = text(&NAME_KEYS) {
                push(path, name);
                consumed.push(name_key);
            } else if path.is_empty() {
                path.push_str(key);
            }
            if let Some((unit_key, text)) = text(&UNIT_KEYS) {
                unit = text;
                consumed.push(unit_key);
            }
        }
        for key in LABEL_KEYS {
            if let Some((key, Json::Object(pairs))) = get(&[key])
                && pairs.iter().all(|(_, value)| value.text().is_some())
            {
                for (label, value) in pairs {
                    set(&mut labels, label, value.text().unwrap_or_default());
                }
                consumed.push(key);
            }
        }
        let outer = self.severity;
        self.severity = severity(fields).or(outer);
        let rule_unit = self.rule.unit.as_str();
        if !rule_unit.is_empty() {
            unit = rule_unit;
        }
        for (key, child) in fields {
            let key = key.as_ref();
            // A second time of the same object is no reading either.
            if consumed.contains(&key) || (time_key.is_some() && is_time_key(key)) || self.left == 0 {
                continue;
            }
            let length = path.len();
            let is_value = value.is_some_and(|(value_key, _)| value_key == key);
            if !is_value {
                push(path, key);
            }
            self.child(
                key,
                child,
                target,
                &labels,
                if is_value { unit } else { rule_unit },
                path,
                when,
                found,
            );
            path.truncate(length);
        }
        self.severity = outer;
        Some((when, labels))
    }

    #[allow(clippy::too_many_arguments, reason = "the state of one step of the walk")]
    fn child(
        &mut self,
        key: &str,
        child: &Json<'_>,
        target: &Target,
        labels: &[(String, String)],
        unit: &str,
        path: &mut String,
        when: When,
        found: &mut Found,
    ) {
        match child {
            Json::Object(fields) => {
                let fixed = target.device_is_fixed || !names_itself(fields);
                let inner = Target { name: String::new(), labels: labels.to_vec(), device_is_fixed: fixed };
                self.object(fields, &inner, path, when, found);
            }
            Json::List(items) => {
                for (at, item) in items.iter().enumerate() {
                    if self.left == 0 {
                        return;
                    }
                    let length = path.len();
                    // Readings with a time or name of their own need no index to be told apart.
                    if !matches!(item, Json::Object(fields) if names_itself(fields)) {
                        push(path, &at.to_string());
                    }
                    self.child(key, item, target, labels, unit, path, when, found);
                    path.truncate(length);
                }
            }
            Json::Text(text) if is_event_key(key) && !text.trim().is_empty() && number(text).is_none() => {
                let severity = self.severity.unwrap_or(match key {
                    "error" | "alarm" | "fault" => Severity::Error,
                    "warning" => Severity::Warn,
                    _ => Severity::Info,
                });
                self.event(text, path, &[], severity, labels, when);
                found.samples += 1;
            }
            other => self.leaf(other, labels, unit, path, when, found),
        }
    }

    fn leaf(
        &mut self,
        json: &Json<'_>,
        labels: &[(String, String)],
        unit: &str,
        path: &mut String,
        when: When,
        found: &mut Found,
    ) {
        let value = match json {
            Json::Null => return,
            Json::Bool(value) => f64::from(u8::from(*value)),
            Json::Int(value) => *value as f64,
            Json::Float(value) => *value,
            Json::Text(text) => match number(text).or_else(|| state(text)) {
                Some(value) => value,
                None => {
                    if !text.trim().is_empty() {
                        found.texts.push((path.clone(), text.to_string()));
                    }
                    return;
                }
            },
            Json::List(items) => {
                for (at, item) in items.iter().enumerate() {
                    let length = path.len();
                    push(path, &at.to_string());
                    self.leaf(item, labels, unit, path, when, found);
                    path.truncate(length);
                }
                return;
            }
            // Only lists without objects come here.
            Json::Object(_) => return,
        };
        let name = if path.is_empty() { "value" } else { path.as_str() };
        let pairs: Vec<(&str, &str)> =
            labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        if !self.may_take() {
            return;
        }
        match self.out.sample(name, &pairs, unit, when.time, value, when.flags) {
            Ok(()) => found.samples += 1,
            Err(rejection) => self.refuse(&rejection),
        }
    }

    /// Text of a reading without any number: one event with all of it.
    fn texts(&mut self, json: &Json<'_>, labels: &[(String, String)], when: When, found: Found) {
        if found.samples > 0 || found.texts.is_empty() {
            return;
        }
        let body = BODY_KEYS.iter().find_map(|key| json.get(key).and_then(Json::text));
        let body = body.unwrap_or(&found.texts[0].1).to_owned();
        let severity = match json {
            Json::Object(fields) => severity(fields),
            _ => None,
        };
        let field = if found.texts.len() == 1 { found.texts[0].0.clone() } else { String::new() };
        let rest: &[(String, String)] = if found.texts.len() == 1 { &[] } else { &found.texts };
        self.event(&body, &field, rest, severity.unwrap_or_default(), labels, when);
    }

    fn event(
        &mut self,
        body: &str,
        field: &str,
        texts: &[(String, String)],
        severity: Severity,
        labels: &[(String, String)],
        when: When,
    ) {
        if !self.may_take() {
            return;
        }
        let event =
            event(self.topic, body, field, texts, severity, labels, when.time.unwrap_or(self.out.at().wall));
        if let Err(rejection) = self.out.event(event) {
            self.refuse(&rejection);
        }
    }

    /// Counts one reading against the payload's limit; the first beyond it is the one reject.
    fn may_take(&mut self) -> bool {
        if self.left == 0 {
            return false;
        }
        self.left -= 1;
        if self.left == 0 {
            self.refuse(&Rejection::new(
                Cause::RejectedLimit,
                "over max_readings in one payload: the rest is left out",
            ));
        }
        self.left > 0
    }

    fn time(&self, json: &Json<'_>) -> Result<When, InvalidTime> {
        let time = match json {
            Json::Int(value) => times::from_int(*value)?,
            Json::Float(value) => times::from_float(*value)?,
            Json::Text(text) => times::from_text(text, self.zone)?,
            _ => return Err(InvalidTime::NotATime(String::new())),
        };
        Ok(match time {
            Time::At(time) => When { time: Some(time), flags: self.flags },
            Time::ClockNotSet => When { time: None, flags: self.flags | SampleFlags::CLOCK_UNCERTAIN },
        })
    }

    fn refuse(&mut self, rejection: &Rejection) {
        let reason = format!("{}: {rejection}", self.topic);
        self.out.rejected(rejection.cause, &reason, self.payload);
    }
}

/// An event of a topic.
pub(super) fn event(
    topic: &str,
    body: &str,
    field: &str,
    texts: &[(String, String)],
    severity: Severity,
    labels: &[(String, String)],
    time: i64,
) -> Event {
    let mut attributes: Vec<(String, Attribute)> = Vec::new();
    let mut add = |name: &str, value: &str| {
        if !value.is_empty() && !attributes.iter().any(|(known, _)| known == name) {
            attributes.push((name.to_owned(), Attribute::Text(value.to_owned())));
        }
    };
    for (label, value) in labels {
        add(label, value);
    }
    add("field", field);
    for (path, text) in texts {
        add(path, text);
    }
    Event { source: topic.to_owned(), time, severity, body: body.to_owned(), attributes }
}

/// As for events over HTTP, but a field that can't be read so is a reading like any other.
fn severity(fields: &[(std::borrow::Cow<'_, str>, Json<'_>)]) -> Option<Severity> {
    events::severity(fields).and_then(|(_, read)| read.ok())
}

/// True when an object brings a time or a name of its own along with a value.
fn names_itself(fields: &[(std::borrow::Cow<'_, str>, Json<'_>)]) -> bool {
    fields
        .iter()
        .any(|(key, value)| is_time_key(key) || (NAME_KEYS.contains(&key.as_ref()) && value.text().is_some()))
}

fn push(path: &mut String, part: &str) {
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(part);
}

fn set(labels: &mut Vec<(String, String)>, name: &str, value: &str) {
    match labels.iter_mut().find(|(known, _)| known == name) {
        Some((_, old)) => value.clone_into(old),
        None => labels.push((name.to_owned(), value.to_owned())),
    }
}
