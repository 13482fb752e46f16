//! Times as senders write them: epoch numbers in any unit, RFC 3339, local times without an offset.
//!
//! A number's unit is told by its size: below 1e11 it is seconds (until the year 5138), below 1e14
//! milliseconds, below 1e17 microseconds, else nanoseconds. A time before 1990 is what a device
//! with an unset clock sends; it is told apart ([`Time::ClockNotSet`]) so that its reading can be
//! kept with the time of arrival.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// 1990-01-01: earlier times in self-describing payloads mean that the device's clock isn't set.
const PLAUSIBLE_FROM: i64 = 631_152_000_000_000_000;
const NS: i128 = 1_000_000_000;

/// What a field that holds a time says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Time {
    /// Nanoseconds since the epoch, UTC.
    At(i64),
    /// A time near 1970 or at the device's own zero: its clock isn't set.
    ClockNotSet,
}

/// Why a text or number is no time. The text is for the sender.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTime {
    /// Neither a number nor a date.
    #[error("{0:?} is not a time: expected epoch s, ms, us or ns, or RFC 3339 such as 2024-03-01T10:00:00Z")]
    NotATime(String),
    /// A date with a field out of range.
    #[error("{0:?} is not a date of the calendar")]
    NoSuchDate(String),
    /// Outside of what 64-bit nanoseconds hold (1677 to 2262).
    #[error("{0} is outside of the years 1678 to 2261")]
    OutOfRange(String),
}

fn judge(ns: i128, shown: impl Fn() -> String) -> Result<Time, InvalidTime> {
    let ns = i64::try_from(ns).map_err(|_| InvalidTime::OutOfRange(shown()))?;
    Ok(if ns < PLAUSIBLE_FROM { Time::ClockNotSet } else { Time::At(ns) })
}

/// The unit (in nanoseconds) of an epoch number, by its size.
fn unit_of(whole: u128) -> i128 {
    match whole {
        0..100_000_000_000 => NS,
        100_000_000_000..100_000_000_000_000 => 1_000_000,
        100_000_000_000_000..100_000_000_000_000_000 => 1_000,
        _ => 1,
    }
}

/// A whole epoch number.
///
/// # Errors
/// [`InvalidTime::OutOfRange`].
pub fn from_int(number: i64) -> Result<Time, InvalidTime> {
    let ns = i128::from(number) * unit_of(u128::from(number.unsigned_abs()));
    judge(ns, || number.to_string())
}

/// An epoch number with a fraction: exact to the microsecond at today's dates.
///
/// # Errors
/// [`InvalidTime`].
pub fn from_float(number: f64) -> Result<Time, InvalidTime> {
    if !number.is_finite() || number.abs() >= 1e19 {
        return Err(InvalidTime::OutOfRange(number.to_string()));
    }
    // Rust prints the shortest text that reads back as this number: what the sender wrote.
    from_text(&number.to_string(), &TimeZone::UTC)
}

/// A text: an epoch number, RFC 3339 (also with a space for the `T`, an offset without a colon, or a
/// comma before the fraction), or the same without an offset, which is then local to `zone`.
///
/// # Errors
/// [`InvalidTime`].
pub fn from_text(text: &str, zone: &TimeZone) -> Result<Time, InvalidTime> {
    let text = text.trim();
    if text.len() > 64 {
        return Err(InvalidTime::NotATime(crate::rejects::clip(text, 64).to_owned()));
    }
    if let Some(time) = decimal(text) {
        return time;
    }
    let ns = date(text, zone)?;
    judge(ns, || text.to_owned())
}

/// `[-+]digits[.digits]` without going through a float.
fn decimal(text: &str) -> Option<Result<Time, InvalidTime>> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !all_digits(whole) || !all_digits(fraction) {
        return None;
    }
    let out_of_range = || InvalidTime::OutOfRange(text.to_owned());
    let Ok(number) = whole.parse::<u128>() else { return Some(Err(out_of_range())) };
    let unit = unit_of(number);
    let Some(ns) = i128::try_from(number).ok().and_then(|number| number.checked_mul(unit)) else {
        return Some(Err(out_of_range()));
    };
    let mut scale = unit;
    let mut part = 0_i128;
    for digit in fraction.bytes() {
        scale /= 10;
        part += i128::from(digit - b'0') * scale;
    }
    let ns = ns + part;
    Some(judge(if negative { -ns } else { ns }, || text.to_owned()))
}

/// `YYYY-MM-DD[T ]hh:mm[:ss[.fraction]][Z|±hh[:]mm]` → nanoseconds.
fn date(text: &str, zone: &TimeZone) -> Result<i128, InvalidTime> {
    let not = || InvalidTime::NotATime(text.to_owned());
    let bytes = text.as_bytes();
    let number = |from: usize, to: usize| -> Result<i64, InvalidTime> {
        let digits = bytes.get(from..to).ok_or_else(not)?;
        digits.iter().try_fold(0_i64, |sum, digit| match digit {
            b'0'..=b'9' => Ok(sum * 10 + i64::from(digit - b'0')),
            _ => Err(not()),
        })
    };
    let expect = |at: usize, allowed: &[u8]| match bytes.get(at) {
        Some(byte) if allowed.contains(byte) => Ok(()),
        _ => Err(not()),
    };
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    expect(4, b"-")?;
    expect(7, b"-")?;
    expect(10, b"Tt ")?;
    let (hour, minute) = (number(11, 13)?, number(14, 16)?);
    expect(13, b":")?;
    let mut at = 16;
    let mut second = 0;
    if bytes.get(at) == Some(&b':') {
        second = number(17, 19)?;
        at = 19;
    }
    let mut nanos = 0_i64;
    if matches!(bytes.get(at), Some(b'.' | b',')) && at == 19 {
        let digits = bytes[20..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        if digits == 0 {
            return Err(not());
        }
        let mut scale = 100_000_000;
        for digit in &bytes[20..20 + digits] {
            nanos += i64::from(digit - b'0') * scale;
            scale /= 10;
        }
        at = 20 + digits;
    }
    let rest = text.get(at..).ok_or_else(not)?.trim_start();
    let no_such = || InvalidTime::NoSuchDate(text.to_owned());
    // A leap second is counted as the second before it, as POSIX clocks do.
    let second = if second == 60 { 59 } else { second };
    let small = |n: i64| i8::try_from(n).map_err(|_| no_such());
    let civil = DateTime::new(
        i16::try_from(year).map_err(|_| no_such())?,
        small(month)?,
        small(day)?,
        small(hour)?,
        small(minute)?,
        small(second)?,
        i32::try_from(nanos).map_err(|_| no_such())?,
    )
    .map_err(|_| no_such())?;
    if rest.is_empty() {
        // In the hour that is there twice the first is meant, in the one that is missing the time after it.
        let zoned = zone.to_ambiguous_timestamp(civil).compatible().map_err(|_| no_such())?;
        return Ok(zoned.as_nanosecond());
    }
    let offset = offset(rest).ok_or_else(not)?;
    let utc = TimeZone::UTC.to_ambiguous_timestamp(civil).compatible().map_err(|_| no_such())?;
    Ok(utc.as_nanosecond() - i128::from(offset) * NS)
}

/// Seconds east of Greenwich.
fn offset(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    if matches!(text, "Z" | "z" | "UTC" | "GMT") {
        return Some(0);
    }
    let sign = match bytes.first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let digit =
        |at: usize| bytes.get(at).filter(|byte| byte.is_ascii_digit()).map(|byte| i64::from(byte - b'0'));
    let hours = digit(1)? * 10 + digit(2)?;
    let minutes = match (bytes.len(), bytes.get(3)) {
        (3, None) => 0,
        (6, Some(b':')) => digit(4)? * 10 + digit(5)?,
        (5, Some(_)) => digit(3)? * 10 + digit(4)?,
        _ => return None,
    };
    (hours <= 23 && minutes <= 59).then_some(sign * (hours * 3600 + minutes * 60))
}

/// Which unit a line protocol timestamp without a fraction is in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// Nanoseconds, the protocol's default.
    #[default]
    Nanoseconds,
    /// Microseconds.
    Microseconds,
    /// Milliseconds.
    Milliseconds,
    /// Seconds.
    Seconds,
    /// Minutes (InfluxDB 1 only).
    Minutes,
    /// Hours (InfluxDB 1 only).
    Hours,
}

impl Precision {
    /// From the `precision` parameter of either version of InfluxDB's write API.
    pub fn from_parameter(text: &str) -> Option<Self> {
        Some(match text {
            "" | "ns" | "n" => Self::Nanoseconds,
            "us" | "u" | "µs" | "µ" => Self::Microseconds,
            "ms" => Self::Milliseconds,
            "s" => Self::Seconds,
            "m" => Self::Minutes,
            "h" => Self::Hours,
            _ => return None,
        })
    }

    /// How many nanoseconds one unit has.
    pub fn nanoseconds(self) -> i64 {
        match self {
            Self::Nanoseconds => 1,
            Self::Microseconds => 1_000,
            Self::Milliseconds => 1_000_000,
            Self::Seconds => 1_000_000_000,
            Self::Minutes => 60_000_000_000,
            Self::Hours => 3_600_000_000_000,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const AT: i64 = 1_709_287_200_000_000_000; // 2024-03-01T10:00:00Z

    fn text(text: &str) -> Result<Time, InvalidTime> {
        from_text(text, &TimeZone::UTC)
    }

    #[test]
    fn an_epoch_number_is_understood_in_every_unit_as_number_and_as_text() {
        for scale in [1_000_000_000, 1_000_000, 1_000, 1] {
            assert_eq!(from_int(AT / scale), Ok(Time::At(AT)));
            assert_eq!(text(&(AT / scale).to_string()), Ok(Time::At(AT)));
        }
        assert_eq!(from_float(1_709_287_200.25), Ok(Time::At(AT + 250_000_000)));
        assert_eq!(text("1709287200.000000001"), Ok(Time::At(AT + 1)));
        assert_eq!(text("1709287200123.5"), Ok(Time::At(AT + 123_500_000)));
    }

    #[test]
    fn dates_with_an_offset_are_exact() {
        for same in [
            "2024-03-01T10:00:00Z",
            "2024-03-01T12:00:00+02:00",
            "2024-03-01 05:00:00-0500",
            "2024-03-01T10:00:00.000Z",
            "2024-03-01t10:00:00,0 UTC",
            "2024-03-01T10:00Z",
            " 2024-03-01T11:00:00+01 ",
        ] {
            assert_eq!(text(same), Ok(Time::At(AT)), "{same}");
        }
        assert_eq!(text("2024-03-01T10:00:00.123456789Z"), Ok(Time::At(AT + 123_456_789)));
    }

    #[test]
    fn a_date_without_an_offset_is_local_to_the_inputs_zone() {
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        assert_eq!(from_text("2024-03-01T11:00:00", &zone), Ok(Time::At(AT)));
        assert_eq!(from_text("2024-07-01T12:00:00", &zone), text("2024-07-01T10:00:00Z"));
        // 02:30 is there twice on this night (the first counts) and not at all on the other.
        assert_eq!(from_text("2024-10-27T02:30:00", &zone), text("2024-10-27T00:30:00Z"));
        assert_eq!(from_text("2024-03-31T02:30:00", &zone), text("2024-03-31T01:30:00Z"));
    }

    #[test]
    fn a_clock_that_was_never_set_is_told_apart() {
        assert_eq!(from_int(0), Ok(Time::ClockNotSet));
        assert_eq!(from_int(3600), Ok(Time::ClockNotSet));
        assert_eq!(text("1970-01-01T00:00:12"), Ok(Time::ClockNotSet));
    }

    #[test]
    fn what_is_no_time_is_refused_with_the_reason() {
        for bad in [
            "",
            "morning",
            "12:30",
            "2024-03-01",
            "2024-03-01T10",
            "2024-03-01T10:00:00+25:00",
            "1.2.3",
            "--5",
        ] {
            assert!(matches!(text(bad), Err(InvalidTime::NotATime(_))), "{bad}");
        }
        assert!(matches!(text("2024-02-30T10:00:00Z"), Err(InvalidTime::NoSuchDate(_))));
        assert!(matches!(text("2024-01-01T25:00:00Z"), Err(InvalidTime::NoSuchDate(_))));
        assert!(matches!(text("2300-01-01T00:00:00Z"), Err(InvalidTime::OutOfRange(_))));
        assert!(matches!(text("99999999999999999999"), Err(InvalidTime::OutOfRange(_))));
        assert!(matches!(from_float(f64::NAN), Err(InvalidTime::OutOfRange(_))));
        assert!(matches!(from_float(1e300), Err(InvalidTime::OutOfRange(_))));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(input in "\\PC{0,80}") {
            let _ = text(&input);
            let _ = from_text(&input, &TimeZone::get("America/New_York").unwrap());
        }

        #[test]
        fn text_that_looks_like_a_date_never_panics(input in "[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9:.,]{0,14}[-+Zé0-9:]{0,7}") {
            let _ = text(&input);
        }

        #[test]
        fn any_instant_reads_back_from_rfc_3339(ns in PLAUSIBLE_FROM..i64::MAX) {
            let shown = jiff::Timestamp::from_nanosecond(i128::from(ns)).unwrap().to_string();
            prop_assert_eq!(text(&shown), Ok(Time::At(ns)));
        }

        #[test]
        fn any_float_is_a_time_or_a_refusal(number in any::<f64>()) {
            let _ = from_float(number);
        }
    }
}
