//! Whether the agent is well under a configuration that is on trial: what ran before runs again, the workers turn, the collector
//! has greeted. Looked at again and again until all of it is so, or the time is up.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::status::Reporter;

/// What is known now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Not all of it is so yet.
    Wait,
    /// It is well.
    Healthy,
    /// The time is up, and this is missing.
    Sick(String),
}

/// What the gate looks at.
pub trait Patient {
    /// Each input: its name, whether it has tried to run, and why it doesn't.
    fn inputs(&self) -> Vec<(String, bool, Option<String>)>;
    /// The workers, and how often each has passed its loop.
    fn beats(&self) -> Vec<(&'static str, u64)>;
    /// Whether the collector has greeted, and else why not.
    fn greeted(&self) -> Result<(), String>;
}

impl Patient for Arc<Reporter> {
    fn inputs(&self) -> Vec<(String, bool, Option<String>)> {
        let now = self.clock.now();
        let of =
            |door: &inputs::Door| (door.name.to_string(), door.stats.tried(), door.stats.snapshot(now).error);
        self.doors.iter().map(of).collect()
    }

    fn beats(&self) -> Vec<(&'static str, u64)> {
        vec![("journal", self.journal.beats()), ("fold", self.fold.beats()), ("uplink", self.link.beats())]
    }

    fn greeted(&self) -> Result<(), String> {
        if self.link.connected() { Ok(()) } else { Err(self.link.last_error()) }
    }
}

/// Inputs that don't run.
pub fn ailing(patient: &impl Patient) -> BTreeSet<String> {
    patient.inputs().into_iter().filter(|(_, _, error)| error.is_some()).map(|(name, ..)| name).collect()
}

/// One trial.
pub struct Gate<P> {
    patient: P,
    /// Inputs that didn't run before either: of them nothing is asked.
    excused: BTreeSet<String>,
    at_first: Vec<(&'static str, u64)>,
    until: Instant,
    time: Duration,
}

impl<P: Patient> Gate<P> {
    /// Begins a trial.
    pub fn begin(patient: P, excused: BTreeSet<String>, time: Duration, now: Instant) -> Self {
        let at_first = patient.beats();
        Self { patient, excused, at_first, until: now + time, time }
    }

    /// Looks.
    pub fn look(&self, now: Instant) -> Verdict {
        let missing = self.missing();
        match missing.is_empty() {
            true => Verdict::Healthy,
            false if now < self.until => Verdict::Wait,
            false => Verdict::Sick(format!("within {} s: {}", self.time.as_secs(), missing.join("; "))),
        }
    }

    fn missing(&self) -> Vec<String> {
        let mut missing = Vec::new();
        for (name, tried, error) in self.patient.inputs() {
            match error {
                _ if self.excused.contains(&name) => {}
                Some(error) => missing.push(format!("the input {name} doesn't run: {error}")),
                None if !tried => missing.push(format!("the input {name} has not begun")),
                None => {}
            }
        }
        for ((name, first), (_, beats)) in self.at_first.iter().zip(self.patient.beats()) {
            if beats <= *first {
                missing.push(format!("the {name} stands still"));
            }
        }
        match self.patient.greeted() {
            Ok(()) => {}
            Err(why) if why.is_empty() => missing.push("the collector has not greeted".into()),
            Err(why) => missing.push(format!("the collector has not greeted: {why}")),
        }
        missing
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;

    #[derive(Clone)]
    struct Sickbed(Rc<RefCell<State>>);

    struct State {
        inputs: Vec<(String, bool, Option<String>)>,
        beats: u64,
        greeted: Result<(), String>,
    }

    impl Patient for Sickbed {
        fn inputs(&self) -> Vec<(String, bool, Option<String>)> {
            self.0.borrow().inputs.clone()
        }
        fn beats(&self) -> Vec<(&'static str, u64)> {
            vec![("fold", self.0.borrow().beats)]
        }
        fn greeted(&self) -> Result<(), String> {
            self.0.borrow().greeted.clone()
        }
    }

    #[test]
    fn all_that_is_missing_is_said_when_the_time_is_up_and_not_before() {
        let state =
            State { inputs: vec![("http".into(), false, None)], beats: 4, greeted: Err("refused".into()) };
        let bed = Sickbed(Rc::new(RefCell::new(state)));
        let (now, time) = (Instant::now(), Duration::from_secs(60));
        let gate = Gate::begin(bed.clone(), BTreeSet::new(), time, now);
        assert_eq!(gate.look(now), Verdict::Wait);
        let late = now + time;
        let said = "within 60 s: the input http has not begun; the fold stands still; the collector has not greeted: refused";
        assert_eq!(gate.look(late), Verdict::Sick(said.into()));
        bed.0.borrow_mut().inputs[0] = ("http".into(), true, Some("port taken".into()));
        bed.0.borrow_mut().beats = 5;
        bed.0.borrow_mut().greeted = Ok(());
        let said = "within 60 s: the input http doesn't run: port taken";
        assert_eq!(gate.look(late), Verdict::Sick(said.into()));
        assert_eq!(ailing(&bed), BTreeSet::from(["http".to_owned()]));
        bed.0.borrow_mut().inputs[0].2 = None;
        assert_eq!(gate.look(now), Verdict::Healthy);
    }

    #[test]
    fn an_input_that_did_not_run_before_either_is_no_reason() {
        let state = State { inputs: vec![("a".into(), true, Some("no".into()))], beats: 1, greeted: Ok(()) };
        let bed = Sickbed(Rc::new(RefCell::new(state)));
        let now = Instant::now();
        let gate = Gate::begin(bed.clone(), ailing(&bed), Duration::from_secs(1), now);
        bed.0.borrow_mut().beats = 2;
        assert_eq!(gate.look(now), Verdict::Healthy);
    }
}
