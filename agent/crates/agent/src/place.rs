//! Where in a config file something stands: what can't work is named with its line.

use toml::de::{DeTable, DeValue};

/// Line and column, from 1.
pub type Place = (usize, usize);

/// The place of a byte.
pub fn of(text: &str, at: usize) -> Place {
    // `at` may lie inside a character only if the parser erred: then its beginning is near enough.
    let at = (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    let before = &text[..at];
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    (before.matches('\n').count() + 1, column)
}

/// The place of what a problem is about: in the section (such as `input.mqtt_client.2`) the first key that the
/// message names; without one the section itself; without that `None` (a default can't work beside another key).
pub fn locate(text: &str, section: &str, message: &str) -> Option<Place> {
    let root = DeTable::parse(text).ok()?;
    let mut table = root.get_ref();
    let mut found = None;
    let mut parts = section.split('.').peekable();
    while let Some(part) = parts.next() {
        let (key, value) = table.iter().find(|(key, _)| key.get_ref() == part)?;
        found = Some(key.span().start);
        table = match value.get_ref() {
            DeValue::Table(table) => table,
            // `mqtt_client.2` and `route.1` count from 1; without a number the first is meant.
            DeValue::Array(items) => {
                let number = parts.next_if(|part| part.parse::<usize>().is_ok());
                let number = number.and_then(|number| number.parse::<usize>().ok()).unwrap_or(1);
                let item = items.get(number.saturating_sub(1))?;
                found = Some(item.span().start);
                match item.get_ref() {
                    DeValue::Table(table) => table,
                    _ => return found.map(|at| of(text, at)),
                }
            }
            _ => return found.map(|at| of(text, at)),
        };
    }
    let words = message.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let named = words.filter(|word| !word.is_empty()).find_map(|word| {
        let (key, _) = table.iter().find(|(key, _)| key.get_ref() == word)?;
        Some(key.span().start)
    });
    named.or(found).map(|at| of(text, at))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "[agent]\nname = \"é\"\n\n[[input.mqtt_client]]\nurl = \"a\"\n\n[[input.mqtt_client]]\nqos = 7\nurl = \"b\"\n\n[[fold.route]]\nmatch = \"*\"\n";

    #[test]
    fn the_key_that_the_message_names_is_found_and_else_the_section() {
        assert_eq!(locate(TEXT, "agent", "agent.name \"é\" may not"), Some((2, 1)));
        assert_eq!(locate(TEXT, "agent", "max_series must be"), Some((1, 2)));
        assert_eq!(locate(TEXT, "input.mqtt_client.2", "qos = 7: set 0, 1 or 2"), Some((8, 1)));
        assert_eq!(locate(TEXT, "input.mqtt_client.1", "url is"), Some((5, 1)));
        assert_eq!(locate(TEXT, "fold.route.1", "match is"), Some((12, 1)));
        assert_eq!(locate(TEXT, "spool", "max_bytes"), None);
        let nested = "[[a]]\nx = 1\n[[a]]\n[a.b]\ny = 2\n";
        assert_eq!(locate(nested, "a.2.b", "a.2.b.y is"), Some((5, 1)));
        assert_eq!(locate(nested, "a.1.b", "a.1.b.y is"), None);
    }

    #[test]
    fn columns_count_characters() {
        assert_eq!(of("é = 1\nb", 3), (1, 3));
        assert_eq!(of("é", 1), (1, 1));
        assert_eq!(of("", 9), (1, 1));
    }
}
