//! Any text as a pushed configuration: judged without a panic, and whatever isn't refused leaves the host's own keys as they are.
//! The modules are the agent's own files, since the agent is a program and no library.
#![no_main]

#[path = "../../crates/agent/src/remote/allowed.rs"]
mod allowed;
#[allow(dead_code)]
#[path = "../../crates/agent/src/remote/merge.rs"]
mod merge;

use libfuzzer_sys::fuzz_target;
use merge::Wins;
use toml::{Table, Value};

/// What a host's owner wrote, with a key of each kind that is the host's own.
const HOST: &str = r#"
[agent]
name = "gw"
data_dir = "/var/lib/t"
[uplink]
url = "https://c.example:8421"
token_file = "/etc/t/token"
[uplink.lanes]
limit = "1MiB/s"
[input.host]
root = "/"
[model]
host_dir = "/var/lib/t/models"
[remote]
config = "over"
"#;
const OWN: [&[&str]; 7] = [
    &["agent", "name"],
    &["agent", "data_dir"],
    &["uplink", "url"],
    &["uplink", "token_file"],
    &["input", "host", "root"],
    &["model", "host_dir"],
    &["remote", "config"],
];

fn at<'a>(table: &'a Table, path: &[&str]) -> Option<&'a Value> {
    let (last, tables) = path.split_last()?;
    tables.iter().try_fold(table, |inner, name| inner.get(*name)?.as_table())?.get(*last)
}

/// Whether every table on the way is one, or isn't there: what isn't is refused by its type, before anything is merged.
fn shaped(pushed: &Table, path: &[&str]) -> bool {
    let mut inner = pushed;
    for name in &path[..path.len() - 1] {
        match inner.get(*name) {
            None => return true,
            Some(Value::Table(table)) => inner = table,
            Some(_) => return false,
        }
    }
    true
}

fuzz_target!(|data: &[u8]| {
    // The agent refuses keys of more than 32 parts before it parses; a text that is short can't nest deep.
    let Some(text) = std::str::from_utf8(data).ok().filter(|text| text.len() < 4096) else { return };
    let Ok(pushed) = text.parse::<Table>() else { return };
    let refused = allowed::refusals(&pushed);
    assert!(refused.iter().all(|line| line.contains(": ") && line.ends_with("host's file only")));
    if !refused.is_empty() {
        return;
    }
    let host: Table = HOST.parse().expect("it is written above");
    for wins in [Wins::Pushed, Wins::File] {
        let merged = merge::merge(&host, &pushed, wins);
        for path in OWN.iter().filter(|path| shaped(&pushed, path)) {
            assert_eq!(at(&merged, path), at(&host, path), "{path:?} came from outside");
        }
        assert!(merge::keys(&host, &pushed, wins).iter().all(|key| !key.to_string().is_empty()));
        // What is merged is written as TOML again, and read from that.
        let written = toml::to_string(&merged).expect("tables are TOML");
        assert_eq!(written.parse::<Table>().as_ref().map(Table::len), Ok(merged.len()));
    }
});
