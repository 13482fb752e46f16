//! What the collector pushed, and what came of it.

use serde_json::Value;

use super::{Finding, ok, problem, warning};
use crate::remote::command::OnDisk;
use crate::remote::{Kept, Phase, Takes};

const CHECK: &str = "pushed";

/// By the running agent's `status`; where none runs, by what is on the disk. Nothing where nothing was ever pushed.
pub fn examine(found: &OnDisk, status: Option<&Value>) -> Option<Finding> {
    if let Some(trouble) = status.and_then(|status| status["remote"]["trouble"].as_str()) {
        return Some(warning(CHECK, trouble, "look after the disk; the collector sends what it wants again"));
    }
    let Some(kept) = &found.kept else {
        let remedy = "start the agent: it sets the file aside, and the collector sends what it wants again";
        return Some(warning(CHECK, &found.trouble, remedy));
    };
    judge(kept, found.file.remote().config, &found.trouble)
}

fn judge(kept: &Kept, takes: Takes, trouble: &str) -> Option<Finding> {
    let version = kept.newest.as_ref()?.version;
    let name = format!("configuration {version}");
    if takes == Takes::Off {
        return Some(ok(
            CHECK,
            format!("{name} is not taken: the host's file says [remote] config = \"off\""),
        ));
    }
    if !trouble.is_empty() {
        let remedy =
            "mend the host's file, or push another configuration; until then the file is in force alone";
        return Some(problem(CHECK, format!("{name} doesn't go with the host's file: {trouble}"), remedy));
    }
    Some(match kept.phase {
        Phase::Failed => problem(
            CHECK,
            format!("{name} is not in force: {}", kept.reason),
            "mend it and push it again (`telemetryx agents config push`), or take it back; `telemetryx-agent remote show` prints it",
        ),
        Phase::Trial => ok(CHECK, format!("{name} is on trial")),
        Phase::Applied => ok(CHECK, format!("{name} is in force")),
        Phase::None | Phase::Declined => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;
    use crate::remote::Pushed;

    #[test]
    fn one_that_failed_is_a_problem_with_its_reason_and_one_that_was_never_pushed_is_nothing() {
        assert_eq!(judge(&Kept::default(), Takes::Over, ""), None);
        let pushed = Pushed { version: 7, toml: "[agent]\n".into() };
        let failed = Kept::default().refused(pushed.clone(), "the port is taken", 1);
        let found = judge(&failed, Takes::Over, "").unwrap();
        assert!(found.level == Level::Problem && found.found.ends_with("the port is taken"), "{found:?}");
        let applied = failed.tried(pushed, 2).proven(3);
        assert_eq!(judge(&applied, Takes::Over, "").unwrap().level, Level::Ok);
        assert_eq!(judge(&applied, Takes::Over, "a clash").unwrap().level, Level::Problem);
        assert!(judge(&applied, Takes::Off, "").unwrap().found.contains("not taken"));
    }
}
