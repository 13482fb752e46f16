//! What a config file may say, and what is said of one that can't be used.

use super::*;

fn error(text: &str) -> String {
    Config::parse(text, Path::new("agent.toml")).unwrap_err().to_string()
}

#[test]
fn a_container_is_told_its_hosts_name_and_the_file_goes_first() {
    let told = |text: &str| {
        let mut config: Config = toml::from_str(text).unwrap();
        config.take_name("node-7");
        (config.agent.name.clone(), config.input.host.map(|host| host.device))
    };
    assert_eq!(told("[input.host]\n"), ("node-7".into(), Some("node-7".into())));
    assert_eq!(
        told("[agent]\nname = \"press\"\n[input.host]\ndevice = \"hall\"\n"),
        ("press".into(), Some("hall".into()))
    );
}

#[test]
fn an_empty_file_is_a_valid_one() {
    let config = Config::parse("", Path::new("agent.toml")).unwrap();
    assert!(!config.agent.name.is_empty());
    assert!(config.input.mqtt.is_none());
}

#[test]
fn an_unknown_key_is_named_with_its_line_and_the_nearest_known_one() {
    let text = error("[agent]\nname = \"a\"\ndata_dri = \"/tmp\"\n");
    assert!(text.starts_with("agent.toml:3:1: unknown field `data_dri`"), "{text}");
    assert!(text.ends_with("did you mean `data_dir`?"), "{text}");
}

#[test]
fn a_wrong_type_is_named_with_its_line() {
    let said = error("[agent]\nmax_series = \"many\"\n");
    assert!(said.starts_with("agent.toml:2:14: ") && said.contains("expected a whole number"), "{said}");
}

#[test]
fn what_is_wrong_is_named_all_of_it_and_each_at_its_place() {
    let text = "[journal]\nmax_bytes = \"10\"\nsegment_bytes = \"1\"\n[spool]\nmax_bytes = \"x\"\nlinger = \"2d\"\nlingr = 1\n[[spool.class]]\noverflow = \"thinn\"\npriority = \"urgent\"\n[[spool.class]]\nmin_severity = \"bad\"\n[uplnk]\nurl = \"x\"\n[input.http]\nlisten = 7\n[[fold.route]]\nto = \"windows\"\n[[fold.route]]\nto = \"raw\"\nwindow = \"0s\"\n[uplink.lanes]\nlive_share = 0\nbacklog_share = \"a\"\n";
    let said = error(text);
    let places: Vec<_> =
        said.lines().filter_map(|line| line.strip_prefix("agent.toml:")?.split(':').next()).collect();
    assert_eq!(places.join(" "), "2 3 5 6 7 9 10 12 13 16 18 21 23 24", "{said}");
    for words in [
        "journal.max_bytes = \"10\" is out of range",
        "spool.max_bytes: a size is written",
        "unknown field `lingr`",
        "did you mean `linger`?",
        "spool.class.1.priority: unknown variant `urgent`",
        "spool.class.2.min_severity: unknown variant `bad`",
        "unknown field `uplnk`",
        "fold.route.2.window = \"0s\" is out of range",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    // What hangs together with a value that was passed over isn't told, for it may be right.
    let said = error("[uplink]\nmqtt_user = 7\nmqtt_password_file = \"/a\"\n");
    assert!(said.starts_with("agent.toml:2:13: uplink.mqtt_user: ") && said.lines().count() == 1, "{said}");
    // What is no TOML has one beginning.
    let said = error("[agent]\nname = \n[spool]\nmax_bytes = \"x\"\n");
    assert!(said.starts_with("agent.toml:2:8: ") && !said.contains("spool"), "{said}");
}

#[test]
fn what_a_key_takes_is_told_in_no_words_of_the_program() {
    let said = error("uplink = \"x\"\n[tracing]\nsample = \"y\"\n");
    let (section, number) = said.split_once('\n').unwrap();
    assert!(
        section.ends_with("uplink: invalid type: string \"x\", expected a table as { a = \"b\" }"),
        "{said}"
    );
    assert!(number.ends_with("tracing.sample: invalid type: string \"y\", expected a number"), "{said}");
}

#[test]
fn of_the_uplink_too_all_is_named() {
    let said = error(
        "[uplink]\nurl = \"ftp://x\"\nfallback_url = \"http://far:8421\"\nmqtt_prefix = \"a/#\"\nmqtt_password_file = \"/a\"\nclient_key_file = \"/b\"\n[uplink.lanes]\nlive_share = 0\nbacklog_hours = \"22-06\"\n",
    );
    let places: Vec<_> =
        said.lines().filter_map(|line| line.strip_prefix("agent.toml:")?.split(':').next()).collect();
    assert_eq!(places.join(" "), "2 3 4 5 6 8 9", "{said}");
    let zone = error(
        "[uplink]\nmax_backoff = 5\n[uplink.lanes]\nlive_share = 60\nbacklog_hours = \"22:00-06:00 Nowhere\"\n",
    );
    assert!(zone.starts_with("agent.toml:5:1: "), "{zone}");
}

#[test]
fn values_that_cannot_work_are_refused_with_the_key() {
    assert!(error("[agent]\nname = \"a b\"\n").contains("agent.name"));
    for input in ["http", "tcp"] {
        let said = error(&format!("[input.{input}]\nmax_connections = 9223372036854775807\n"));
        assert!(said.starts_with("agent.toml:2:1: ") && said.contains("1 to 1000000"), "{said}");
    }
    assert!(error("[journal]\nsegment_bytes = \"4KiB\"\n").contains("journal.segment_bytes"));
    assert!(error("[journal]\nlinger = \"1h\"\n").contains("journal.linger = \"1h\""));
    assert!(error("[spool]\nlinger = \"1d\"\n").contains("spool.linger = \"1d\""));
    let large = error("[spool]\nsegment_bytes = \"8MiB\"\nmax_bytes = \"8MiB\"\n");
    assert!(large.starts_with("agent.toml:3:1: spool.max_bytes 8MiB must hold two"), "{large}");
    let hours = error("[uplink]\n[uplink.lanes]\nlive_share = 50\nbacklog_hours = \"at night\"\n");
    assert!(hours.starts_with("agent.toml:4:1: "), "{hours}");
    assert!(error("[uplink]\nurl = \"http://192.168.0.9:8421\"\n").contains("https://"));
}

#[test]
fn all_that_cannot_work_is_told_at_once_each_with_its_line() {
    let text = "[agent]\nname = \"a b\"\n[input.mqtt]\nmax_inflight = 0\n[[input.mqtt_client]]\nurl = \"mqtt://b\"\ntopics = [\"a\"]\nqos = 9\n[[fold.route]]\nmatch = \"*\"\nto = \"window\"\nwindow = \"0s\"\n";
    let said = error(text);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 4, "{said}");
    assert!(lines[0].starts_with("agent.toml:2:1: agent.name"), "{said}");
    assert!(lines[1].starts_with("agent.toml:4:1: input.mqtt.max_inflight = 0"), "{said}");
    assert!(lines[2].starts_with("agent.toml:8:1: input.mqtt_client.1.qos = 9"), "{said}");
    assert!(lines[3].starts_with("agent.toml:12:1: fold.route.1.window = \"0s\""), "{said}");
}

#[test]
fn what_would_make_the_agent_useless_is_refused_with_the_key_and_what_to_do() {
    let long = "x".repeat(5_000);
    for (text, told) in [
        ("[agent]\nlog = \"loud\"\n", "agent.log = \"loud\" is no log level: take error, warn"),
        ("[agent]\nlog = \"\"\n", "agent.log = \"\" is no log level"),
        (
            "[agent]\ndata_dir = \"/proc/1\"\n",
            "agent.data_dir = \"/proc/1\" lies in a file system of the kernel",
        ),
        ("[input.mqtt.mapping]\ntime_zone = \"Mars\"\n", "time_zone \"Mars\" is not known here"),
        ("[[input.mqtt_client]]\n[input.mqtt_client.mapping]\ntime_zone = \"Mars\"\n", "time_zone \"Mars\""),
        ("[[input.mqtt_client]]\n[[input.mqtt_client.mapping.rule]]\ntopic = \"a/{\"\n", "mapping: "),
        ("[input.host]\nsite = \"LONG\"\n", "at most 1024 are taken: give a shorter one"),
        ("[input.http]\nlisten = \"here\"\n", "input.http.listen: no address: write host and port"),
        ("[spool.class]\n", "expected a list"),
        ("[[fold.route]]\nto = {}\n", "fold.route.1.to: expected a text"),
        (
            "[uplink]\ntoken_file = \"\"\n",
            "uplink.token_file is empty: write the whole path, or leave the key out",
        ),
    ] {
        let said = error(&text.replace("LONG", &long));
        assert!(said.contains(told), "{text}: {said}");
    }
    let said = error(&format!("[agent]\nname = \"{long}\"\n"));
    assert!(said.contains("(5000 characters)") && said.len() < 250, "{said}");
    let said = error(&format!("[input.tcp]\nformat = \"\\u001b{long}\"\n"));
    assert!(said.len() < 250 && !said.contains('\u{1b}'), "{said}");
}

#[test]
fn what_few_want_is_warned_of_with_its_line_and_what_to_do() {
    let text = "[uplink.lanes]\nlive_share = 70\nbacklog_share = 70\n\n[[fold.route]]\nmatch = \"a\"\nto = \"window\"\nwindow = \"1ms\"\n\n[[spool.class]]\nmatch = \"b\"\nthin_to = \"5m\"\n";
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.toml");
    std::fs::write(&path, text).unwrap();
    let said = Config::load(&path).unwrap().warnings_in(&path, "warning: ");
    let at = |line: &str| format!("{}:{line}: warning: ", path.display());
    let [lanes, window, thin] = &said[..] else { panic!("{said:?}") };
    assert!(
        lanes.starts_with(&at("2:1")) && lanes.contains("50 % and 50 %; let them add up to 100"),
        "{lanes}"
    );
    assert!(window.starts_with(&at("8:1")) && window.contains("take 1s or more"), "{window}");
    assert!(thin.starts_with(&at("12:1")) && thin.contains("overflow = \"thin\""), "{thin}");
    // With one key alone the other's default counts.
    let alone = Config::parse("[uplink.lanes]\nlive_share = 90\n", &path).unwrap().warnings();
    assert!(alone[0].1.contains("75 % and 25 %"), "{alone:?}");
    let ahead = Config::parse("[fold]\nfuture_limit = \"48h\"\n", &path).unwrap().warnings();
    assert!(ahead[0].1.contains("[ingest] future_limit"), "{ahead:?}");
    let fine = "[[spool.class]]\noverflow = \"thin\"\nthin_to = \"5m\"\n[[fold.route]]\nto = \"raw\"\nwindow = \"1ms\"\n";
    assert_eq!(Config::parse(fine, &path).unwrap().warnings(), []);
}

#[test]
fn every_example_in_the_commented_file_can_be_uncommented() {
    let example = crate::reference::EXAMPLE;
    Config::parse(example, Path::new("agent.toml")).unwrap();
    // Prose begins with a capital or an article; an example begins with a key or a bracket.
    let is_example = |line: &str| {
        let Some(rest) = line.strip_prefix("# ") else { return false };
        let key = rest
            .split_once('=')
            .is_some_and(|(key, _)| key.trim().chars().all(|c| c.is_ascii_lowercase() || c == '_'));
        key || rest.starts_with('[')
    };
    let uncommented: String = example
        .lines()
        .map(|line| if is_example(line) { &line[2..] } else { line })
        .map(|line| format!("{line}\n"))
        .collect();
    assert!(uncommented.lines().count() > 40 && example.lines().filter(|line| is_example(line)).count() > 10);
    let hash = "$pbkdf2-sha256$i=100000$MdE2YvJV09NQ8BM8d0oFqA$E9G2wxznweS++ctES4ANM1LpAzTrqXGBEd3/aNbKkEM";
    Config::parse(&uncommented.replace('…', hash), Path::new("agent.toml")).unwrap();
}
