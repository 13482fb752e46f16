//! What has to be done for another configuration: nothing, a reload beside the readings that flow, or the pipeline anew.

use toml::{Table, Value};

/// What it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It is as it is.
    Nothing,
    /// The fold, the model, who may use the MQTT port, the log level: records in the journal and a word to the port.
    Reload,
    /// All else: the pipeline ends in order and begins anew, in this process.
    Restart,
}

/// Of `[input.mqtt]` what an open port takes: who may do what.
const MQTT: [&str; 6] =
    ["anonymous", "anonymous_from", "anonymous_read", "anonymous_write", "revoked", "user"];

/// `built` is what the pipeline was started with, `taken` what it goes by since, `wanted` what is to be.
pub fn step(built: &Table, taken: &Table, wanted: &Table) -> Step {
    if fixed(built) != fixed(wanted) {
        Step::Restart
    } else if without(taken, "remote") != without(wanted, "remote") {
        Step::Reload
    } else {
        Step::Nothing
    }
}

/// Without what a reload can change.
fn fixed(table: &Table) -> Table {
    let mut fixed = table.clone();
    // What is taken of pushed configurations decides what is merged, and nothing afterwards.
    for section in ["fold", "model", "remote"] {
        fixed.remove(section);
    }
    if let Some(Value::Table(agent)) = fixed.get_mut("agent") {
        agent.remove("log");
        agent.remove("log_json");
        if agent.is_empty() {
            fixed.remove("agent");
        }
    }
    if let Some(Value::Table(mqtt)) =
        fixed.get_mut("input").and_then(Value::as_table_mut).and_then(|input| input.get_mut("mqtt"))
    {
        MQTT.iter().for_each(|key| _ = mqtt.remove(*key));
    }
    fixed
}

fn without(table: &Table, section: &str) -> Table {
    let mut table = table.clone();
    table.remove(section);
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "[fold]\nlateness = \"2s\"\n[input.mqtt]\nlisten = \"127.0.0.1:1883\"\n";

    fn from_before(text: &str) -> Step {
        let before: Table = BEFORE.parse().unwrap();
        step(
            &before,
            &before,
            &crate::remote::merge::merge(&before, &text.parse().unwrap(), crate::remote::merge::Wins::Pushed),
        )
    }

    #[test]
    fn the_pipeline_begins_anew_only_for_what_no_reload_can_change() {
        assert_eq!(from_before(""), Step::Nothing);
        assert_eq!(from_before("[remote]\nconfig = \"under\"\n"), Step::Nothing);
        for text in [
            "[fold]\nlateness = \"3s\"\n",
            "[model]\nhost = false\n",
            "[agent]\nlog = \"debug\"\nlog_json = true\n",
            "[[input.mqtt.user]]\nname = \"a\"\n",
            "[input.mqtt]\nrevoked = [\"a\"]\n",
        ] {
            assert_eq!(from_before(text), Step::Reload, "{text}");
        }
        for text in [
            "[agent]\nmax_series = 5\n",
            "[input.mqtt]\nlisten = \"127.0.0.1:1884\"\n",
            "[input.mqtt]\nmax_clients = 5\n",
            "[input.tcp]\n",
            "[spool]\nlinger = \"1s\"\n",
            "[uplink.lanes]\nlimit = \"1MiB/s\"\n",
        ] {
            assert_eq!(from_before(text), Step::Restart, "{text}");
        }
    }

    #[test]
    fn what_was_reloaded_since_counts() {
        let built: Table = "[fold]\nlateness = \"2s\"\n".parse().unwrap();
        let taken: Table = "[fold]\nlateness = \"3s\"\n".parse().unwrap();
        assert_eq!(step(&built, &taken, &taken), Step::Nothing);
        assert_eq!(step(&built, &taken, &built), Step::Reload);
    }
}
