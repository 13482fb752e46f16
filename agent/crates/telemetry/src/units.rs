//! Amounts as people write them, in config files and on screens: a whole number and a unit, such as `64KiB` or `5m`. The one
//! definition of both tables; what is written around an amount (a size, a bandwidth, a pause) is its own type's.

/// One unit: how it is written, and how much it is.
pub type Unit = (&'static str, u64);

/// Of bytes, largest first.
pub const BYTES: [Unit; 7] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];

/// Of milliseconds. `ms` stands before the `s` that it ends with.
pub const TIMES: [Unit; 5] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// A whole number and one of these units; `None` for other text, and for more than 64 bits hold.
pub fn parse(text: &str, units: &[Unit]) -> Option<u64> {
    let (number, factor) =
        units.iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, *factor)))?;
    whole(number.trim_end())?.checked_mul(factor)
}

/// Bytes: with a unit, or a bare number.
pub fn parse_bytes(text: &str) -> Option<u64> {
    parse(text, &BYTES).or_else(|| whole(text))
}

/// In the largest unit that shows it whole; `None` for 0, which is written without one.
pub fn show(value: u64, units: &[Unit]) -> Option<String> {
    let fits = |unit: &&Unit| value != 0 && value.is_multiple_of(unit.1);
    let (unit, factor) = units.iter().filter(fits).max_by_key(|(_, factor)| *factor)?;
    Some(format!("{}{unit}", value / factor))
}

/// Digits alone: no sign, which `parse` of the library would take.
fn whole(text: &str) -> Option<u64> {
    (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_as_people_write_them_and_shown_the_same_way() {
        for text in ["64KiB", "4MiB", "10GiB", "1MB", "7B"] {
            assert_eq!(show(parse_bytes(text).unwrap(), &BYTES).as_deref(), Some(text));
        }
        for text in ["500ms", "10s", "5m", "23h"] {
            assert_eq!(show(parse(text, &TIMES).unwrap(), &TIMES).as_deref(), Some(text));
        }
        assert_eq!(parse_bytes("64 KiB"), Some(64 << 10));
        assert_eq!((parse_bytes("2048"), parse_bytes("0"), show(0, &BYTES)), (Some(2048), Some(0), None));
        assert_eq!(parse("5", &TIMES), None);
        for bad in ["", "KiB", "much", "+1KiB", "-1KiB", "1.5MB", "99999999999GiB", "99999999999999999999"] {
            assert_eq!(parse_bytes(bad), None, "{bad}");
        }
    }
}
