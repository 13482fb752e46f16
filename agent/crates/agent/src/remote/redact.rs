//! Secrets, and texts without them. What a bundle holds goes to the collector and from there to whoever is to understand an
//! agent: tokens, passwords, their hashes and private keys stay on the host, wherever they got to.

use std::path::Path;

use seglog::regular;
use toml::{Table, Value};

/// What stands in a secret's place.
const MARK: &str = "[redacted]";
/// Shorter ones would be found in every other word.
const SHORTEST: usize = 6;
/// No secret is in a larger file.
const LARGEST_FILE: u64 = 1 << 20;

/// Everything on this host that must not be told.
#[derive(Debug, Default)]
pub struct Secrets(Vec<String>);

impl Secrets {
    /// What the configuration in force holds and what the file holds that may be another by now, and what is in the files that
    /// they name; and the keys of the host's enrolment.
    pub fn of(config: &Table, file: &Path, data_dir: &Path) -> Self {
        let mut found = Self::default();
        found.table(config);
        if let Ok(text) = regular::read_text(file, LARGEST_FILE) {
            match text.parse::<Table>() {
                Ok(table) => found.table(&table),
                Err(_) => found.lines(&text),
            }
        }
        for folder in ["identity", "identity.new", "identity.old"] {
            found.file(&data_dir.join(folder).join("key.pem"));
        }
        // In JSON, and in the log's quoted fields, it stands like this.
        let escaped = |secret: &String| serde_json::to_string(secret).ok();
        let quoted: Vec<_> =
            found.0.iter().filter_map(escaped).map(|text| text[1..text.len() - 1].to_owned()).collect();
        found.0.extend(quoted);
        // The longest first: a part of it may be another.
        found.0.sort_by(|one, other| other.len().cmp(&one.len()).then_with(|| one.cmp(other)));
        found.0.dedup();
        found
    }

    /// Of a text that is no TOML, whose error may quote a line of it.
    fn lines(&mut self, text: &str) {
        for (key, value) in text.lines().filter_map(|line| line.split_once('=')) {
            let value = value.trim().trim_matches(['"', '\'']);
            self.value(key.trim(), &Value::String(value.to_owned()));
        }
    }

    fn table(&mut self, table: &Table) {
        for (key, value) in table {
            self.value(key, value);
        }
    }

    fn value(&mut self, key: &str, value: &Value) {
        match value {
            Value::Table(table) => self.table(table),
            Value::Array(items) => items.iter().for_each(|item| self.value(key, item)),
            Value::String(text) if is_secret(key) => self.add(text),
            Value::String(text) if holds_secrets(key) => self.file(Path::new(text)),
            Value::String(text) => {
                self.0.extend(password(text).filter(|it| it.len() >= SHORTEST).map(str::to_owned))
            }
            _ => {}
        }
    }

    fn add(&mut self, text: &str) {
        let text = text.trim();
        if text.len() >= SHORTEST {
            self.0.push(text.to_owned());
        }
    }

    /// Each line is one: tokens, passwords, the lines of a key. `user:password` is two, `Header: Scheme token` three.
    fn file(&mut self, path: &Path) {
        let Ok(text) = regular::read_text(path, LARGEST_FILE) else { return };
        for line in text.lines().filter(|line| !line.starts_with("-----")) {
            self.add(line);
            if let Some((_, password)) = line.split_once(':') {
                self.add(password);
                if let Some((_, word)) = password.trim().rsplit_once(' ') {
                    self.add(word);
                }
            }
        }
    }

    /// A text without any of them.
    pub fn scrub(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in &self.0 {
            if text.contains(secret.as_str()) {
                text = text.replace(secret.as_str(), MARK);
            }
        }
        text
    }
}

/// A configuration whose secrets are marked as such.
pub fn config(table: &Table) -> Table {
    let redact = |(key, value): (&String, &Value)| (key.clone(), redacted(key, value));
    table.iter().map(redact).collect()
}

fn redacted(key: &str, value: &Value) -> Value {
    match value {
        Value::Table(table) => Value::Table(config(table)),
        Value::Array(items) => Value::Array(items.iter().map(|item| redacted(key, item)).collect()),
        Value::String(text) if is_secret(key) && !text.is_empty() => Value::String(MARK.into()),
        Value::String(text) => match password(text) {
            Some(password) => Value::String(text.replacen(&format!(":{password}@"), &format!(":{MARK}@"), 1)),
            None => value.clone(),
        },
        other => other.clone(),
    }
}

/// Whether a key's value is a secret itself.
pub(super) fn is_secret(key: &str) -> bool {
    !key.ends_with("_file") && ["password", "token", "secret", "hash"].iter().any(|word| key.contains(word))
}

/// Whether a key names a file with secrets: all but certificates and lists of them.
pub(super) fn holds_secrets(key: &str) -> bool {
    key.ends_with("_file") && !["ca_file", "cert_file", "crl_file"].iter().any(|name| key.ends_with(name))
}

/// Of `scheme://user:password@host` the password.
fn password(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("://")?;
    let (user, _) = rest.split('/').next()?.rsplit_once('@')?;
    user.split_once(':').map(|(_, password)| password).filter(|password| !password.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_of_the_configuration_or_of_its_files_is_left_in_any_text() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, text).unwrap();
            path
        };
        let token = file("token", "token-abcdef\nsensor:door-secret\n");
        let key = file("key.pem", "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBg\n-----END PRIVATE KEY-----\n");
        let certificate = file("cert.pem", "-----BEGIN CERTIFICATE-----\npublic-anyway\n");
        file("identity/key.pem", "-----BEGIN PRIVATE KEY-----\nidentity-key-line\n");
        let text = format!(
            "[uplink]\ntoken_file = {token:?}\nurl = \"mqtts://edge:url-secret@broker:8883/x\"\n[input.http]\nkey_file = {key:?}\ncert_file = {certificate:?}\n[[input.mqtt.user]]\nname = \"press\"\npassword_hash = \"$pbkdf2$deadbeef\"\n"
        );
        let table: Table = text.parse().unwrap();
        let secrets = Secrets::of(&table, &folder.path().join("gone.toml"), folder.path());
        let kept = toml::to_string(&config(&table)).unwrap();
        let log = "token-abcdef door-secret MIIEvQIBADANBg identity-key-line url-secret $pbkdf2$deadbeef public-anyway";
        for said in [secrets.scrub(&kept), secrets.scrub(log)] {
            for secret in ["abcdef", "door-secret", "MIIEvQ", "identity-key", "url-secret", "deadbeef"] {
                assert!(!said.contains(secret), "{secret} in {said}");
            }
        }
        assert!(
            kept.contains("password_hash = \"[redacted]\"")
                && kept.contains("mqtts://edge:[redacted]@broker:8883/x"),
            "{kept}"
        );
        assert!(kept.contains("token_file"), "which file it is may be told: {kept}");
        assert!(secrets.scrub(log).ends_with("public-anyway"));
    }

    #[test]
    fn what_the_file_holds_by_now_is_a_secret_too_also_when_it_can_no_longer_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("agent.toml");
        for text in [
            "[[input.mqtt.user]]\npassword_hash = \"edited-secret\"\n",
            "[input\n[[input.mqtt.user]]\npassword_hash = \"edited-secret\"\n",
        ] {
            std::fs::write(&file, text).unwrap();
            let secrets = Secrets::of(&Table::new(), &file, folder.path());
            assert_eq!(secrets.scrub("it said edited-secret"), "it said [redacted]");
        }
    }

    #[test]
    fn a_secret_is_found_in_json_and_in_a_log_where_its_quotes_are_written_otherwise() {
        let folder = tempfile::tempdir().unwrap();
        let token = folder.path().join("token");
        std::fs::write(&token, "a\"quoted\\token\n").unwrap();
        let table: Table = format!("[uplink]\ntoken_file = {token:?}\n").parse().unwrap();
        let secrets = Secrets::of(&table, &token, folder.path());
        let said = serde_json::json!({"said": "a\"quoted\\token"}).to_string();
        assert_eq!(secrets.scrub(&said), "{\"said\":\"[redacted]\"}");
        assert_eq!(secrets.scrub(&format!("{:?}", "a\"quoted\\token")), "\"[redacted]\"");
    }
}
