//! The diagnostics bundle: a .tar.zst of what one asks for when an agent is to be understood from afar. Each file is text, each
//! is freed of secrets, and what can't be found out says why in its place: a bundle of an ailing agent must come about.

use std::fmt::Display;
use std::io::{Read, Write};
use std::path::PathBuf;

use serde_json::Value;
use toml::Table;

use super::redact::{self, Secrets};
use crate::{doctor, spool_commands};

/// The largest bundle.
const MOST: usize = 16 << 20;
/// Of one file at most so much goes in; its end is cut off.
const MOST_FILE: usize = 8 << 20;
/// Batches that are listed.
const BATCHES: u64 = 5_000;
/// What tells about the host and this process. No command lines and no environments: these may hold anything.
const PROC: [&str; 14] = [
    "/proc/self/status",
    "/proc/self/limits",
    "/proc/self/io",
    "/proc/self/stat",
    "/proc/self/cgroup",
    "/proc/self/mountinfo",
    "/proc/meminfo",
    "/proc/loadavg",
    "/proc/uptime",
    "/proc/version",
    "/proc/diskstats",
    "/proc/net/dev",
    "/proc/pressure/io",
    "/proc/pressure/memory",
];

/// What it is made of.
pub struct Sources {
    /// What `status` says.
    pub status: Value,
    /// The last refused readings.
    pub rejects: Value,
    /// The configuration in force.
    pub config: Table,
    /// The last lines of the log.
    pub log: String,
    /// The config file.
    pub path: PathBuf,
    /// The data folder.
    pub data_dir: PathBuf,
    /// Now, nanoseconds since the epoch.
    pub at_ns: i64,
}

/// Makes one. Blocks for some seconds: the doctor tries the link.
///
/// # Errors
/// When there is no memory for it; a file that can't be had is none.
pub fn make(sources: &Sources) -> anyhow::Result<Vec<u8>> {
    let secrets = Secrets::of(&sources.config, &sources.path, &sources.data_dir);
    let mut files = vec![
        ("versions.json".to_owned(), pretty(&versions())),
        ("status.json".to_owned(), pretty(&sources.status)),
        ("rejects.json".to_owned(), pretty(&sources.rejects)),
        ("config.toml".to_owned(), or_why(toml::to_string(&redact::config(&sources.config)))),
        ("log.txt".to_owned(), sources.log.clone()),
        ("doctor.json".to_owned(), or_why(doctor::findings(&sources.path).map(|found| pretty(&found)))),
    ];
    files.extend(PROC.iter().map(|path| (path.trim_start_matches('/').to_owned(), or_why(read(path)))));
    let mut batches = Vec::new();
    let listed = spool_commands::list_json(&sources.data_dir, BATCHES, &mut batches);
    files.push((
        "spool.ndjson".to_owned(),
        or_why(listed.map(|()| String::from_utf8_lossy(&batches).into_owned())),
    ));
    for (_, text) in &mut files {
        *text = secrets.scrub(text);
    }
    let packed = pack(&files, sources.at_ns)?;
    if packed.len() <= MOST {
        return Ok(packed);
    }
    // The list of batches is all that can be so large.
    if let Some((_, text)) = files.last_mut() {
        *text = "left out: too large\n".into();
    }
    pack(&files, sources.at_ns)
}

fn pack(files: &[(String, String)], at_ns: i64) -> anyhow::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(zstd::Encoder::new(Vec::new(), 3)?);
    for (name, text) in files {
        let end = (0..=text.len().min(MOST_FILE)).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        let mut header = tar::Header::new_gnu();
        header.set_size(end as u64);
        header.set_mode(0o600);
        header.set_mtime((at_ns / 1_000_000_000).unsigned_abs());
        archive.append_data(&mut header, format!("diagnostics/{name}"), &text.as_bytes()[..end])?;
    }
    let mut encoder = archive.into_inner()?;
    encoder.flush()?;
    Ok(encoder.finish()?)
}

fn versions() -> Value {
    let uname = rustix::system::uname();
    serde_json::json!({
        "agent": env!("CARGO_PKG_VERSION"),
        "wire": uplink::WIRE,
        "arch": uname.machine().to_string_lossy(),
        "kernel": uname.release().to_string_lossy(),
        "os_release": or_why(read("/etc/os-release")),
    })
}

/// A file of /proc and the like, whose size isn't known before; at most [`MOST_FILE`].
fn read(path: &str) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(MOST_FILE as u64).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn pretty(value: &impl serde::Serialize) -> String {
    or_why(serde_json::to_string_pretty(value)) + "\n"
}

/// The text, or why there is none.
fn or_why<E: Display>(text: Result<String, E>) -> String {
    text.unwrap_or_else(|error| format!("not available: {error:#}\n"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn unpacked(bytes: &[u8]) -> BTreeMap<String, String> {
        let mut archive = tar::Archive::new(zstd::Decoder::new(bytes).unwrap());
        let file = |entry: std::io::Result<tar::Entry<'_, _>>| {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().display().to_string();
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            (name, text)
        };
        archive.entries().unwrap().map(file).collect()
    }

    /// Keys whose text speaks of secrets and whose value is none. Whoever adds a key that does says here why, or names it so that
    /// it is taken for a secret.
    const OPEN: [&str; 1] = [
        // Networks; it says that their clients need no password.
        "input.mqtt.anonymous_from",
    ];

    /// A configuration in which everything that can be a secret is one: each key of the reference, in the order of its schema.
    struct Filled {
        folder: tempfile::TempDir,
        schema: Value,
        marks: Vec<String>,
        unclear: Vec<String>,
    }

    impl Filled {
        fn mark(&mut self, key: &str) -> String {
            let mark = format!("marked-{}-{key}", self.marks.len());
            self.marks.push(mark.clone());
            mark
        }

        fn resolved(&self, value: &Value) -> Value {
            if let Some(name) = value["$ref"].as_str().and_then(|path| path.strip_prefix("#/$defs/")) {
                return self.resolved(&self.schema["$defs"][name]);
            }
            match value["anyOf"].as_array().and_then(|all| all.iter().find(|one| one["type"] != "null")) {
                Some(one) => self.resolved(one),
                None => value.clone(),
            }
        }

        fn table(&mut self, schema: &Value, path: &str) -> Table {
            let mut table = Table::new();
            for (key, value) in schema["properties"].as_object().into_iter().flatten() {
                let full = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                let text = value["description"].as_str().unwrap_or_default().to_owned();
                if let Some(value) = self.value(&self.resolved(value), key, &full, &text) {
                    table.insert(key.clone(), value);
                }
            }
            table
        }

        fn value(&mut self, schema: &Value, key: &str, full: &str, text: &str) -> Option<toml::Value> {
            let is = |kind: &str| {
                schema["type"] == kind
                    || schema["type"].as_array().is_some_and(|all| all.contains(&kind.into()))
            };
            if schema["properties"].is_object() {
                return Some(self.table(schema, full).into());
            }
            if is("array") {
                let item = self.resolved(&schema["items"]);
                return self.value(&item, key, full, text).map(|value| vec![value].into());
            }
            if is("object") {
                let url = self.url(key);
                return Some(Table::from_iter([("any".to_owned(), url)]).into());
            }
            if !is("string") || schema["enum"].is_array() {
                return None;
            }
            Some(self.text(key, full, text))
        }

        fn url(&mut self, key: &str) -> toml::Value {
            format!("https://somebody:{}@host:8420/x", self.mark(key)).into()
        }

        fn text(&mut self, key: &str, full: &str, text: &str) -> toml::Value {
            if redact::holds_secrets(key) {
                let content = format!(
                    "{}\nsensor:{}\nAuthorization: Bearer {}\n",
                    self.mark(key),
                    self.mark(key),
                    self.mark(key)
                );
                let path = self.folder.path().join(full);
                std::fs::write(&path, content).unwrap();
                return path.display().to_string().into();
            }
            if redact::is_secret(key) {
                return self.mark(key).into();
            }
            let said = format!("{key} {text}").to_lowercase();
            let words = [
                "password",
                "secret",
                "token",
                "credential",
                "passphrase",
                "private key",
                "api key",
                "bearer",
            ];
            if words.iter().any(|word| said.contains(word)) && !OPEN.contains(&full) {
                self.unclear.push(full.to_owned());
            }
            self.url(key)
        }
    }

    #[test]
    fn no_secret_that_any_key_of_the_reference_can_hold_is_in_a_bundle() {
        let schema = serde_json::to_value(schemars::schema_for!(crate::config::Config)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let mut filled = Filled { folder, schema: schema.clone(), marks: Vec::new(), unclear: Vec::new() };
        let config = filled.table(&schema, "");
        assert_eq!(
            filled.unclear,
            Vec::<String>::new(),
            "is what they hold a secret? name them so, or put them into OPEN"
        );
        let expected =
            ["tracing.token_file", "tracing.headers_file", "uplink.token_file", "input.tcp.key_file"];
        for key in expected {
            assert!(filled.folder.path().join(key).is_file(), "{key} isn't in the reference any more");
        }
        let path = filled.folder.path().join("agent.toml");
        std::fs::write(&path, toml::to_string(&config).unwrap()).unwrap();
        let all = filled.marks.join("\n");
        let sources = Sources {
            status: serde_json::json!({"last_error": all, "inputs": filled.marks.clone()}),
            rejects: serde_json::json!([{"line": all}]),
            config,
            log: format!("{all}\n{:?}\n", filled.marks),
            path,
            data_dir: filled.folder.path().into(),
            at_ns: 1_800_000_000_000_000_000,
        };
        let files = unpacked(&make(&sources).unwrap());
        assert!(filled.marks.len() > 60, "{}", filled.marks.len());
        let found: Vec<_> = files
            .iter()
            .flat_map(|(name, text)| filled.marks.iter().map(move |mark| (name, text, mark)))
            .filter(|(_, text, mark)| text.contains(mark.as_str()))
            .map(|(name, _, mark)| format!("{mark} in {name}"))
            .collect();
        assert_eq!(found, Vec::<String>::new());
        assert!(files["diagnostics/config.toml"].contains("headers_file"), "which file it is may be told");
    }

    #[test]
    fn a_bundle_of_a_host_where_nothing_works_says_what_is_missing_and_no_secret() {
        let folder = tempfile::tempdir().unwrap();
        let token = folder.path().join("token");
        std::fs::write(&token, "very-secret-token\n").unwrap();
        let sources = Sources {
            status: serde_json::json!({"agent": "edge"}),
            rejects: Value::Null,
            config: format!("[uplink]\ntoken_file = {token:?}\n").parse().unwrap(),
            log: "INFO it went out: very-secret-token\n".into(),
            path: folder.path().join("gone.toml"),
            data_dir: folder.path().into(),
            at_ns: 1_800_000_000_000_000_000,
        };
        let made = make(&sources).unwrap();
        assert!(made.len() < MOST);
        let files = unpacked(&made);
        assert!(files["diagnostics/doctor.json"].contains("gone.toml"), "{files:?}");
        assert!(files["diagnostics/spool.ndjson"].starts_with("not available: "), "{files:?}");
        assert!(files["diagnostics/proc/self/status"].contains("VmRSS"));
        assert_eq!(files["diagnostics/log.txt"], "INFO it went out: [redacted]\n");
        for (name, text) in &files {
            assert!(!text.contains("very-secret-token"), "{name}: {text}");
        }
    }
}
