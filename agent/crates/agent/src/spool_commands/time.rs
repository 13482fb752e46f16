//! Times on the command line: an instant (`2026-11-28T10:00:00Z`, `2026-11-28`, nanoseconds since the epoch) or a span
//! before now (`2h`, `7d`).

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Span, SpanRelativeTo, Timestamp};

/// Nanoseconds since the epoch.
pub fn parse(text: &str) -> Result<i64, String> {
    parse_at(text, Timestamp::now())
}

fn parse_at(text: &str, now: Timestamp) -> Result<i64, String> {
    let fits =
        |ns: i128| i64::try_from(ns).map_err(|_| format!("{text:?} is outside what nanoseconds can say"));
    if let Ok(ns) = text.parse::<i64>() {
        return Ok(ns);
    }
    if let Ok(at) = text.parse::<Timestamp>() {
        return fits(at.as_nanosecond());
    }
    if let Some(at) = text.parse::<Date>().ok().and_then(|date| date.to_zoned(TimeZone::UTC).ok()) {
        return fits(at.timestamp().as_nanosecond());
    }
    let span =
        text.parse::<Span>().ok().and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()).ok());
    match span {
        Some(span) => fits(now.as_nanosecond() - span.as_nanos()),
        None => Err(format!(
            "{text:?} is no time: give 2026-11-28T10:00:00Z, 2026-11-28 (UTC), nanoseconds since the epoch, or a span before now such as 2h or 7d"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_dates_nanoseconds_and_spans_are_taken_and_other_text_is_told_what_is() {
        let now: Timestamp = "2026-11-28T12:00:00Z".parse().unwrap();
        let at = |text: &str| parse_at(text, now);
        let ten = "2026-11-28T10:00:00Z".parse::<Timestamp>().unwrap().as_nanosecond() as i64;
        assert_eq!(at("2026-11-28T10:00:00Z"), Ok(ten));
        assert_eq!(at("2026-11-28T11:00:00+01:00"), Ok(ten));
        assert_eq!(at("2h"), Ok(ten));
        assert_eq!(at(&ten.to_string()), Ok(ten));
        assert_eq!(at("2026-11-28"), Ok(ten - 10 * 3_600_000_000_000));
        assert_eq!(at("1d"), Ok(ten - 22 * 3_600_000_000_000));
        assert!(at("yesterday").unwrap_err().contains("2h"));
    }
}
