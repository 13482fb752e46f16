//! The terminal: its own screen, keys without Enter, and all of it given back when this is dropped.
//!
//! Plain ANSI (ECMA-48), which every terminal of the last thirty years takes: no terminal library, for the binary's size.

use std::io::{IsTerminal, Read, Write, stdin, stdout};

use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetwinsize, tcsetattr,
};
use tokio::sync::mpsc;

/// The other screen, no cursor, no wrapping of long lines.
const BEGIN: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l";
const END: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";

/// What a person pressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// q, or Ctrl-C, which comes as a key.
    Quit,
    /// Anything else: draw again.
    Other,
}

/// Columns of the terminal that standard output is, if it is one that says so.
pub fn width() -> Option<usize> {
    let size = stdout().is_terminal().then(|| tcgetwinsize(stdout()).ok()).flatten()?;
    (size.ws_col > 0).then_some(size.ws_col.into())
}

/// The terminal while it is ours.
pub struct Screen {
    before: Termios,
    keys: mpsc::Receiver<Key>,
}

impl Screen {
    /// Takes the terminal; `None` where input or output is none.
    ///
    /// # Errors
    /// When it refuses.
    pub fn take() -> std::io::Result<Option<Self>> {
        if !(stdin().is_terminal() && stdout().is_terminal()) {
            return Ok(None);
        }
        let before = tcgetattr(stdin())?;
        let mut raw = before.clone();
        raw.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG);
        raw.special_codes[SpecialCodeIndex::VMIN] = 1;
        raw.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(stdin(), OptionalActions::Now, &raw)?;
        let (sender, keys) = mpsc::channel(8);
        // From here on dropping it gives the terminal back.
        let screen = Self { before, keys };
        // Ends with the process: nothing else can end a read from a terminal.
        std::thread::Builder::new().name("keys".into()).spawn(move || read_keys(&sender))?;
        write!(stdout(), "{BEGIN}")?;
        stdout().flush()?;
        Ok(Some(screen))
    }

    /// Columns and rows now.
    pub fn size(&self) -> (usize, usize) {
        match tcgetwinsize(stdout()) {
            Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col.into(), size.ws_row.into()),
            _ => (80, 24),
        }
    }

    /// The next key.
    pub async fn key(&mut self) -> Key {
        // The reader is gone when the terminal is.
        self.keys.recv().await.unwrap_or(Key::Quit)
    }

    /// Replaces what is shown, as far as it fits, without a flash: each line is overwritten and its rest erased.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn draw(&mut self, lines: &[String], height: usize) -> std::io::Result<()> {
        let mut out = String::from("\x1b[H");
        for (at, line) in lines.iter().take(height).enumerate() {
            if at > 0 {
                out.push_str("\r\n");
            }
            out.push_str(line);
            out.push_str("\x1b[K");
        }
        out.push_str("\x1b[J");
        let mut stdout = stdout().lock();
        stdout.write_all(out.as_bytes())?;
        stdout.flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing back.
        let _ = write!(stdout(), "{END}").and_then(|()| stdout().flush());
        let _ = tcsetattr(stdin(), OptionalActions::Now, &self.before);
    }
}

fn read_keys(sender: &mpsc::Sender<Key>) {
    let mut byte = [0];
    while let Ok(1) = stdin().lock().read(&mut byte) {
        let key = match byte[0] {
            b'q' | b'Q' | 3 | 4 => Key::Quit,
            _ => Key::Other,
        };
        if sender.blocking_send(key).is_err() {
            return;
        }
    }
}
