//! Amounts as people write them, in config files and on screens: a whole number and a unit, such as `64KiB` or `5m`. The one
//! definition of both tables; what is written around an amount (a size, a bandwidth, a pause) is its own type's.

/// One unit: how it is written, and how much it is.
pub type Unit = (&'static str, u64);

/// Why text is no amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// Not a whole number and one of the units.
    Form,
    /// It is written as it should be, and more than 64 bits hold.
    TooLarge,
}

impl Unreadable {
    /// What is said of a value: `form` tells how it must look.
    pub fn said(self, form: &str) -> String {
        match self {
            Self::Form => form.to_owned(),
            Self::TooLarge => format!("it is more than can be counted: give a smaller one; {form}"),
        }
    }
}

/// Of bytes, largest first. `TB` and its like stand before the `B` that they end with.
pub const BYTES: [Unit; 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];

/// Of milliseconds. `ms` stands before the `s` that it ends with.
pub const TIMES: [Unit; 5] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// A whole number and one of these units.
///
/// # Errors
/// [`Unreadable`]: other text, or more than 64 bits hold.
pub fn parse(text: &str, units: &[Unit]) -> Result<u64, Unreadable> {
    let split = units.iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, *factor)));
    let (number, factor) = split.ok_or(Unreadable::Form)?;
    whole(number.trim_end())?.checked_mul(factor).ok_or(Unreadable::TooLarge)
}

/// Bytes: with a unit, or a bare number.
///
/// # Errors
/// [`Unreadable`].
pub fn parse_bytes(text: &str) -> Result<u64, Unreadable> {
    match parse(text, &BYTES) {
        Err(Unreadable::Form) => whole(text),
        read => read,
    }
}

/// In the largest unit that shows it whole; `None` for 0, which is written without one.
pub fn show(value: u64, units: &[Unit]) -> Option<String> {
    let fits = |unit: &&Unit| value != 0 && value.is_multiple_of(unit.1);
    let (unit, factor) = units.iter().filter(fits).max_by_key(|(_, factor)| *factor)?;
    Some(format!("{}{unit}", value / factor))
}

/// Bytes for a person, to a tenth of their unit: `7.9 GiB`.
pub fn about(bytes: u64) -> String {
    let mut amount = bytes as f64;
    if bytes < 1 << 10 {
        return format!("{bytes} B");
    }
    for unit in ["KiB", "MiB", "GiB"] {
        amount /= 1024.0;
        if amount < 1024.0 {
            return format!("{amount:.1} {unit}");
        }
    }
    format!("{:.1} TiB", amount / 1024.0)
}

/// Digits alone: no sign, which `parse` of the library would take.
fn whole(text: &str) -> Result<u64, Unreadable> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Unreadable::Form);
    }
    text.parse().map_err(|_| Unreadable::TooLarge)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_for_a_person_have_one_digit_behind_the_point() {
        let shown = [0, 1023, 1536, 8 << 20, 252 << 30, 900 << 40].map(about);
        assert_eq!(shown, ["0 B", "1023 B", "1.5 KiB", "8.0 MiB", "252.0 GiB", "900.0 TiB"]);
    }

    #[test]
    fn amounts_are_read_as_people_write_them_and_shown_the_same_way() {
        for text in ["64KiB", "4MiB", "10GiB", "3TiB", "1MB", "5TB", "7B"] {
            assert_eq!(show(parse_bytes(text).unwrap(), &BYTES).as_deref(), Some(text));
        }
        for text in ["500ms", "10s", "5m", "23h"] {
            assert_eq!(show(parse(text, &TIMES).unwrap(), &TIMES).as_deref(), Some(text));
        }
        assert_eq!(parse_bytes("64 KiB"), Ok(64 << 10));
        assert_eq!((parse_bytes("2048"), parse_bytes("0"), show(0, &BYTES)), (Ok(2048), Ok(0), None));
        assert_eq!(parse("5", &TIMES), Err(Unreadable::Form));
        for bad in ["", "KiB", "much", "+1KiB", "-1KiB", "1.5MB", "1PiB", "1KiBB"] {
            assert_eq!(parse_bytes(bad), Err(Unreadable::Form), "{bad}");
        }
        for large in ["99999999999GiB", "16777216TiB", "99999999999999999999", "99999999999999999999KiB"] {
            assert_eq!(parse_bytes(large), Err(Unreadable::TooLarge), "{large}");
        }
        assert_eq!(parse("99999999999999999d", &TIMES), Err(Unreadable::TooLarge));
    }
}
