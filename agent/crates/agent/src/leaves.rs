//! Every key that a config file sets, with the section it is in: what is checked of values is checked for all of them alike.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A key that is set, and its value: an empty table is one too.
pub struct Leaf<'a> {
    /// Its section, entries of lists by their number: `input.mqtt_client.2`.
    pub section: String,
    /// The same without numbers: `input.mqtt_client`.
    pub kind: String,
    /// Its name.
    pub key: &'a str,
    /// What it is set to.
    pub value: &'a DeValue<'a>,
    /// Where the value stands, in bytes.
    pub span: Range<usize>,
}

impl Leaf<'_> {
    /// Its whole name: `input.mqtt_client.2.qos`.
    pub fn name(&self) -> String {
        joined(&self.section, self.key)
    }
}

/// Hands each over; none of a text that is no TOML.
pub fn each(text: &str, seen: &mut dyn FnMut(&Leaf<'_>)) {
    if let Ok(root) = DeTable::parse(text) {
        table(root.get_ref(), ("", ""), seen);
    }
}

/// The name of what stands at a byte; `None` between values, and in a text that is no TOML.
pub fn name_at(text: &str, at: usize) -> Option<String> {
    let mut found = None;
    each(text, &mut |leaf| {
        if leaf.span.contains(&at) {
            found = Some(leaf.name());
        }
    });
    found
}

/// Takes out what stands at a byte: the key with its value, of a table or an entry of a list only what is wrong in it where that
/// can be told. False where nothing stands there.
pub fn take_out(table: &mut DeTable<'_>, at: usize) -> bool {
    let named = table.iter().find(|(key, _)| key.span().contains(&at));
    if let Some(key) = named.map(|(key, _)| key.clone()) {
        return table.remove(&key).is_some();
    }
    let mut whole = None;
    for (key, value) in table.iter_mut() {
        let here = value.span().contains(&at);
        let done = match value.get_mut() {
            DeValue::Table(inner) => take_out(inner, at),
            DeValue::Array(items) => items.iter_mut().any(|item| match item.get_mut() {
                DeValue::Table(inner) => take_out(inner, at),
                _ => false,
            }),
            _ => false,
        };
        if done {
            return true;
        }
        if here {
            whole = Some(key.clone());
        }
    }
    whole.is_some_and(|key| table.remove(&key).is_some())
}

/// Whether the table that begins at a byte has a key.
pub fn has(table: &DeTable<'_>, at: usize, key: &str) -> bool {
    let here = |value: &Spanned<DeValue<'_>>| match value.get_ref() {
        DeValue::Table(inner) => value.span().contains(&at) && inner.contains_key(key) || has(inner, at, key),
        _ => false,
    };
    table.values().any(|value| match value.get_ref() {
        DeValue::Array(items) => items.iter().any(here),
        _ => here(value),
    })
}

fn joined(section: &str, key: &str) -> String {
    if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") }
}

fn table(table_of: &DeTable<'_>, (section, kind): (&str, &str), seen: &mut dyn FnMut(&Leaf<'_>)) {
    for (key, value) in table_of {
        let key = key.get_ref().as_ref();
        match value.get_ref() {
            DeValue::Table(inner) if !inner.is_empty() => {
                table(inner, (&joined(section, key), &joined(kind, key)), seen)
            }
            DeValue::Array(items) if items.iter().any(|item| item.get_ref().is_table()) => {
                let entries = (1..).zip(items.iter().filter_map(|item| item.get_ref().as_table()));
                for (number, entry) in entries {
                    let section = format!("{}.{number}", joined(section, key));
                    table(entry, (&section, &joined(kind, key)), seen);
                }
            }
            inner => seen(&Leaf {
                section: section.to_owned(),
                kind: kind.to_owned(),
                key,
                value: inner,
                span: value.span(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_met_with_its_section_and_entries_of_lists_with_their_number() {
        let text = "[agent]\nname = \"a\"\n[[input.mqtt_client]]\nqos = 1\n[[input.mqtt_client]]\nqos = 2\n[input.mqtt_client.mapping]\nmax_depth = 3\n[[input.mqtt_client.mapping.rule]]\nlabels = { a = \"b\" }\ntopic = \"x\"\n";
        let mut met = Vec::new();
        each(text, &mut |leaf| met.push((leaf.name(), leaf.kind.clone())));
        met.sort();
        let expected = [
            ("agent.name", "agent"),
            ("input.mqtt_client.1.qos", "input.mqtt_client"),
            ("input.mqtt_client.2.mapping.max_depth", "input.mqtt_client.mapping"),
            ("input.mqtt_client.2.mapping.rule.1.labels.a", "input.mqtt_client.mapping.rule.labels"),
            ("input.mqtt_client.2.mapping.rule.1.topic", "input.mqtt_client.mapping.rule"),
            ("input.mqtt_client.2.qos", "input.mqtt_client"),
        ];
        assert_eq!(met, expected.map(|(name, kind)| (name.to_owned(), kind.to_owned())));
        let at = text.find("\"x\"");
        assert_eq!(
            at.and_then(|at| name_at(text, at)).as_deref(),
            Some("input.mqtt_client.2.mapping.rule.1.topic")
        );
        assert_eq!(name_at("[agent\n", 3), None);
    }

    #[test]
    fn what_stands_at_a_byte_is_taken_out_and_all_else_stays() {
        let text = "a = 1\n[b]\nc = [2, 3]\nd = { e = 4 }\n[[f]]\ng = 5\n[[f]]\ng = 6\n[h.i]\nj = 7\n";
        for (word, left) in [
            ("a", "b.c b.d.e f.1.g f.2.g h.i.j"),
            ("1", "b.c b.d.e f.1.g f.2.g h.i.j"),
            ("3", "a b.d.e f.1.g f.2.g h.i.j"),
            ("4", "a b.c b.d f.1.g f.2.g h.i.j"),
            ("g = 6", "a b.c b.d.e f.1.g h.i.j"),
            ("j", "a b.c b.d.e f.1.g f.2.g h.i"),
            ("h", "a b.c b.d.e f.1.g f.2.g"),
            ("b", "a f.1.g f.2.g h.i.j"),
        ] {
            let mut root = DeTable::parse(text).unwrap();
            assert!(take_out(root.get_mut(), text.find(word).unwrap()), "{word}");
            let mut met = Vec::new();
            table(root.get_ref(), ("", ""), &mut |leaf| met.push(leaf.name()));
            met.sort();
            assert_eq!(met.join(" "), left, "{word}");
        }
        assert!(!take_out(DeTable::parse(text).unwrap().get_mut(), text.len()));
    }
}
