//! Remote care: what the collector wants of the agent itself, and what the agent says to that.
//!
//! One [`Care`] lives as long as the process, beyond sessions and beyond the pipeline. A session puts in what came and takes
//! out what is to be said; the host of the uplink does the work in between, in its own time. All of it is bounded: of pushed
//! configurations only the newest waits, of requests [`MOST_ASKED`], of answers [`MOST_BYTES`].

use std::collections::VecDeque;

use parking_lot::Mutex;
use tokio::sync::Notify;
use wire::v1;

/// Requests that wait; a further one is answered with an error.
pub const MOST_ASKED: usize = 16;
/// Bytes of all answers that wait: one bundle and the answers to small requests.
pub const MOST_BYTES: usize = (16 << 20) + (64 << 10);
/// The largest part of an answer.
const MOST_PART: usize = 64 << 10;

/// What the collector asks.
#[derive(Clone, Debug, PartialEq)]
pub enum Asked {
    /// Another configuration.
    Config(v1::PushedConfig),
    /// Something to be done now; give [`Care::answer`] its id.
    Request(v1::Request),
}

/// What waits between the sessions and the agent.
#[derive(Debug, Default)]
pub struct Care {
    inner: Mutex<Inner>,
    config_came: Notify,
    request_came: Notify,
    /// There is something to say.
    news: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    /// What the hello says; `None`: nothing is taken, and whatever comes is passed over.
    state: Option<v1::ConfigState>,
    requests: bool,
    /// Of `state`: grows with each change.
    number: u64,
    config: Option<v1::PushedConfig>,
    asked: VecDeque<v1::Request>,
    /// Requests that were given out and not answered yet.
    at_work: Vec<Vec<u8>>,
    answers: VecDeque<Answering>,
}

/// An answer on its way.
#[derive(Debug)]
struct Answering {
    id: Vec<u8>,
    data: Vec<u8>,
    error: String,
    sent: usize,
}

impl Care {
    /// Says how the configuration stands, and whether requests are taken: from the next hello on, and in the session that
    /// is open.
    pub fn say(&self, state: v1::ConfigState, requests: bool) {
        let mut inner = self.inner.lock();
        inner.requests = requests;
        if inner.state.as_ref() != Some(&state) {
            if inner.config.as_ref().is_some_and(|config| is_on_trial(&state, config)) {
                inner.config = None;
            }
            inner.state = Some(state);
            inner.number += 1;
            self.news.notify_one();
        }
    }

    /// The newest configuration that came. Nothing is lost when the call is given up.
    pub async fn next_config(&self) -> v1::PushedConfig {
        loop {
            let config = self.inner.lock().config.take();
            if let Some(config) = config {
                return config;
            }
            self.config_came.notified().await;
        }
    }

    /// The next request. Nothing is lost when the call is given up; the id waits for [`Care::answer`].
    pub async fn next_request(&self) -> v1::Request {
        loop {
            if let Some(request) = self.take_request() {
                return request;
            }
            self.request_came.notified().await;
        }
    }

    fn take_request(&self) -> Option<v1::Request> {
        let mut inner = self.inner.lock();
        let request = inner.asked.pop_front()?;
        inner.at_work.push(request.id.clone());
        Some(request)
    }

    /// What came of a request: data, which may be empty, or a sentence for a person.
    pub fn answer(&self, id: &[u8], outcome: Result<Vec<u8>, String>) {
        let mut inner = self.inner.lock();
        inner.at_work.retain(|at_work| at_work != id);
        let waiting: usize = inner.answers.iter().map(|answer| answer.data.len()).sum();
        let (data, error) = match outcome {
            Ok(data) if waiting + data.len() > MOST_BYTES => {
                (Vec::new(), "other answers are still on their way: ask again".to_owned())
            }
            Ok(data) => (data, String::new()),
            Err(error) => (Vec::new(), error),
        };
        // Whoever asks on without reading isn't told of each refusal.
        if inner.answers.len() < 2 * MOST_ASKED {
            inner.answers.push_back(Answering { id: id.to_vec(), data, error, sent: 0 });
            self.news.notify_one();
        }
    }

    /// What a hello says, and the number of that state.
    pub(crate) fn hello(&self) -> (Option<v1::ConfigState>, bool, u64) {
        let inner = self.inner.lock();
        (inner.state.clone(), inner.requests, inner.number)
    }

    /// The state, if it isn't the one of that number any more, and its own.
    pub(crate) fn state_since(&self, number: u64) -> Option<(u64, v1::ConfigState)> {
        let inner = self.inner.lock();
        let state = inner.state.clone().filter(|_| inner.number != number)?;
        Some((inner.number, state))
    }

    /// Something came in a session, or from whoever stands in for the collector.
    pub fn ask(&self, asked: Asked) {
        let mut inner = self.inner.lock();
        let Some(state) = &inner.state else { return };
        match asked {
            // A greeting and a push that cross each other bring it twice; judged once, it isn't tried again by that.
            Asked::Config(config) if is_on_trial(state, &config) => {}
            Asked::Config(config) => {
                inner.config = Some(config);
                self.config_came.notify_one();
            }
            Asked::Request(request) => {
                let id = &request.id;
                if let Some(answer) = inner.answers.iter_mut().find(|answer| answer.id == *id) {
                    // Asked anew: told anew, from the beginning.
                    answer.sent = 0;
                    return self.news.notify_one();
                }
                let known = inner.at_work.contains(id) || inner.asked.iter().any(|asked| asked.id == *id);
                if known {
                    return;
                }
                if inner.asked.len() + inner.at_work.len() >= MOST_ASKED {
                    let id = request.id;
                    drop(inner);
                    return self.answer(&id, Err("too many requests wait at this agent: ask again".into()));
                }
                inner.asked.push_back(request);
                self.request_came.notify_one();
            }
        }
    }

    /// Whether a part of an answer waits.
    pub(crate) fn speaks(&self) -> bool {
        !self.inner.lock().answers.is_empty()
    }

    /// The next part of the first answer, of at most so many bytes.
    pub(crate) fn next_part(&self, most: usize) -> Option<v1::Answer> {
        let mut inner = self.inner.lock();
        let answer = inner.answers.front_mut()?;
        let end = answer.data.len().min(answer.sent + most.clamp(1, MOST_PART));
        let part = v1::Answer {
            id: answer.id.clone(),
            offset: answer.sent as u64,
            data: answer.data[answer.sent..end].to_vec(),
            done: end == answer.data.len(),
            error: answer.error.clone(),
        };
        answer.sent = end;
        if part.done {
            inner.answers.pop_front();
        }
        Some(part)
    }

    /// The session ended: an answer that it cut short is told from its beginning in the next one.
    pub(crate) fn session_lost(&self) {
        for answer in &mut self.inner.lock().answers {
            answer.sent = 0;
        }
    }

    /// Returns when there is something to say. Nothing is lost when the call is given up.
    pub(crate) async fn news(&self) {
        self.news.notified().await;
    }
}

/// Whether it is the very one that is being tried.
fn is_on_trial(state: &v1::ConfigState, config: &v1::PushedConfig) -> bool {
    state.phase() == v1::ConfigPhase::ConfigTrial
        && (state.version, &state.digest) == (config.version, &config.digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taking() -> Care {
        let care = Care::default();
        care.say(v1::ConfigState::default(), true);
        care
    }

    fn request(id: u8) -> Asked {
        Asked::Request(v1::Request { id: vec![id; 16], what: None })
    }

    #[test]
    fn an_answer_goes_in_parts_and_begins_anew_after_a_lost_session() {
        let care = taking();
        care.ask(request(1));
        assert!(care.take_request().is_some());
        let data: Vec<u8> = (0..150_000_u32).map(|n| n as u8).collect();
        care.answer(&[1; 16], Ok(data.clone()));
        assert_eq!(care.next_part(1 << 20).unwrap().data.len(), MOST_PART);
        care.session_lost();
        let mut got = Vec::new();
        while let Some(part) = care.next_part(50_000) {
            assert_eq!(part.offset, got.len() as u64);
            got.extend_from_slice(&part.data);
            assert_eq!(part.done, got.len() == data.len());
        }
        assert_eq!(got, data);
    }

    #[test]
    fn a_request_that_comes_again_while_it_is_worked_on_is_worked_on_once() {
        let care = taking();
        care.ask(request(1));
        care.ask(request(1));
        assert!(care.take_request().is_some());
        care.ask(request(1));
        assert_eq!(care.take_request(), None);
        care.answer(&[1; 16], Ok(vec![7; 100]));
        care.next_part(10);
        care.ask(request(1));
        assert_eq!(care.take_request(), None);
        assert_eq!(care.next_part(100).map(|part| (part.offset, part.done)), Some((0, true)));
        assert!(!care.speaks());
    }

    #[test]
    fn what_waits_is_bounded_and_of_configurations_the_newest_counts() {
        let care = taking();
        for id in 0..40 {
            care.ask(request(id));
        }
        for version in 1..5 {
            care.ask(Asked::Config(v1::PushedConfig { version, ..Default::default() }));
        }
        assert_eq!(care.inner.lock().config.take().map(|config| config.version), Some(4));
        let mut taken = 0;
        while care.take_request().is_some() {
            taken += 1;
        }
        assert_eq!(taken, MOST_ASKED);
        let told = std::iter::from_fn(|| care.next_part(100)).filter(|part| !part.error.is_empty()).count();
        assert_eq!(told, 40 - MOST_ASKED);
        for id in 100..200 {
            care.ask(request(id));
        }
        assert!(std::iter::from_fn(|| care.next_part(100)).count() <= 2 * MOST_ASKED);
        care.answer(&[1; 16], Ok(vec![0; MOST_BYTES]));
        care.answer(&[2; 16], Ok(vec![0]));
        let last = std::iter::from_fn(|| care.next_part(MOST_PART)).last().unwrap();
        assert!(last.error.contains("ask again"), "{last:?}");
    }

    #[test]
    fn one_that_comes_again_while_it_is_on_trial_does_not_wait_to_be_tried_once_more() {
        let pushed = |version| v1::PushedConfig { version, digest: vec![7; 32], ..Default::default() };
        let trial = v1::ConfigState {
            version: 4,
            digest: vec![7; 32],
            phase: v1::ConfigPhase::ConfigTrial.into(),
            ..Default::default()
        };
        let waiting = |care: &Care| care.inner.lock().config.as_ref().map(|config| config.version);
        let care = taking();
        care.ask(Asked::Config(pushed(4)));
        care.say(trial.clone(), true);
        assert_eq!(waiting(&care), None, "it came before the trial was said");
        care.ask(Asked::Config(pushed(4)));
        assert_eq!(waiting(&care), None, "it came after that");
        care.ask(Asked::Config(pushed(5)));
        assert_eq!(waiting(&care), Some(5), "another one waits");
        care.say(v1::ConfigState { phase: v1::ConfigPhase::ConfigFailed.into(), ..trial }, true);
        care.ask(Asked::Config(pushed(4)));
        assert_eq!(waiting(&care), Some(4), "one that failed may be pushed again");
    }

    #[test]
    fn an_agent_that_takes_nothing_passes_over_what_comes() {
        let care = Care::default();
        care.ask(request(1));
        care.ask(Asked::Config(v1::PushedConfig::default()));
        assert_eq!((care.take_request(), care.hello()), (None, (None, false, 0)));
        assert_eq!(care.inner.lock().config, None);
    }
}
