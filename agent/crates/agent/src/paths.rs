//! Files and folders that a config file names besides `data_dir`: which are no path at all, and which are another one in each folder
//! that the agent is started in.

use std::path::{Path, PathBuf};

use crate::config::Config;

/// A section, a key in it, and the path.
type Named<'a> = (String, &'static str, &'a Path);

/// Paths that can't be: the section, and a sentence.
pub fn problems(config: &Config) -> Vec<(String, String)> {
    let empty = named(config).into_iter().filter(|(_, _, path)| path.as_os_str().is_empty());
    empty
        .map(|(section, key, _)| {
            let said = format!("{section}.{key} is empty: write the whole path, or leave the key out");
            (section, said)
        })
        .collect()
}

/// Paths that depend on where the agent is started: the section, and a sentence.
pub fn warnings(config: &Config) -> Vec<(String, String)> {
    let relative = named(config).into_iter().filter(|(_, _, path)| path.is_relative());
    relative
        .map(|(section, key, path)| {
            let said = format!(
                "{section}.{key} = {path:?} is relative: it is looked for in the folder that the agent is started in, as a service in /; write the whole path"
            );
            (section, said)
        })
        .collect()
}

/// That others are to have more of the disk than it has: then next to nothing can be kept. A sentence.
pub fn floor_above_the_disk(config: &Config) -> Option<String> {
    let (floor, dir) = (config.spool.min_free, &config.agent.data_dir);
    let whole = crate::data_dir::disk_bytes(dir).filter(|whole| *whole <= floor.0)?;
    Some(format!(
        "spool.min_free = {floor} is as much as the disk of {} has, or more ({}): the journal and the spool hold next to nothing, and inputs push back; lower it",
        dir.display(),
        crate::human::size(whole)
    ))
}

fn named(config: &Config) -> Vec<Named<'_>> {
    let mut all: Vec<Named<'_>> = Vec::new();
    let uplink = &config.uplink;
    all.extend(set(
        "uplink",
        &[
            ("token_file", &uplink.token_file),
            ("ca_file", &uplink.ca_file),
            ("mqtt_password_file", &uplink.mqtt_password_file),
            ("client_cert_file", &uplink.client_cert_file),
            ("client_key_file", &uplink.client_key_file),
        ],
    ));
    if let Some(mqtt) = &config.input.mqtt {
        let files = [
            ("cert_file", &mqtt.cert_file),
            ("key_file", &mqtt.key_file),
            ("client_ca_file", &mqtt.client_ca_file),
            ("crl_file", &mqtt.crl_file),
        ];
        all.extend(set("input.mqtt", &files));
    }
    for (number, client) in (1..).zip(&config.input.mqtt_client) {
        let files = [
            ("ca_file", &client.ca_file),
            ("cert_file", &client.cert_file),
            ("key_file", &client.key_file),
            ("password_file", &client.password_file),
        ];
        all.extend(set(&format!("input.mqtt_client.{number}"), &files));
    }
    if let Some(http) = &config.input.http {
        let files =
            [("token_file", &http.token_file), ("cert_file", &http.cert_file), ("key_file", &http.key_file)];
        all.extend(set("input.http", &files));
    }
    if let Some(tcp) = &config.input.tcp {
        let files =
            [("token_file", &tcp.token_file), ("cert_file", &tcp.cert_file), ("key_file", &tcp.key_file)];
        all.extend(set("input.tcp", &files));
    }
    if let Some(host) = &config.input.host {
        let folders =
            [("procfs_root", &host.procfs_root), ("sysfs_root", &host.sysfs_root), ("root", &host.root)];
        all.extend(folders.map(|(key, path)| ("input.host".to_owned(), key, path.as_path())));
    }
    all.extend(set("model", &[("host_dir", &config.model.host_dir)]));
    let tracing = &config.tracing;
    let files = [
        ("token_file", &tracing.token_file),
        ("headers_file", &tracing.headers_file),
        ("ca_file", &tracing.ca_file),
    ];
    all.extend(set("tracing", &files));
    all
}

/// Those of a section's files that are set.
fn set<'a>(section: &str, files: &[(&'static str, &'a Option<PathBuf>)]) -> Vec<Named<'a>> {
    let set = files.iter().filter_map(|(key, path)| Some((section.to_owned(), *key, path.as_deref()?)));
    set.collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails where it is surprised")]
mod tests {
    use super::*;
    use crate::ranges::walk;

    #[test]
    fn every_file_and_folder_of_the_reference_is_told_when_it_is_relative_or_empty() {
        let schema: serde_json::Value = serde_json::from_str(&crate::reference::schema()).unwrap();
        let mut keys = Vec::new();
        walk(&schema, &schema, "", &mut |section, key, _| {
            let is_path = ["_file", "_dir", "_root"].iter().any(|ending| key.ends_with(ending));
            if (is_path || (section, key) == ("input.host", "root")) && key != "data_dir" {
                keys.push((section.to_owned(), key.to_owned()));
            }
        });
        keys.sort();
        assert!(keys.len() > 20, "{keys:?}");
        for value in ["here/x", ""] {
            let mut text = String::new();
            let mut before = "";
            for (section, key) in &keys {
                if section != before {
                    let list = section == "input.mqtt_client";
                    text += &if list { format!("[[{section}]]\n") } else { format!("[{section}]\n") };
                    before = section;
                }
                text += &format!("{key} = {value:?}\n");
            }
            let config = toml::from_str::<Config>(&text).unwrap();
            let found = if value.is_empty() { problems(&config) } else { warnings(&config) };
            let expected = if value.is_empty() { "is empty" } else { "\"here/x\" is relative" };
            let mut told: Vec<_> = found.iter().map(|(_, said)| said.split(' ').next().unwrap()).collect();
            told.sort();
            let names = keys.iter().map(|(section, key)| match section.as_str() {
                "input.mqtt_client" => format!("{section}.1.{key}"),
                _ => format!("{section}.{key}"),
            });
            let mut names: Vec<_> = names.collect();
            names.sort();
            assert_eq!(told, names);
            assert!(found.iter().all(|(_, said)| said.contains(expected)), "{found:?}");
        }
        assert_eq!(warnings(&Config::default()), []);
    }
}
