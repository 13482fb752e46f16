//! What a pushed configuration may not have: whatever decides whether this agent can be reached and who it is, what is taken
//! of pushed configurations, and files of the host. A collector that pushed one of these could lose an agent for good, or
//! make it read what only the host's owner should choose.

use toml::{Table, Value};

/// Of `[uplink]` all that may be pushed: how the link is used, not where it goes.
const UPLINK: [&str; 4] = ["connect_timeout", "fallback_return", "lanes", "max_backoff"];
/// The longest pause between attempts that may be pushed, in seconds: an agent that is told to wait for days is as good
/// as lost.
const LONGEST_BACKOFF: i64 = 3600;

/// A sentence for each key that may not be pushed.
pub fn refusals(pushed: &Table) -> Vec<String> {
    refused(pushed)
        .into_iter()
        .map(|(shown, _, why)| format!("{shown}: {why}; it can be set in the host's file only"))
        .collect()
}

/// Each key that may not be pushed: with its place in lists, without, and why.
fn refused(pushed: &Table) -> Vec<(String, String, &'static str)> {
    let mut found = Vec::new();
    walk(pushed, &mut Place::default(), &mut found);
    found
}

/// Where something stands. What decides is the keys alone: a list around a table makes it no other one.
#[derive(Default)]
struct Place {
    shown: Vec<String>,
    keys: Vec<String>,
}

fn walk(table: &Table, at: &mut Place, found: &mut Vec<(String, String, &'static str)>) {
    for (name, value) in table {
        at.shown.push(name.clone());
        at.keys.push(name.clone());
        match why_not(&at.keys, value) {
            Some(why) => found.push((at.shown.join("."), at.keys.join("."), why)),
            None => inside(value, at, found),
        }
        at.keys.pop();
        at.shown.pop();
    }
}

fn inside(value: &Value, at: &mut Place, found: &mut Vec<(String, String, &'static str)>) {
    match value {
        Value::Table(table) => walk(table, at, found),
        Value::Array(items) => {
            for (number, item) in items.iter().enumerate() {
                at.shown.push((number + 1).to_string());
                inside(item, at, found);
                at.shown.pop();
            }
        }
        _ => {}
    }
}

/// Why this key may not be pushed. The collector goes by the same (`care/check.py`): `proto/vectors/pushed-keys.json` holds both to it.
fn why_not(path: &[String], value: &Value) -> Option<&'static str> {
    let parts: Vec<&str> = path.iter().map(String::as_str).collect();
    match parts[..] {
        ["remote", ..] => Some("a pushed configuration doesn't say what is taken of pushed ones"),
        ["agent", "name"] => Some("a pushed configuration doesn't say who the agent is"),
        ["agent", "data_dir"] => Some("a pushed configuration doesn't say where the agent's data is"),
        ["uplink", "max_backoff"] if value.as_integer().is_some_and(|pause| pause > LONGEST_BACKOFF) => {
            Some("a pushed pause of more than 3600 seconds could keep the agent out of reach")
        }
        ["uplink", key] if !UPLINK.contains(&key) => {
            Some("a pushed configuration doesn't say where the collector is, nor what the agent shows it")
        }
        ["tracing", "endpoint"] => {
            Some("a pushed configuration doesn't say where spans and the token for them go")
        }
        ["input", "host", "root" | "procfs_root" | "sysfs_root"] | ["model", "host_dir"] => Some(OF_THE_HOST),
        [.., key] if key.ends_with("_file") || key.ends_with("_dir") => Some(OF_THE_HOST),
        _ => None,
    }
}

const OF_THE_HOST: &str = "a pushed configuration names no file or folder of the host";

#[cfg(test)]
mod tests {
    use serde_json::Value as Json;

    use super::*;

    /// Every key of the configuration's schema, as a path.
    fn schema_keys(root: &Json, schema: &Json, path: &str, out: &mut Vec<String>) {
        let follow = |value: &Json| match value["$ref"].as_str().and_then(|at| at.strip_prefix("#/$defs/")) {
            Some(name) => root["$defs"][name].clone(),
            None => value.clone(),
        };
        let schema = follow(schema);
        let one = schema["anyOf"].as_array().and_then(|all| all.iter().find(|one| one["type"] != "null"));
        let schema = one.map_or(schema.clone(), follow);
        let items = schema.get("items").map(follow);
        let of = items.as_ref().unwrap_or(&schema);
        let Some(properties) = of["properties"].as_object() else { return out.push(path.to_owned()) };
        for (name, value) in properties {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            schema_keys(root, value, &path, out);
        }
    }

    /// A pushed text that sets a key to something.
    fn set(key: &str) -> Table {
        let mut parts = key.rsplit('.');
        let mut value = Value::String("x".into());
        for part in parts.by_ref() {
            value = Value::Table(Table::from_iter([(part.to_owned(), value)]));
        }
        let Value::Table(table) = value else { unreachable!() };
        table
    }

    #[test]
    fn of_all_keys_that_there_are_these_are_the_hosts_own() {
        let root = serde_json::to_value(schemars::schema_for!(crate::config::Config)).unwrap();
        let mut all = Vec::new();
        schema_keys(&root, &root, "", &mut all);
        all.retain(|key| !refusals(&set(key)).is_empty());
        all.sort();
        let (files, rest): (Vec<_>, Vec<_>) = all.into_iter().partition(|key| key.ends_with("_file"));
        assert!(files.len() > 10, "{files:?}");
        assert_eq!(
            rest,
            [
                "agent.data_dir",
                "agent.name",
                "input.host.procfs_root",
                "input.host.root",
                "input.host.sysfs_root",
                "model.host_dir",
                "remote.config",
                "remote.gate",
                "remote.requests",
                "tracing.endpoint",
                "uplink.fallback_url",
                "uplink.mqtt_prefix",
                "uplink.mqtt_user",
                "uplink.server_name",
                "uplink.url",
            ]
        );
    }

    #[test]
    fn each_key_that_is_refused_is_named_also_inside_of_lists() {
        let text = "[agent]\nname = \"x\"\nlog = \"debug\"\n[uplink]\nurl = \"http://x\"\nmax_backoff = 90000\n[uplink.lanes]\nlimit = \"1MiB/s\"\n[[input.mqtt_client]]\nurl = \"mqtt://b\"\n[[input.mqtt_client]]\npassword_file = \"/etc/shadow\"\n";
        let said = refusals(&toml::from_str(text).unwrap());
        let keys: Vec<&str> = said.iter().map(|line| line.split(": ").next().unwrap()).collect();
        assert_eq!(
            keys,
            ["agent.name", "input.mqtt_client.2.password_file", "uplink.max_backoff", "uplink.url"]
        );
        assert!(said.iter().all(|line| line.ends_with("it can be set in the host's file only")), "{said:?}");
    }

    #[test]
    fn the_collector_and_the_agent_refuse_the_same_keys() {
        let vectors: Json =
            serde_json::from_str(include_str!("../../../../../proto/vectors/pushed-keys.json")).unwrap();
        let texts = vectors["texts"].as_array().unwrap();
        assert!(texts.len() > 40, "{}", texts.len());
        for one in texts {
            let toml = one["toml"].as_str().unwrap();
            let mut keys: Vec<String> =
                refused(&toml::from_str(toml).unwrap()).into_iter().map(|(_, key, _)| key).collect();
            keys.sort();
            keys.dedup();
            let wanted: Vec<String> = serde_json::from_value(one["refused"].clone()).unwrap();
            assert_eq!(keys, wanted, "{toml}");
        }
    }
}
