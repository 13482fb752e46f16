//! The parser's words about a config file, as people say them.

/// The parser's words for numbers, as people say them.
pub fn plainly(message: &str) -> String {
    let whole = ["usize", "u64", "u32", "u16", "u8", "i64", "i32"];
    match message.rsplit_once("expected ") {
        Some((before, kind)) if whole.contains(&kind) => format!("{before}expected a whole number"),
        _ => message.to_owned(),
    }
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
