//! Escapes: what a backslash means in keys and in quoted strings.

use std::borrow::Cow;

use telemetry::Cause;

use crate::intake::Rejection;

/// A key, tag or field name: a backslash before a comma, an equals sign or a space (or a line
/// break, which some writers escape too) stands for that character, before others for itself.
pub(super) fn unescape(raw: &[u8]) -> Result<Cow<'_, str>, Rejection> {
    let text = utf8(raw)?;
    if memchr::memchr(b'\\', raw).is_none() {
        return Ok(Cow::Borrowed(text));
    }
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match (character, characters.peek()) {
            ('\\', Some(',' | '=' | ' ')) => {}
            _ => out.push(character),
        }
    }
    Ok(Cow::Owned(out))
}

/// A quoted string's inside: a backslash before a quote or a backslash stands for that character.
pub(super) fn unquote(raw: &[u8]) -> Result<Cow<'_, str>, Rejection> {
    let text = utf8(raw)?;
    if memchr::memchr(b'\\', raw).is_none() {
        return Ok(Cow::Borrowed(text));
    }
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match (character, characters.peek()) {
            ('\\', Some(&next @ ('"' | '\\'))) => {
                characters.next();
                out.push(next);
            }
            _ => out.push(character),
        }
    }
    Ok(Cow::Owned(out))
}

pub(super) fn utf8(raw: &[u8]) -> Result<&str, Rejection> {
    std::str::from_utf8(raw)
        .map_err(|error| Rejection::new(Cause::RejectedEncoding, format!("not UTF-8: {error}")))
}

/// The end of a run that ends at one of three unescaped bytes, or at the end of the line or body.
pub(super) fn until(body: &[u8], from: usize, stops: [u8; 2]) -> usize {
    let mut at = from;
    while let Some(byte) = body.get(at) {
        match byte {
            b'\n' => return at,
            // A backslash at the end of a line escapes nothing.
            b'\\' if body.get(at + 1).is_some_and(|next| *next != b'\n') => at += 2,
            byte if stops.contains(byte) => return at,
            _ => at += 1,
        }
    }
    at.min(body.len())
}

/// The closing quote of a string whose inside begins at `from`.
pub(super) fn closing_quote(body: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        at += memchr::memchr2(b'"', b'\\', body.get(at..)?)?;
        if body[at] == b'"' {
            return Some(at);
        }
        at += 2;
    }
}
