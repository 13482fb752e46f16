//! A password from standard input: a line of it; at a terminal it is asked for, and isn't shown while it is typed.

use std::io::{BufRead, IsTerminal, Write, stdin};

use anyhow::Context;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

/// Reads one.
///
/// # Errors
/// When the terminal refuses, or what comes is no text.
pub fn read() -> anyhow::Result<String> {
    let mut input = stdin().lock();
    if !input.is_terminal() {
        return line(&mut input);
    }
    let hidden = Hidden::begin().context("the terminal can't be kept from showing the password")?;
    // Not before: what is typed at the sight of it must neither be shown nor dropped.
    _ = write!(std::io::stderr(), "Password: ");
    let password = line(&mut input);
    drop(hidden);
    _ = writeln!(std::io::stderr());
    password
}

fn line(input: &mut impl BufRead) -> anyhow::Result<String> {
    let mut text = String::new();
    input
        .read_line(&mut text)
        .context("the password can't be read: it is a line of UTF-8 text on standard input")?;
    text.truncate(text.trim_end_matches(['\r', '\n']).len());
    Ok(text)
}

/// The terminal while it doesn't show what is typed.
struct Hidden(Termios);

impl Hidden {
    fn begin() -> std::io::Result<Self> {
        let before = tcgetattr(stdin())?;
        let mut hidden = before.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        // What was typed ahead was shown, and is dropped.
        tcsetattr(stdin(), OptionalActions::Flush, &hidden)?;
        Ok(Self(before))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        // A terminal that is gone shows nothing.
        _ = tcsetattr(stdin(), OptionalActions::Now, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_a_line_without_its_end() {
        for (given, password) in [("a b\n", "a b"), ("a b\r\nnext\n", "a b"), (" a ", " a "), ("", "")] {
            assert_eq!(line(&mut given.as_bytes()).unwrap(), password);
        }
        assert!(format!("{:#}", line(&mut &b"\xff\n"[..]).unwrap_err()).contains("UTF-8"));
    }
}
