//! Events: structured records (a log line, a user action, a word on a topic that has numbers).

use serde::{Deserialize, Serialize};

/// Syslog-like severity as OpenTelemetry numbers its ranges (1 to 24, in steps of four).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Severity {
    /// Finer than debug.
    Trace = 1,
    /// For a developer.
    Debug = 5,
    /// The default.
    #[default]
    Info = 9,
    /// Something to look at.
    Warn = 13,
    /// Something failed.
    Error = 17,
    /// Something died.
    Fatal = 21,
}

impl Severity {
    /// From OpenTelemetry's number; a number inside a range belongs to it, 0 and > 24 to none.
    pub fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1..=4 => Self::Trace,
            5..=8 => Self::Debug,
            9..=12 => Self::Info,
            13..=16 => Self::Warn,
            17..=20 => Self::Error,
            21..=24 => Self::Fatal,
            _ => return None,
        })
    }

    /// From what senders write: OpenTelemetry's, syslog's and common loggers' words, any case.
    pub fn from_word(word: &str) -> Option<Self> {
        Some(match word.to_ascii_lowercase().as_str() {
            "trace" => Self::Trace,
            "debug" => Self::Debug,
            "info" | "information" | "notice" => Self::Info,
            "warn" | "warning" => Self::Warn,
            "error" | "err" => Self::Error,
            "fatal" | "critical" | "crit" | "alert" | "emerg" | "emergency" | "panic" => Self::Fatal,
            _ => return None,
        })
    }
}

/// One attribute's value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Attribute {
    /// true or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Any other number.
    Float(f64),
    /// Text.
    Text(String),
}

/// One structured record: (source, time, severity, body, attributes).
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// What it came from: an application, a unit, a topic.
    pub source: String,
    /// When it happened, nanoseconds since the epoch, UTC.
    pub time: i64,
    /// How bad it is.
    pub severity: Severity,
    /// The text.
    pub body: String,
    /// Further fields, flattened by path, in the sender's order. `site` and `device` as in labels.
    pub attributes: Vec<(String, Attribute)>,
}
