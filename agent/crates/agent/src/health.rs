//! Whether an agent takes readings and keeps them: `status --healthy`, for the health check of a container.
//!
//! Nothing else counts. A link that is down, a backlog and a clock that isn't set are
//! what an agent is for: whoever restarted it for those would make a long outage of a network one of its hosts as well.

use serde_json::Value;

/// What is wrong, a sentence each, by what `status` says.
pub fn trouble(status: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let (journal, fold, spool) = (&status["journal"], &status["fold"], &status["spool"]);
    let spool_trouble = match spool["withheld"].is_object() {
        true => "the spool waits for a file of it",
        false => "the spool can't be written",
    };
    for (what, reason) in [
        ("nothing is acknowledged", &journal["poisoned"]),
        ("what was taken can't be spooled", &fold["blocked"]),
        (spool_trouble, &spool["trouble"]),
    ] {
        if let Some(reason) = reason.as_str() {
            found.push(format!("{what}: {reason}"));
        }
    }
    if let Some(why) = status["refusing"]["why"].as_str().filter(|_| journal["poisoned"].is_null()) {
        let remedy = status["refusing"]["remedy"].as_str().unwrap_or_default();
        found.push(format!("readings are refused: {why}; {remedy}"));
    }
    for input in status["inputs"].as_array().into_iter().flatten() {
        if let (Some(name), Some(error)) = (input["name"].as_str(), input["error"].as_str()) {
            found.push(format!("the input {name} doesn't run: {error}"));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status() -> Value {
        json!({
            "journal": {"poisoned": null, "disk_full": false},
            "fold": {"blocked": null},
            "spool": {"trouble": null, "batches": 90_000},
            "link": {"connected": false, "last_error": "no route to host"},
            "inputs": [{"name": "mqtt", "error": null}],
            "clock_set": false,
            "refusing": null,
        })
    }

    #[test]
    fn an_outage_of_days_is_healthy() {
        assert_eq!(trouble(&status()), Vec::<String>::new());
    }

    #[test]
    fn what_keeps_readings_out_is_said_with_its_reason() {
        let mut sick = status();
        sick["journal"] = json!({"poisoned": "fsync: I/O error", "disk_full": true});
        sick["fold"]["blocked"] = json!("no room");
        sick["spool"]["trouble"] = json!("read-only file system");
        sick["inputs"][0]["error"] = json!("address in use");
        let said = trouble(&sick);
        assert_eq!(said.len(), 4, "{said:?}");
        for reason in ["fsync: I/O error", "no room", "read-only file system", "mqtt", "address in use"] {
            assert!(said.iter().any(|sentence| sentence.contains(reason)), "{reason} in {said:?}");
        }
        let mut full = status();
        full["refusing"] = json!({"cause": "cap", "why": "the journal is full", "remedy": "free some space"});
        assert_eq!(trouble(&full), ["readings are refused: the journal is full; free some space"]);
    }
}
