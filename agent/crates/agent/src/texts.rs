//! Characters that no value of a config file may hold: those that steer a terminal, or end a line of a log, and that stand in no name,
//! topic or path that anybody writes.

use toml::de::DeValue;

use crate::leaves;

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

fn control(text: &str) -> Option<char> {
    text.chars().find(|c| c.is_control())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::Config;

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
