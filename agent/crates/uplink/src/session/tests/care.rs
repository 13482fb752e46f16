//! What the collector wants of the agent itself, and what it is told.

use super::*;

fn state(version: u64, phase: v1::ConfigPhase) -> v1::ConfigState {
    v1::ConfigState { version, phase: phase.into(), ..v1::ConfigState::default() }
}

#[test]
fn the_hello_says_which_configuration_is_there_and_a_change_is_said_at_once() {
    let care = Arc::new(Care::default());
    let mut agent = Agent::new(LanesConfig::default());
    agent.session = agent.session.with_care(Arc::clone(&care));
    let silent = agent.open(Vec::new());
    assert_eq!((silent.config, silent.requests), (None, false));
    agent.session.closed(agent.now, "");

    care.say(state(7, v1::ConfigPhase::ConfigTrial), true);
    let hello = agent.open(Vec::new());
    assert_eq!((hello.config.map(|config| config.version), hello.requests), (Some(7), true));
    let said = |agent: &mut Agent| {
        let states = agent.frames().into_iter().filter_map(|frame| match frame {
            from_agent::Frame::ConfigState(state) => Some(state.phase()),
            _ => None,
        });
        states.collect::<Vec<_>>()
    };
    assert_eq!(said(&mut agent), [], "the hello has said it");
    care.say(state(7, v1::ConfigPhase::ConfigApplied), true);
    assert_eq!(said(&mut agent), [v1::ConfigPhase::ConfigApplied]);
    care.say(state(7, v1::ConfigPhase::ConfigApplied), true);
    assert_eq!(said(&mut agent), []);
}

#[test]
fn what_changes_between_hello_and_greeting_is_said_after_it() {
    let care = Arc::new(Care::default());
    care.say(state(7, v1::ConfigPhase::ConfigTrial), true);
    let mut agent = Agent::new(LanesConfig::default());
    agent.session = agent.session.with_care(Arc::clone(&care));
    agent.session.opened(agent.now);
    assert_eq!(agent.frames().len(), 1);
    care.say(state(7, v1::ConfigPhase::ConfigApplied), true);
    agent.take(from_collector::Frame::Greeting(greeting(Vec::new(), START))).unwrap();
    let states =
        agent.frames().into_iter().filter(|frame| matches!(frame, from_agent::Frame::ConfigState(_)));
    assert_eq!(states.count(), 1);
}

#[test]
fn a_long_answer_lets_fresh_readings_pass_and_comes_whole() {
    let care = Arc::new(Care::default());
    care.say(v1::ConfigState::default(), true);
    let mut agent = Agent::new(LanesConfig::default());
    agent.session = agent.session.with_care(Arc::clone(&care));
    agent.open(Vec::new());
    agent.take(from_collector::Frame::Request(v1::Request { id: vec![1; 16], what: None })).unwrap();
    let data: Vec<u8> = (0..300_000_u32).map(|n| n as u8).collect();
    care.answer(&[1; 16], Ok(data.clone()));

    let (mut got, mut batches, mut done) = (Vec::new(), 0, false);
    for turn in 0..200 {
        agent.pass(ANSWER_EVERY.0);
        if turn % 10 == 0 && turn < 50 {
            agent.batch(Duration::ZERO);
        }
        let mut parts = 0;
        for frame in agent.frames() {
            match frame {
                from_agent::Frame::Answer(part) => {
                    assert_eq!(part.offset, got.len() as u64);
                    got.extend_from_slice(&part.data);
                    done = part.done;
                    parts += 1;
                }
                from_agent::Frame::Batch(batch) => {
                    batches += 1;
                    agent.take(ack(&[batch])).unwrap();
                }
                _ => {}
            }
        }
        assert!(parts <= 1, "one part at a time");
    }
    assert_eq!((got.len(), batches, done), (data.len(), 5, true));
    assert_eq!(got, data);
    let wake = agent.session.wake_at().unwrap();
    assert!(wake > agent.now, "nothing is left to say");
}

#[test]
fn while_the_collector_asks_to_wait_no_answer_leaves_and_nobody_spins() {
    let care = Arc::new(Care::default());
    care.say(v1::ConfigState::default(), true);
    let mut agent = Agent::new(LanesConfig::default());
    agent.session = agent.session.with_care(Arc::clone(&care));
    agent.open(Vec::new());
    agent.frames();
    agent.take(slow_down(4_000, "busy")).unwrap();
    care.answer(&[1; 16], Ok(vec![1; 10]));
    agent.pass(SECOND);
    assert_eq!(agent.frames().len(), 0);
    assert!(agent.session.wake_at().unwrap() > agent.now);
    agent.pass(4 * SECOND);
    assert!(agent.frames().iter().any(|frame| matches!(frame, from_agent::Frame::Answer(_))));
}
