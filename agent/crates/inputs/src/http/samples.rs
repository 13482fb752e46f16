//! Samples as JSON: `{"metric": "temperature", "value": 21.5, "time": "...", "labels": {"device": "p7"}, "unit": "Cel"}`.

use jiff::tz::TimeZone;
use telemetry::Cause;
use telemetry::series::{DEVICE, SITE};

use crate::events::read_time;
use crate::intake::{IntakeBuilder, Rejection};
use crate::json::Json;

/// One sample as it was sent.
pub(super) struct Sample {
    name: String,
    labels: Vec<(String, String)>,
    unit: String,
    time: Option<i64>,
    value: f64,
}

fn wrong(key: &str, expected: &str) -> Rejection {
    Rejection::new(Cause::RejectedType, format!("{key:?} must be {expected}"))
}

/// Reads one sample.
///
/// # Errors
/// [`Rejection`]: a field is missing, unknown or of the wrong type.
pub(super) fn read(json: &Json<'_>, zone: &TimeZone) -> Result<Sample, Rejection> {
    let Json::Object(fields) = json else {
        return Err(Rejection::new(Cause::RejectedType, "a sample must be a JSON object"));
    };
    let mut sample =
        Sample { name: String::new(), labels: Vec::new(), unit: String::new(), time: None, value: f64::NAN };
    let mut valued = false;
    for (key, value) in fields {
        match (key.as_ref(), value) {
            ("name" | "metric", Json::Text(text)) => sample.name = text.to_string(),
            ("value", Json::Int(value)) => (sample.value, valued) = (*value as f64, true),
            ("value", Json::Float(value)) => (sample.value, valued) = (*value, true),
            ("value", Json::Bool(value)) => (sample.value, valued) = (f64::from(u8::from(*value)), true),
            ("time" | "timestamp" | "ts", value) => sample.time = read_time(key, value, zone)?,
            ("unit", Json::Text(text)) => sample.unit = text.to_string(),
            (DEVICE | SITE, Json::Text(text)) => sample.labels.push((key.to_string(), text.to_string())),
            ("labels" | "tags", Json::Object(pairs)) => {
                for (label, value) in pairs {
                    let text = value.text().ok_or_else(|| wrong(label, "text: label values are"))?;
                    sample.labels.push((label.to_string(), text.to_owned()));
                }
            }
            ("name" | "metric" | "unit" | DEVICE | SITE, _) => return Err(wrong(key, "text")),
            ("value", _) => return Err(wrong(key, "a number, true or false")),
            ("labels" | "tags", _) => return Err(wrong(key, "an object of texts")),
            (other, _) => {
                let reason = format!(
                    "a sample has no field {other:?}: it has metric, value, time, labels, device, site and unit"
                );
                return Err(Rejection::new(Cause::RejectedSyntax, reason));
            }
        }
    }
    if sample.name.is_empty() || !valued {
        let missing = if valued { "metric" } else { "value" };
        return Err(Rejection::new(Cause::RejectedSyntax, format!("a sample needs {missing:?}")));
    }
    Ok(sample)
}

impl Sample {
    /// Puts it into an intake.
    pub(super) fn put(&self, out: &mut IntakeBuilder<'_>) -> Result<(), Rejection> {
        let labels: Vec<(&str, &str)> =
            self.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        out.sample(&self.name, &labels, &self.unit, self.time, self.value, 0)
    }
}
