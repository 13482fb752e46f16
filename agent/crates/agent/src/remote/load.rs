//! The configuration that is in force: the host's file with what was pushed.

use std::path::{Path, PathBuf};

use toml::Table;

use super::allowed;
use super::cache::Pushed;
use super::merge::{self, Key, Wins};
use crate::config::{Config, ConfigError};
use crate::remote::{RemoteConfig, Takes};

/// The longest text that may be pushed.
pub const LONGEST: usize = 256 << 10;

/// Parts of a key. The parser has a limit on brackets and none on dots, and a table a hundred thousand deep is more than any
/// stack can drop.
const DEEPEST: usize = 32;

/// The host's file, as it was read.
#[derive(Clone, Debug)]
pub struct HostFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
    /// What stands in it; empty where it is no TOML, which [`HostFile::alone`] then says.
    pub table: Table,
}

/// A configuration that was checked.
#[derive(Clone, Debug)]
pub struct Merged {
    /// What everybody is built from.
    pub config: Config,
    /// The keys that were set.
    pub table: Table,
}

impl HostFile {
    /// Reads it.
    ///
    /// # Errors
    /// [`ConfigError::Read`].
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = crate::config::text(path)?;
        let table = text.parse().unwrap_or_default();
        Ok(Self { path: path.into(), text, table })
    }

    /// What it says of pushed configurations. Where that can't be understood nothing is taken.
    pub fn remote(&self) -> RemoteConfig {
        match self.table.get("remote").cloned().map(toml::Value::try_into) {
            Some(Ok(remote)) => remote,
            None => RemoteConfig::default(),
            Some(Err(_)) => RemoteConfig { config: Takes::Off, ..RemoteConfig::default() },
        }
    }

    /// The file without anything pushed.
    ///
    /// # Errors
    /// [`ConfigError`], as [`Config::parse`].
    pub fn alone(&self) -> Result<Merged, ConfigError> {
        Ok(Merged { config: Config::parse(&self.text, &self.path)?, table: self.table.clone() })
    }

    /// The file with what was pushed, checked as a file is: what can't work is said with its place in the pushed text.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn with(&self, pushed: &Pushed) -> Result<Merged, ConfigError> {
        let name = PathBuf::from(format!("configuration {}", pushed.version));
        if pushed.toml.len() > LONGEST {
            let said =
                format!("{}: {} bytes; at most {LONGEST} are taken", name.display(), pushed.toml.len());
            return Err(ConfigError::Values(vec![said]));
        }
        if nests(&pushed.toml) > DEEPEST {
            let said = format!("{}: a key of more than {DEEPEST} parts; none lies so deep", name.display());
            return Err(ConfigError::Values(vec![said]));
        }
        // Unknown keys and wrong types, where they stand.
        Config::typed(&pushed.toml, &name)?;
        let theirs: Table = pushed.toml.parse().unwrap_or_default();
        let refused = allowed::refusals(&theirs);
        if !refused.is_empty() {
            let said = refused.into_iter().map(|why| format!("{}: {why}", name.display())).collect();
            return Err(ConfigError::Values(said));
        }
        let table = merge::merge(&self.table, &theirs, self.wins());
        let text = toml::to_string(&table)
            .map_err(|error| ConfigError::Values(vec![format!("{}: {error}", name.display())]))?;
        Ok(Merged { config: Config::parse_shown(&text, (&pushed.toml, &name))?, table })
    }

    /// Every key that is set, and by whom.
    pub fn keys(&self, pushed: Option<&Pushed>) -> Vec<Key> {
        let theirs: Table = pushed.and_then(|pushed| pushed.toml.parse().ok()).unwrap_or_default();
        merge::keys(&self.table, &theirs, self.wins())
    }

    fn wins(&self) -> Wins {
        match self.remote().config {
            Takes::Under => Wins::File,
            Takes::Over | Takes::Off => Wins::Pushed,
        }
    }
}

/// The most dots in one key of a text; of what stands between other signs, at least as many.
fn nests(text: &str) -> usize {
    let (mut most, mut dots, mut quote) = (0, 0, None);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some('"'), '\\') => _ = chars.next(),
            (Some(open), c) if c == open || c == '\n' => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '.') => {
                dots += 1;
                most = most.max(dots);
            }
            (None, ' ' | '\t' | '-' | '_') => {}
            (None, c) if c.is_ascii_alphanumeric() => {}
            (None, _) => dots = 0,
        }
    }
    most
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> HostFile {
        HostFile { path: "agent.toml".into(), text: text.into(), table: text.parse().unwrap() }
    }

    fn pushed(toml: &str) -> Pushed {
        Pushed { version: 7, toml: toml.into() }
    }

    fn refused(toml: &str) -> String {
        file("").with(&pushed(toml)).unwrap_err().to_string()
    }

    #[test]
    fn pushed_keys_replace_the_files_or_fill_in_what_it_leaves_out() {
        let over = file("[agent]\nmax_series = 5\n");
        let text = "[agent]\nmax_series = 9\nlog = \"debug\"\n";
        let config = over.with(&pushed(text)).unwrap().config;
        assert_eq!((config.agent.max_series, config.agent.log.as_str()), (9, "debug"));
        let under = file("[agent]\nmax_series = 5\n[remote]\nconfig = \"under\"\n");
        let config = under.with(&pushed(text)).unwrap().config;
        assert_eq!((config.agent.max_series, config.agent.log.as_str()), (5, "debug"));
    }

    #[test]
    fn what_cannot_work_is_named_with_its_place_in_the_pushed_text() {
        assert!(refused("[agent\n").starts_with("configuration 7:1:"), "{}", refused("[agent\n"));
        let said = refused("[agent]\nlogg = \"info\"\n");
        assert!(said.starts_with("configuration 7:2:1: unknown field `logg`"), "{said}");
        assert!(said.ends_with("did you mean `log`?"), "{said}");
        let said = refused("\n[agent]\nmax_series = 0\n");
        assert_eq!(said, "configuration 7:3:1: agent.max_series = 0 is out of range: give 1 to 10000000");
        let said = refused("[agent]\nname = \"x\"\n[uplink]\nurl = \"http://x\"\n");
        assert_eq!(said.lines().count(), 2, "{said}");
        assert!(refused(&"# \n".repeat(100_000)).contains("bytes; at most"));
    }

    #[test]
    fn no_text_nests_so_deep_that_reading_it_ends_the_process() {
        let dots = "a.".repeat(100_000);
        for text in [
            format!("{dots}a = 1"),
            format!("[{dots}a]"),
            format!("[[{dots}a]]"),
            format!("x = {{{dots}a = 1}}"),
            format!("[{}a]", "\"a\" . ".repeat(30_000)),
            format!("x = {}", "[".repeat(200_000)),
            format!("x = {}", "{a=".repeat(80_000)),
        ] {
            assert!(file("").with(&pushed(&text)).is_err(), "{}", &text[..20]);
        }
        let fine = "[input.mqtt.mapping]\nmax_depth = 3 # a.b.c\n[fold]\nlateness = \"1.2.3\"\n";
        assert_eq!(nests(fine), 2);
    }

    #[test]
    fn two_halves_that_clash_only_together_are_refused() {
        let file = file("[input.http]\nlisten = \"127.0.0.1:9000\"\n");
        let error = file.with(&pushed("[input.tcp]\nlisten = \"127.0.0.1:9000\"\n")).unwrap_err();
        assert!(error.to_string().contains("is taken by input.http"), "{error}");
    }
}
