//! How numbers and times are written for a person, the same in every command.

use jiff::Timestamp;

/// An instant in UTC to the millisecond; `-` for none.
pub fn moment(ns: Option<i64>) -> String {
    match ns.and_then(|ns| Timestamp::from_nanosecond(i128::from(ns)).ok()) {
        Some(at) => at.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string(),
        None => "-".into(),
    }
}

/// A count with thousands apart.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A number of things with their noun: `1 batch`, `2 batches`.
pub fn things(n: u64, one: &str) -> String {
    let noun = match one {
        _ if n == 1 || one == "series" => one.to_owned(),
        _ if one.ends_with(['h', 's']) => format!("{one}es"),
        _ => one.strip_suffix('y').map_or_else(|| format!("{one}s"), |stem| format!("{stem}ies")),
    };
    format!("{} {noun}", count(n))
}

/// Bytes in the unit that fits.
pub fn size(bytes: u64) -> String {
    telemetry::units::about(bytes)
}

/// Of hours as the configuration has them, when they open: `22:00` of `22:00-06:00`, with the zone where one is named.
pub fn opening(hours: &str) -> String {
    let (span, zone) = hours.split_once(' ').unwrap_or((hours, ""));
    let from = span.split('-').next().unwrap_or(span);
    format!("{from} {}", zone.trim()).trim_end().to_owned()
}

/// One line that can't steer a terminal.
pub fn printable(text: &str) -> String {
    let shown = text.chars().map(|c| match c {
        '\n' | '\r' | '\t' => ' ',
        c if c.is_control() => '\u{fffd}',
        c => c,
    });
    shown.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_read_as_a_person_writes_them() {
        assert_eq!(
            (count(0), count(999), count(1_000), count(1_234_567)),
            ("0".into(), "999".into(), "1,000".into(), "1,234,567".into())
        );
        assert_eq!(
            (
                things(1, "batch"),
                things(2, "batch"),
                things(2, "row"),
                things(3, "copy"),
                things(4, "series")
            ),
            ("1 batch".into(), "2 batches".into(), "2 rows".into(), "3 copies".into(), "4 series".into())
        );
        assert_eq!(
            (size(17), size(2048), size(3 << 30)),
            ("17 B".into(), "2.0 KiB".into(), "3.0 GiB".into())
        );
        assert_eq!(moment(Some(1_700_000_000_123_456_789)), "2023-11-14T22:13:20.123Z");
        assert_eq!(moment(None), "-");
        assert_eq!(opening("22:00-06:00"), "22:00");
        assert_eq!(opening("22:00-06:00 Europe/Berlin"), "22:00 Europe/Berlin");
        assert_eq!(printable("a\u{1b}[31mb\nc"), "a\u{fffd}[31mb c");
    }
}
