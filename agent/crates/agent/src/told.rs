//! How what is wrong in a config file is told: with its place, and of what the file holds no more than helps and nothing that could
//! steer a terminal.

use std::fmt::Write as _;
use std::path::Path;

use serde::Deserialize;
use toml::de::DeTable;

use crate::config::{Config, ConfigError};
use crate::{hints, leaves, place, ranges, texts};

/// Of one value no more characters are repeated; a path of usual length is.
const LONGEST: usize = 200;
/// Of one that is longer, so many.
const BEGINNING: usize = 60;

/// Each problem behind the place it is about.
pub fn said(problems: Vec<(String, String)>, text: &str, path: &Path) -> Vec<String> {
    let said = problems.into_iter().map(|(section, message)| {
        let place = place::locate(text, &section, &message)
            .map_or_else(String::new, |(line, column)| format!("{line}:{column}:"));
        format!("{}:{place} {}", path.display(), shown(&message))
    });
    said.collect()
}

/// Most errors of keys and types that are told at once.
const MOST: usize = 100;

/// All that is wrong with keys and types: what the first error is about is taken out, and what is left is looked at again. Where that
/// isn't all, amounts out of their ranges and texts that can't be are told beside it. Of values that hang together nothing is said:
/// what was taken out may be what another lacks.
pub fn all(first: toml::de::Error, text: &str, path: &Path) -> ConfigError {
    let Ok(whole) = DeTable::parse(text) else { return located(&first, text, path) };
    let mut left = whole.clone();
    let mut errors = vec![first];
    while errors.len() < MOST
        && let Some(at) = errors.last().and_then(toml::de::Error::span).map(|span| span.start)
        && leaves::take_out(left.get_mut(), at)
    {
        match Config::deserialize(toml::Deserializer::from(left.clone())) {
            Ok(_) => break,
            Err(error) => errors.push(error),
        }
    }
    let mut said: Vec<(place::Place, String)> = Vec::new();
    let say = |said: &mut Vec<_>, place: place::Place, message: String| {
        if said.iter().all(|(told, _)| *told != place) {
            said.push((place, message));
        }
    };
    let mut only = None;
    for error in errors {
        let start = error.span().map_or(0, |span| span.start);
        // It is missing since it was taken out.
        let lacks = error.message().strip_prefix("missing field `").and_then(|rest| rest.split('`').next());
        if lacks.is_some_and(|key| leaves::has(whole.get_ref(), start, key)) {
            continue;
        }
        let found = located(&error, text, path);
        // An amount that is out of its range is told at its key.
        let at = place::of(text, start);
        match &found {
            ConfigError::Values(_) => {}
            other => say(&mut said, at, other.to_string()),
        }
        only.get_or_insert(found);
    }
    for (section, message) in ranges::problems(text).into_iter().chain(texts::problems(text)) {
        let at = place::locate(text, &section, &message).unwrap_or_default();
        // Its type says enough of a key.
        if said.iter().any(|((line, _), _)| *line == at.0) {
            continue;
        }
        say(&mut said, at, format!("{}:{}:{}: {}", path.display(), at.0, at.1, shown(&message)));
    }
    match only {
        Some(only) if said.len() < 2 => only,
        _ => {
            said.sort_by_key(|(place, _)| *place);
            ConfigError::Values(said.into_iter().map(|(_, message)| message).collect())
        }
    }
}

/// Turns a TOML error into a place, the key there, and a remedy.
fn located(error: &toml::de::Error, text: &str, path: &Path) -> ConfigError {
    let at = error.span().map_or(0, |span| span.start);
    let (line, column) = place::of(text, at);
    let out_of_range: Vec<_> = said(ranges::problems(text), text, path);
    if let Some(same) =
        out_of_range.iter().find(|said| said.starts_with(&format!("{}:{line}:", path.display())))
    {
        return ConfigError::Values(vec![same.clone()]);
    }
    let mut message = hints::plainly(error.message());
    if let Some(key) = leaves::name_at(text, at).filter(|_| hints::is_about_a_value(&message)) {
        if let Some(written) = ranges::written_at(text, at) {
            message = message.replace("expected a text as \"a\"", &format!("expected {written}"));
        }
        message = format!("{key}: {message}");
        if let Some(taken) = ranges::taken_at(text, at) {
            _ = write!(message, ": {taken}");
        }
    }
    let hint_text =
        hints::nearest(&message).map(|name| format!("did you mean `{name}`?")).unwrap_or_default();
    ConfigError::Parse { path: path.into(), line, column, message: shown(&message), hint_text }
}

/// A message in which a value may be repeated: what is too long of it is cut, and what isn't printable is shown as its escape.
pub fn shown(message: &str) -> String {
    let mut out = String::with_capacity(message.len());
    let mut rest = message;
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(piece(rest));
        let length = piece.chars().count();
        if length > LONGEST {
            escaped(&mut out, &piece.chars().take(BEGINNING).collect::<String>());
            let quotes = if piece.starts_with(QUOTES) { 2 } else { 0 };
            _ = write!(out, "… ({} characters)", length.saturating_sub(quotes));
            // The quote that opened it is closed.
            out.extend(piece.chars().next().filter(|c| QUOTES.contains(c)));
        } else {
            escaped(&mut out, piece);
        }
        rest = after;
    }
    out
}

const QUOTES: [char; 2] = ['"', '`'];

/// Where the first piece of a text ends that belongs together: what is quoted, a word, or what lies between.
fn piece(text: &str) -> usize {
    let mut chars = text.char_indices();
    let Some((_, first)) = chars.next() else { return 0 };
    if QUOTES.contains(&first) {
        let mut passed = false;
        for (at, c) in chars {
            match c {
                _ if passed => passed = false,
                '\\' => passed = true,
                _ if c == first => return at + c.len_utf8(),
                _ => {}
            }
        }
        return text.len();
    }
    let space = first.is_whitespace();
    let end = chars.find(|(_, c)| c.is_whitespace() != space || QUOTES.contains(c));
    end.map_or(text.len(), |(at, _)| at)
}

fn escaped(out: &mut String, text: &str) {
    for c in text.chars() {
        // Of what is printable, only quotes and backslashes have an escape too.
        if c.is_control() || (!c.is_ascii() && c.escape_debug().len() > 1) {
            out.extend(c.escape_debug());
        } else {
            out.push(c);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_value_is_cut_wherever_it_stands_and_what_stands_around_it_stays() {
        let long = "x".repeat(5_000);
        for quoted in [
            format!("\"{long}\""),
            format!("`{long}`"),
            format!("\"{} {long}\"", "y ".repeat(9)),
            long.clone(),
        ] {
            let said = shown(&format!("agent.name {quoted} may hold \"letters\" only"));
            assert!(said.len() < 200 && said.ends_with(" may hold \"letters\" only"), "{said}");
            assert!(said.starts_with("agent.name ") && said.contains("characters)"), "{said}");
            let length = quoted.trim_matches(['"', '`']).chars().count();
            assert!(said.contains(&format!("({length} characters)")), "{said}");
        }
        let fine = "uplink.url \"http://host\" isn't `one`: set \"a\\\"b\" (Größe, 泵)";
        assert_eq!(shown(fine), fine);
    }

    #[test]
    fn nothing_that_steers_a_terminal_gets_through() {
        assert_eq!(shown("a `\u{1b}[31mx` b\n\u{202e}c"), "a `\\u{1b}[31mx` b\\n\\u{202e}c");
    }
}
