//! Files that hold what lets others in here: tokens of inputs, their keys, passwords for brokers. Where others on this host can
//! read one, that is a warning and no refusal: readings that come in are worth more than that.

use std::path::Path;

use uplink::secret;

use crate::config::Config;

/// Of each such file its section, and a sentence with key, file and remedy.
pub fn warnings(config: &Config) -> Vec<(String, String)> {
    let told = |(section, key, path): (String, &str, &Path)| {
        let exposed = secret::told(path)?;
        let said = format!("{section}: {key} {exposed}");
        Some((section, said))
    };
    named(config).into_iter().filter_map(told).collect()
}

/// Section, key and file.
fn named(config: &Config) -> Vec<(String, &'static str, &Path)> {
    let input = &config.input;
    let mut all = vec![("uplink".to_owned(), "client_key_file", &config.uplink.client_key_file)];
    let mut add = |section: String, files: [(&'static str, _); 2]| {
        all.extend(files.map(|(key, path)| (section.clone(), key, path)));
    };
    for (at, client) in (1..).zip(&input.mqtt_client) {
        let files = [("password_file", &client.password_file), ("key_file", &client.key_file)];
        add(format!("input.mqtt_client.{at}"), files);
    }
    if let Some(http) = &input.http {
        add("input.http".into(), [("token_file", &http.token_file), ("key_file", &http.key_file)]);
    }
    if let Some(tcp) = &input.tcp {
        add("input.tcp".into(), [("token_file", &tcp.token_file), ("key_file", &tcp.key_file)]);
    }
    all.extend(input.mqtt.iter().map(|mqtt| ("input.mqtt".to_owned(), "key_file", &mqtt.key_file)));
    all.into_iter().filter_map(|(section, key, path)| Some((section, key, path.as_deref()?))).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn each_file_with_a_secret_that_others_can_read_is_named_with_its_key_and_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, "hidden").unwrap();
            path
        };
        let keys = [
            ("uplink", "client_key_file", 'a'),
            ("input.mqtt_client", "password_file", 'c'),
            ("input.mqtt_client", "key_file", 'd'),
            ("input.http", "token_file", 'e'),
            ("input.http", "key_file", 'f'),
            ("input.tcp", "token_file", 'g'),
            ("input.tcp", "key_file", 'h'),
            ("input.mqtt", "key_file", 'b'),
        ];
        let mut text = String::new();
        let mut before = "";
        for (section, key, name) in keys {
            if section != before {
                let header = if section == "input.mqtt_client" {
                    "[[input.mqtt_client]]"
                } else {
                    &format!("[{section}]")
                };
                text.push_str(&format!("{header}\n"));
                before = section;
            }
            text.push_str(&format!("{key} = {:?}\n", file(&name.to_string())));
        }
        let config: Config = toml::from_str(&text).unwrap();
        let with_mode = |mode| {
            for (.., name) in keys {
                let path = folder.path().join(name.to_string());
                std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
            }
            warnings(&config)
        };
        assert_eq!(with_mode(0o600), []);
        let said = with_mode(0o644);
        assert_eq!(said.len(), keys.len(), "{said:?}");
        for ((section, said), (of, key, name)) in said.iter().zip(keys) {
            let path = folder.path().join(name.to_string());
            assert!(section.starts_with(of) && said.contains(key), "{said}");
            assert!(
                said.ends_with(&format!("chmod 600 {}`", path.display())) && !said.contains("hidden"),
                "{said}"
            );
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_somebody_elses_to_tell() {
        let config: Config = toml::from_str("[input.http]\ntoken_file = \"/nowhere\"\n").unwrap();
        assert_eq!(warnings(&config), []);
    }
}
