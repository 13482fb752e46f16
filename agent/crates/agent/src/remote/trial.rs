//! What becomes of a pushed configuration: the steps between the phases, and nothing else. No disk, no clock, no network.
//!
//! ```text
//!            came, checked            proven
//! any phase ───────────────▶ Trial ───────────▶ Applied, or None where it takes back what was pushed
//!     │                        │ not proven in time, or the process ended twice
//!     │ can't be used          ▼
//!     └────────────────────▶ Failed: the last that proved itself is in force, or the host's file alone
//! ```

use super::cache::{Kept, Phase, Pushed};

/// Starts of a process in one trial; at this many the configuration is what ends it.
const MOST_STARTS: u32 = 2;

impl Kept {
    /// A configuration that was checked is to be in force from now on.
    pub fn tried(&self, pushed: Pushed, now: i64) -> Self {
        Self {
            newest: Some(pushed),
            phase: Phase::Trial,
            reason: String::new(),
            at_ns: now,
            healthy: self.healthy.clone(),
            starts: 0,
        }
    }

    /// It has proven itself.
    pub fn proven(&self, now: i64) -> Self {
        let newest = self.newest.clone().filter(|pushed| pushed.version != 0);
        Self {
            phase: if newest.is_some() { Phase::Applied } else { Phase::None },
            reason: String::new(),
            at_ns: now,
            healthy: newest.clone(),
            newest,
            starts: 0,
        }
    }

    /// It has not: the last that did is in force.
    pub fn returned(&self, reason: &str, now: i64) -> Self {
        Self { phase: Phase::Failed, reason: shortened(reason), at_ns: now, starts: 0, ..self.clone() }
    }

    /// One came that can't be used; what is in force stays so.
    pub fn refused(&self, pushed: Pushed, reason: &str, now: i64) -> Self {
        Self { newest: Some(pushed), ..self.returned(reason, now) }
    }

    /// One came, and the host's file says that none is taken.
    pub fn declined(&self, pushed: Pushed, now: i64) -> Self {
        Self {
            newest: Some(pushed),
            phase: Phase::Declined,
            reason: "the host's file says [remote] config = \"off\"".into(),
            at_ns: now,
            healthy: self.healthy.clone(),
            starts: 0,
        }
    }

    /// The same text under another number.
    pub fn renumbered(&self, version: u64, now: i64) -> Self {
        let renumber = |pushed: &Option<Pushed>| {
            let same =
                pushed.as_ref().filter(|one| Some(&one.toml) == self.newest.as_ref().map(|new| &new.toml));
            same.map(|one| Pushed { version, ..one.clone() }).or_else(|| pushed.clone())
        };
        Self { newest: renumber(&self.newest), healthy: renumber(&self.healthy), at_ns: now, ..self.clone() }
    }

    /// A process starts. One that ended in a trial counts; an end that was asked for is taken back by [`Kept::ended`].
    pub fn started(&self, now: i64) -> Self {
        if self.phase != Phase::Trial {
            return self.clone();
        }
        let starts = self.starts + 1;
        let version = self.newest.as_ref().map_or(0, |pushed| pushed.version);
        match starts >= MOST_STARTS {
            true => self.returned(
                &format!("the agent ended {starts} times while {} was on trial", what(version)),
                now,
            ),
            false => Self { starts, ..self.clone() },
        }
    }

    /// The process was told to stop: its next start is nobody's fault.
    pub fn ended(&self) -> Self {
        Self { starts: self.starts.saturating_sub(1), ..self.clone() }
    }
}

/// What is on trial.
fn what(version: u64) -> String {
    match version {
        0 => "the host's file alone".into(),
        version => format!("configuration {version}"),
    }
}

/// At most 4 KiB of a reason.
fn shortened(reason: &str) -> String {
    let end = (0..=reason.len().min(4000)).rev().find(|at| reason.is_char_boundary(*at)).unwrap_or(0);
    if end < reason.len() { format!("{}…", &reason[..end]) } else { reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pushed(version: u64) -> Pushed {
        Pushed { version, toml: format!("[agent]\nmax_series = {}\n", version + 1) }
    }

    fn force(kept: &Kept) -> u64 {
        kept.in_force().map_or(0, |pushed| pushed.version)
    }

    #[test]
    fn a_crash_loop_ends_at_the_second_start() {
        let healthy = Kept::default().tried(pushed(1), 1).proven(2);
        let trial = healthy.tried(pushed(2), 3);
        assert_eq!(force(&trial), 2);
        let once = trial.started(4);
        assert_eq!((once.phase, force(&once)), (Phase::Trial, 2));
        let twice = once.started(5);
        assert_eq!((twice.phase, force(&twice)), (Phase::Failed, 1));
        assert!(
            twice.reason.contains("ended 2 times while configuration 2 was on trial"),
            "{}",
            twice.reason
        );
        assert_eq!(twice.started(6), twice, "outside of a trial starts don't count");
    }

    #[test]
    fn an_end_that_was_asked_for_does_not_count() {
        let mut trial = Kept::default().tried(pushed(1), 1);
        for now in 0..10 {
            trial = trial.started(now).ended();
            assert_eq!(trial.phase, Phase::Trial);
        }
        assert_eq!(trial.started(1).started(2).phase, Phase::Failed);
    }

    #[test]
    fn what_was_pushed_can_be_taken_back_and_that_can_fail_too() {
        let applied = Kept::default().tried(pushed(3), 1).proven(2);
        let taken_back = applied.tried(Pushed::default(), 3);
        assert_eq!(force(&taken_back), 0);
        assert_eq!(force(&taken_back.returned("no", 4)), 3);
        assert_eq!(taken_back.proven(4), Kept { at_ns: 4, ..Kept::default() });
    }

    #[test]
    fn the_same_text_may_get_another_number() {
        let applied = Kept::default().tried(pushed(3), 1).proven(2).renumbered(9, 3);
        assert_eq!((force(&applied), applied.newest.map(|it| it.version)), (9, Some(9)));
        let failed =
            Kept::default().tried(pushed(3), 1).proven(2).refused(pushed(4), "no", 3).renumbered(9, 4);
        assert_eq!((force(&failed), failed.newest.map(|it| it.version)), (3, Some(9)));
    }

    #[test]
    fn a_reason_has_an_end() {
        let long = Kept::default().refused(pushed(1), &"é".repeat(9000), 1).reason;
        assert!(long.len() <= 4096 && long.ends_with('…'), "{}", long.len());
    }

    proptest! {
        /// Whatever comes in whichever order: only what proved itself, or what is on trial, is ever in force.
        #[test]
        fn what_is_in_force_is_on_trial_or_has_proven_itself(steps in proptest::collection::vec((0_u8..7, 0_u64..4), 0..60)) {
            let mut kept = Kept::default();
            let mut proven = vec![0];
            for (now, (step, version)) in steps.into_iter().enumerate() {
                let now = now as i64;
                let trial = kept.phase == Phase::Trial;
                kept = match step {
                    0 => kept.tried(if version == 0 { Pushed::default() } else { pushed(version) }, now),
                    1 if trial => {
                        let next = kept.proven(now);
                        proven = vec![force(&next)];
                        next
                    }
                    2 if trial => kept.returned("no", now),
                    3 if !trial => kept.refused(pushed(version + 1), "no", now),
                    4 => kept.started(now),
                    5 => kept.ended(),
                    _ => kept,
                };
                let on_trial = kept.newest.as_ref().map_or(0, |it| it.version);
                let in_force = force(&kept);
                prop_assert!(
                    proven.contains(&in_force) || (kept.phase == Phase::Trial && in_force == on_trial),
                    "{} is in force: {:?}", in_force, kept
                );
            }
        }
    }
}
