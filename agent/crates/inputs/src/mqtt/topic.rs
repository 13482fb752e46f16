//! Topic names and filters: what is a valid one, and which name a filter matches.
//!
//! Everything a client sends passes here before it is used as a key, so the parts behind can rely
//! on: UTF-8, no NUL, not empty, at most 65,535 bytes (the wire's limit) and [`MAX_LEVELS`] levels.

use std::borrow::Cow;

/// Most levels of a topic or filter. The matcher walks one node a level, so this bounds its depth.
pub const MAX_LEVELS: usize = 128;

/// Why a topic name or filter was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTopic {
    /// Nothing in it.
    #[error("it is empty")]
    Empty,
    /// U+0000.
    #[error("it holds a NUL character")]
    Nul,
    /// A wildcard where a name is needed.
    #[error("a topic name can't hold the wildcards + and #")]
    Wildcard,
    /// `a+`, `#/a` and the like.
    #[error("a wildcard must fill a whole level, and # only the last")]
    Misplaced,
    /// Deeper than [`MAX_LEVELS`].
    #[error("it has more than {MAX_LEVELS} levels")]
    TooDeep,
    /// `$share/…` without a group or a filter behind it.
    #[error("a shared subscription is $share/<group>/<filter>")]
    Share,
}

/// Checks a topic name, as it stands in a PUBLISH.
///
/// # Errors
/// [`InvalidTopic`].
pub fn check_name(name: &str) -> Result<(), InvalidTopic> {
    if name.is_empty() {
        return Err(InvalidTopic::Empty);
    }
    let mut levels = 1;
    for byte in name.bytes() {
        match byte {
            0 => return Err(InvalidTopic::Nul),
            b'+' | b'#' => return Err(InvalidTopic::Wildcard),
            b'/' => levels += 1,
            _ => {}
        }
    }
    if levels > MAX_LEVELS { Err(InvalidTopic::TooDeep) } else { Ok(()) }
}

/// Checks a filter (without a `$share` prefix).
///
/// # Errors
/// [`InvalidTopic`].
pub fn check_filter(filter: &str) -> Result<(), InvalidTopic> {
    if filter.is_empty() {
        return Err(InvalidTopic::Empty);
    }
    if filter.contains('\0') {
        return Err(InvalidTopic::Nul);
    }
    let mut levels = filter.split('/').peekable();
    let mut depth = 0;
    while let Some(level) = levels.next() {
        depth += 1;
        if depth > MAX_LEVELS {
            return Err(InvalidTopic::TooDeep);
        }
        let wild = level.contains(['+', '#']);
        if wild && (level.len() > 1 || (level == "#" && levels.peek().is_some())) {
            return Err(InvalidTopic::Misplaced);
        }
    }
    Ok(())
}

/// A subscription's filter, taken apart: `$share/group/filter` or a plain filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filter<'a> {
    /// The share group, if it is one.
    pub group: Option<&'a str>,
    /// The filter itself.
    pub filter: &'a str,
}

impl<'a> Filter<'a> {
    /// Takes apart and checks.
    ///
    /// # Errors
    /// [`InvalidTopic`].
    pub fn parse(text: &'a str) -> Result<Self, InvalidTopic> {
        let parsed = match text.strip_prefix("$share/") {
            None => Self { group: None, filter: text },
            Some(rest) => {
                let (group, filter) = rest.split_once('/').ok_or(InvalidTopic::Share)?;
                if group.is_empty() || group.contains(['+', '#', '\0']) {
                    return Err(InvalidTopic::Share);
                }
                Self { group: Some(group), filter }
            }
        };
        check_filter(parsed.filter)?;
        Ok(parsed)
    }
}

/// True when `filter` matches the topic `name`. Both are valid. A filter that begins with a
/// wildcard doesn't match a name that begins with `$`.
pub fn matches(filter: &str, name: &str) -> bool {
    if name.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut names = name.split('/');
    let mut filters = filter.split('/');
    loop {
        match (filters.next(), names.next()) {
            (Some("#"), _) => return true,
            (Some("+"), Some(_)) => {}
            (Some(filter), Some(name)) if filter == name => {}
            (None, None) => return true,
            _ => return false,
        }
    }
}

/// True when some topic name could match both filters.
pub fn intersect(a: &str, b: &str) -> bool {
    if (a.starts_with('$') && b.starts_with(['+', '#'])) || (b.starts_with('$') && a.starts_with(['+', '#']))
    {
        return false;
    }
    let (mut a, mut b) = (a.split('/'), b.split('/'));
    loop {
        match (a.next(), b.next()) {
            (Some("#"), _) | (_, Some("#")) => return true,
            (Some("+"), Some(_)) | (Some(_), Some("+")) => {}
            (Some(a), Some(b)) if a == b => {}
            (None, None) => return true,
            _ => return false,
        }
    }
}

/// The part of a filter before its first wildcard: every topic it matches begins with it.
pub fn literal_prefix(filter: &str) -> Cow<'_, str> {
    match filter.find(['+', '#']) {
        None => Cow::Borrowed(filter),
        // `a/#` also matches `a`, so the slash before `#` isn't part of the prefix.
        Some(at) => Cow::Borrowed(filter[..at].trim_end_matches('/')),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_with_wildcards_nul_or_nothing_are_refused() {
        assert_eq!(check_name(""), Err(InvalidTopic::Empty));
        assert_eq!(check_name("a/+"), Err(InvalidTopic::Wildcard));
        assert_eq!(check_name("a#"), Err(InvalidTopic::Wildcard));
        assert_eq!(check_name("a\0"), Err(InvalidTopic::Nul));
        assert_eq!(check_name(&"/".repeat(10_000)), Err(InvalidTopic::TooDeep));
        assert_eq!(check_name("é/1"), Ok(()));
        assert_eq!(check_name("/"), Ok(()));
    }

    #[test]
    fn a_wildcard_fills_its_level_and_hash_ends_the_filter() {
        for good in ["#", "+", "a/#", "a/+/b", "+/+", "/+", "/"] {
            assert_eq!(check_filter(good), Ok(()), "{good}");
        }
        for bad in ["a#", "a/#/b", "a+/b", "++", "#/"] {
            assert_eq!(check_filter(bad), Err(InvalidTopic::Misplaced), "{bad}");
        }
    }

    #[test]
    fn a_shared_filter_needs_a_group_and_a_filter() {
        assert_eq!(Filter::parse("$share/g/a/#"), Ok(Filter { group: Some("g"), filter: "a/#" }));
        assert_eq!(Filter::parse("$share/g"), Err(InvalidTopic::Share));
        assert_eq!(Filter::parse("$share//a"), Err(InvalidTopic::Share));
        assert_eq!(Filter::parse("$share/g/"), Err(InvalidTopic::Empty));
        assert_eq!(Filter::parse("$share/+/a"), Err(InvalidTopic::Share));
    }

    #[test]
    fn matching_follows_the_specification() {
        for (filter, name) in [
            ("#", "a/b"),
            ("a/#", "a"),
            ("a/#", "a/b/c"),
            ("+/b", "a/b"),
            ("/+", "/a"),
            ("+/+", "/a"),
            ("$SYS/#", "$SYS/x"),
        ] {
            assert!(matches(filter, name), "{filter} {name}");
        }
        for (filter, name) in
            [("#", "$SYS/x"), ("+/x", "$SYS/x"), ("a/+", "a"), ("a/+", "a/b/c"), ("a", "a/b"), ("A", "a")]
        {
            assert!(!matches(filter, name), "{filter} {name}");
        }
    }

    proptest! {
        #[test]
        fn what_both_filters_match_makes_them_intersect(a in "([ab+]/){0,3}[ab+#]", b in "([ab+]/){0,3}[ab+#]", name in "([ab]/){0,3}[ab]") {
            if matches(&a, &name) && matches(&b, &name) {
                prop_assert!(intersect(&a, &b));
            }
        }

        #[test]
        fn a_matched_name_begins_with_the_literal_prefix(filter in "([ab+]/){0,3}[ab+#]", name in "([ab]/){0,3}[ab]") {
            if matches(&filter, &name) {
                prop_assert!(name.starts_with(&*literal_prefix(&filter)));
            }
        }
    }
}
