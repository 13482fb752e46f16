//! The config reference, made from the config's types, so that it can't go stale; and the example file.

use std::fmt::Write;

use serde_json::{Map, Value};

use crate::config::Config;
use crate::ranges;

/// The commented file that packages install; a test reads it with the same parser.
pub const EXAMPLE: &str = include_str!("../../../../packaging/agent.toml");

/// The JSON schema of the config file.
pub fn schema() -> String {
    let mut text = serde_json::to_string_pretty(&schemars::schema_for!(Config)).unwrap_or_default();
    text.push('\n');
    text
}

/// Every key with its type and meaning, as Markdown.
pub fn markdown() -> String {
    let root = serde_json::to_value(schemars::schema_for!(Config)).unwrap_or_default();
    let mut out = String::from(
        "# The agent's config file\n\nMade by `telemetryx-agent config --reference`; a test fails when it is stale. \
         `telemetryx-agent config` prints a commented file to start from, `telemetryx-agent check` names line and remedy.\n\n\
         Sizes are whole numbers of bytes, or with a unit: KiB, MiB, GiB, TiB (1024 each), KB, MB, GB, TB (1000 each); bandwidths the same, with \
         or without `/s`. Lengths of time have a unit: ms, s, m, h or d. Paths are written whole: a relative one is looked for in the folder \
         that the agent is started in, and `check` warns of it.\n",
    );
    section(&mut out, &root, &root, "");
    out
}

fn section(out: &mut String, root: &Value, schema: &Value, path: &str) {
    let empty = Map::new();
    let properties = schema["properties"].as_object().unwrap_or(&empty);
    let (tables, keys): (Vec<_>, Vec<_>) = properties
        .iter()
        .map(|(name, value)| (name, Shape::of(root, value)))
        .partition(|(_, s)| s.table.is_some());
    if !keys.is_empty() && !path.is_empty() {
        let _ = writeln!(out, "\n| key | type | default | meaning |\n|---|---|---|---|");
        for (name, shape) in keys {
            let _ = writeln!(
                out,
                "| `{name}` | {}{} | {} | {} |",
                shape.kind,
                ranges::taken(path, name).map(|range| format!(", {range}")).unwrap_or_default(),
                shape.default.map(|value| format!("`{value}`")).unwrap_or_default(),
                shape.text.replace('\n', " ").replace('|', "\\|")
            );
        }
    }
    for (name, shape) in tables {
        let Some(table) = shape.table else { continue };
        let full = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let brackets = if shape.list { format!("[[{full}]]") } else { format!("[{full}]") };
        let _ = writeln!(out, "\n## `{brackets}`\n\n{}", shape.text.replace('\n', " "));
        section(out, root, &table, &full);
    }
}

struct Shape {
    kind: String,
    text: String,
    default: Option<String>,
    table: Option<Value>,
    list: bool,
}

impl Shape {
    fn of(root: &Value, value: &Value) -> Self {
        let text = value["description"].as_str().unwrap_or_default().to_owned();
        let default = value.get("default").filter(|d| !d.is_null() && !d.is_object()).map(Value::to_string);
        let target = resolve(root, value);
        let items = target.get("items").map(|items| resolve(root, items));
        let is_table = |schema: &Value| schema["properties"].as_object().is_some_and(|map| !map.is_empty());
        let list = items.as_ref().is_some_and(is_table);
        let table = if list { items.clone() } else { Some(target.clone()).filter(is_table) };
        let text = if text.is_empty() {
            target["description"].as_str().unwrap_or_default().to_owned()
        } else {
            text
        };
        Self { kind: kind(&target, items.as_ref()), text, default, table, list }
    }
}

/// Follows `$ref` and the `anyOf [T, null]` of an optional field.
pub(crate) fn resolve(root: &Value, value: &Value) -> Value {
    if let Some(name) = value["$ref"].as_str().and_then(|path| path.strip_prefix("#/$defs/")) {
        return resolve(root, &root["$defs"][name]);
    }
    let some = value["anyOf"].as_array().and_then(|list| list.iter().find(|one| one["type"] != "null"));
    match some {
        Some(one) if value["anyOf"].as_array().is_some_and(|list| list.len() == 2) => resolve(root, one),
        _ => value.clone(),
    }
}

fn kind(schema: &Value, items: Option<&Value>) -> String {
    if let Some(values) = schema["enum"].as_array() {
        return values.iter().map(|value| format!("`{value}`")).collect::<Vec<_>>().join(", ");
    }
    if let Some(choices) = schema["oneOf"].as_array() {
        return choices.iter().map(|one| format!("`{}`", one["const"])).collect::<Vec<_>>().join(", ");
    }
    if let Some(items) = items {
        return format!("list of {}", kind(items, None));
    }
    match &schema["type"] {
        Value::String(name) => name.clone(),
        Value::Array(names) => names
            .iter()
            .filter_map(Value::as_str)
            .filter(|name| *name != "null")
            .collect::<Vec<_>>()
            .join(" or "),
        _ => "value".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn the_example_file_is_a_valid_config() {
        Config::parse(EXAMPLE, Path::new("packaging/agent.toml")).unwrap();
    }

    #[test]
    fn the_committed_reference_is_what_the_types_say() {
        let committed = include_str!("../../../../docs/reference/agent-config.md");
        assert_eq!(committed, markdown(), "run `just docs` and commit docs/reference/agent-config.md");
    }

    #[test]
    fn every_key_has_a_meaning() {
        for line in markdown().lines().filter(|line| line.starts_with("| `")) {
            assert!(!line.trim_end().ends_with("|  |"), "no doc comment: {line}");
        }
    }
}
