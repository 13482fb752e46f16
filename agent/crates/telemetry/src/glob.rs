//! Globs on metric names and label values, as configurations write them: `*` is any text, `?` any one character, all else is itself.

/// True when the whole text fits the pattern. Linear in text × stars, no recursion, no allocation.
pub fn matches(pattern: &str, text: &str) -> bool {
    let (mut pattern_at, mut text_at) = (pattern.chars(), text.chars());
    // Where to go on when the present attempt fails: behind the last star, one character further.
    let mut retry: Option<(std::str::Chars<'_>, std::str::Chars<'_>)> = None;
    loop {
        let mut pattern_next = pattern_at.clone();
        let fits = match pattern_next.next() {
            Some('*') => {
                retry = Some((pattern_next.clone(), text_at.clone()));
                pattern_at = pattern_next;
                continue;
            }
            None if text_at.as_str().is_empty() => return true,
            None => false,
            Some(wanted) => match text_at.clone().next() {
                None => return false,
                Some(have) => wanted == '?' || wanted == have,
            },
        };
        if fits {
            pattern_at = pattern_next;
            text_at.next();
            continue;
        }
        let Some((behind_star, from)) = retry.as_mut() else { return false };
        if from.next().is_none() {
            return false;
        }
        pattern_at = behind_star.clone();
        text_at = from.clone();
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn stars_and_question_marks_match_what_a_shell_user_expects() {
        for (pattern, text, fits) in [
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("system.*", "system.cpu.utilization", true),
            ("system.*", "systemd", false),
            ("*.temp", "hall.temp", true),
            ("*.temp", "hall.temperature", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("p?mp", "pump", true),
            ("p?mp", "pmp", false),
            ("?", "é", true),
            ("*é*", "caféine", true),
            ("a*", "b", false),
        ] {
            assert_eq!(matches(pattern, text), fits, "{pattern:?} on {text:?}");
        }
    }
}
