//! The parser's words about a config file, as people say them.

/// The parser's words, and what is said for them.
const WORDS: [(&str, &str); 10] = [
    ("expected socket address", "expected an address as text: write host and port as \"127.0.0.1:8186\""),
    ("invalid socket address syntax", "no address: write host and port as \"127.0.0.1:8186\""),
    ("expected path string", "expected a path as text"),
    ("expected a sequence", "expected a list as [\"a\", \"b\"]"),
    ("expected a map", "expected a table as { a = \"b\" }"),
    ("expected a string", "expected a text as \"a\""),
    ("invalid type: sequence", "invalid type: list"),
    ("invalid type: map", "invalid type: table"),
    ("wanted string or table", "expected a text as \"a\""),
    ("expected a boolean", "expected true or false"),
];

/// The parser's words, as people say them.
pub fn plainly(message: &str) -> String {
    let whole = ["usize", "u64", "u32", "u16", "u8", "i64", "i32"];
    let said = match message.rsplit_once("expected ") {
        Some((before, kind)) if whole.contains(&kind) => format!("{before}expected a whole number"),
        Some((before, "f64" | "f32")) => format!("{before}expected a number"),
        // A section, by its name in the program.
        Some((before, kind)) if kind.starts_with("struct ") => format!("{before}expected a map"),
        // Of a choice, a table is taken for one with a value.
        _ if message.starts_with("wanted exactly 1 element") => "expected a text as \"a\"".to_owned(),
        _ => message.to_owned(),
    };
    // What the file holds is quoted, and stands between them.
    WORDS.iter().fold(said, |said, (theirs, ours)| match said.strip_prefix(theirs) {
        Some(rest) => format!("{ours}{rest}"),
        None => said.strip_suffix(theirs).map_or_else(|| said.clone(), |before| format!("{before}{ours}")),
    })
}

/// Whether it says something of a value, whose key isn't in it; and not of the key itself, or of TOML.
pub fn is_about_a_value(message: &str) -> bool {
    !["unknown field", "missing field", "duplicate"].iter().any(|words| message.starts_with(words))
}

/// From serde's "unknown field `lisen`, expected one of `listen`, `users`" the nearest expected name.
pub fn nearest(message: &str) -> Option<String> {
    let rest = message.strip_prefix("unknown field `")?;
    let (given, rest) = rest.split_once('`')?;
    let expected = rest.split('`').skip(1).step_by(2);
    expected
        .map(|name| (distance(given, name), name))
        .min()
        .filter(|(d, _)| *d <= 3)
        .map(|(_, name)| name.to_owned())
}

/// Edit distance (Levenshtein 1966).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let cost = (diagonal + usize::from(from != *to)).min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = std::mem::replace(&mut row[j + 1], cost);
        }
    }
    row[b.len()]
}
