//! What no text of a config file may be: longer than any name, pattern, topic or path that anybody writes; and with characters that
//! steer a terminal or end a line of a log, which stand in none of them.

use toml::de::DeValue;

use crate::leaves;

/// The longest path that Linux takes; all else is shorter.
const LONGEST: usize = 4_096;

/// Values with such characters: the section, and a sentence.
pub fn problems(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    leaves::each(text, &mut |leaf| {
        let held = match leaf.value {
            DeValue::String(text) => control(text),
            DeValue::Array(items) => items.iter().find_map(|item| control(item.get_ref().as_str()?)),
            _ => None,
        };
        if let Some(held) = held {
            let said = format!(
                "{} holds the control character {}: write it without, it was pasted by mistake",
                leaf.name(),
                held.escape_default()
            );
            found.push((leaf.section.clone(), said));
        }
    });
    found
}

/// Texts that are too long, whatever else is said of the key: the section, and a sentence.
pub fn too_long(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    leaves::each(text, &mut |leaf| {
        let length = match leaf.value {
            DeValue::String(text) => text.len(),
            DeValue::Array(items) => {
                items.iter().filter_map(|item| Some(item.get_ref().as_str()?.len())).max().unwrap_or(0)
            }
            _ => 0,
        };
        if length > LONGEST {
            let said = format!(
                "{} is a text of {length} bytes, at most {LONGEST} are taken: shorten it",
                leaf.name()
            );
            found.push((leaf.section.clone(), said));
        }
    });
    found
}

fn control(text: &str) -> Option<char> {
    text.chars().find(|c| c.is_control())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::Config;

    #[test]
    fn a_text_that_is_longer_than_any_that_is_meant_is_refused_with_the_limit() {
        let (fine, long) = ("x".repeat(4_096), "x".repeat(4_097));
        let said = |text: String| {
            let error = Config::parse(&text, Path::new("agent.toml")).err();
            error.map(|error| error.to_string()).unwrap_or_default()
        };
        for (header, key) in [
            ("[[fold.route]]\nto = \"raw\"\n", "match"),
            ("[[input.mqtt_client]]\nurl = \"mqtt://h\"\ntopics = [\"a\"]\n", "client_id"),
            ("[input.mqtt]\n[input.mqtt.mapping]\n", "time_zone"),
        ] {
            let refused = said(format!("{header}{key} = \"{long}\"\n"));
            assert!(refused.contains("is a text of 4097 bytes, at most 4096 are taken"), "{key}: {refused}");
            assert!(refused.len() < 1_000, "{key}: {refused}");
            assert!(!said(format!("{header}{key} = \"{fine}\"\n")).contains("at most 4096"), "{key}");
        }
        let list = said(format!("[[input.mqtt_client]]\nurl = \"mqtt://h\"\ntopics = [\"a\", \"{long}\"]\n"));
        assert!(list.contains("at most 4096 are taken"), "{list}");
    }

    #[test]
    fn a_control_character_is_refused_in_every_text_and_list_and_not_repeated() {
        for (text, key) in [
            ("[input.host]\nsite = \"a\\u001b[31m\"\n", "input.host.site"),
            (
                "[fold]\n[[fold.route]]\nto = \"raw\"\nlabels = { device = \"a\\nb\" }\n",
                "fold.route.1.labels.device",
            ),
            ("[input.mqtt]\nrevoked = [\"a\", \"b\\u0007\"]\n", "input.mqtt.revoked"),
            ("[uplink]\ntoken_file = \"/a\\rb\"\n", "uplink.token_file"),
        ] {
            let error = Config::parse(text, Path::new("agent.toml")).err().map(|error| error.to_string());
            let said = error.unwrap_or_default();
            assert!(said.contains(&format!("{key} holds the control character \\")), "{key}: {said}");
            assert!(!said.contains(['\u{1b}', '\u{7}', '\r']), "{said:?}");
        }
    }
}
