//! What sessions were good for, and when they lead to the fallback.

use super::*;
use crate::route::{self, Good, Route, Way};
use crate::state::Moved;

#[test]
fn a_collector_that_gives_no_credit_and_acknowledges_nothing_is_given_up() {
    let mut agent = Agent::new(LanesConfig::default());
    agent.session.opened(agent.now);
    agent.frames();
    let nothing = v1::Greeting { credit_bytes: 0, ..greeting(Vec::new(), START) };
    agent.take(from_collector::Frame::Greeting(nothing)).unwrap();
    let overdue = |agent: &mut Agent| loop {
        let time = agent.session.wake_at().unwrap() - agent.now;
        agent.pass(time);
        assert!(agent.batches().is_empty());
        if let Err(error) = agent.session.tick(agent.now) {
            break error;
        }
        assert!(agent.now < 600 * SECOND, "it waits for ever");
    };
    agent.pass(300 * SECOND);
    agent.frames();
    agent.session.tick(agent.now).unwrap();
    assert_eq!(agent.status().unanswered_s, 0, "nothing waits for credit");
    agent.batch(SECOND);
    assert!(agent.batches().is_empty());
    agent.session.tick(agent.now).unwrap();
    assert!(matches!(overdue(&mut agent), LinkError::Stalled(_)));
    assert_eq!(agent.now, 300 * SECOND + ACK_TIMEOUT);
    assert_eq!(agent.status().stalls, 1);
    agent.session.closed(agent.now, "no ack");
    agent.open(Vec::new());
    assert_eq!(agent.status().stalls, 1, "a greeting is no acknowledgement");
    let sent = agent.batches();
    agent.take(ack(&sent)).unwrap();
    assert_eq!((sent.len(), agent.status().stalls), (1, 0));
}

/// Sessions over the way that the route names, each greeted with so much credit; which ways they went. Over the fallback all is
/// acknowledged, over the other nothing, and there the link is cut after some time, if any.
fn ways(agent: &mut Agent, credit_bytes: u64, cut: Option<Duration>, sessions: usize) -> Vec<Way> {
    let mut route = Route::new(true);
    let mut went = Vec::new();
    for _ in 0..sessions {
        let (way, begun, before) = (route.way(agent.now), agent.now, agent.state.moved());
        went.push(way);
        agent.session.opened(agent.now);
        agent.frames();
        let greeting = v1::Greeting { credit_bytes, ..greeting(Vec::new(), START) };
        agent.take(from_collector::Frame::Greeting(greeting)).unwrap();
        agent.batch(SECOND);
        let end = loop {
            let sent = agent.batches();
            if way == Way::Fallback {
                agent.take(ack(&sent)).unwrap();
                break Err(LinkError::Closed);
            }
            let wake = agent.session.wake_at().unwrap();
            let until = cut.map_or(wake, |cut| wake.min(begun + cut));
            agent.pass(until - agent.now);
            if cut.is_some_and(|cut| agent.now == begun + cut) {
                break Err(LinkError::Closed);
            }
            if let Err(error) = agent.session.tick(agent.now) {
                break Err(error);
            }
        };
        let starved = agent.session.starved();
        agent.session.closed(agent.now, "over");
        route.ended(route::good(true, &end, starved, before, agent.state.moved()), agent.now);
    }
    went
}

#[test]
fn a_way_that_greets_and_acknowledges_nothing_leads_to_the_fallback() {
    use Way::{Fallback, Url};
    // What is sent is not answered for a minute: that is as long as nobody waits for a session.
    let went = ways(&mut Agent::new(LanesConfig::default()), 4 << 20, None, 4);
    assert_eq!(went[..2], [Url, Fallback]);
    assert_eq!(went[2..], [Url, Fallback], "and they take turns");
}

#[test]
fn a_way_that_greets_and_gives_no_credit_leads_to_the_fallback_too() {
    let went = ways(&mut Agent::new(LanesConfig::default()), 0, None, 3);
    assert_eq!(went[..2], [Way::Url, Way::Fallback]);
}

#[test]
fn a_way_that_is_cut_again_and_again_before_any_credit_came_leads_to_the_fallback_after_a_minute_of_it() {
    use Way::{Fallback, Url};
    let went = ways(&mut Agent::new(LanesConfig::default()), 0, Some(25 * SECOND), 5);
    assert_eq!(went, [Url, Url, Url, Fallback, Url]);
    // A collector may be slow, and a link flap: three cuts in a row are not enough.
    let went = ways(&mut Agent::new(LanesConfig::default()), 0, Some(5 * SECOND), 13);
    assert!(went[..12].iter().all(|way| *way == Url), "{went:?}");
    assert_eq!(went[12], Fallback);
}

#[test]
fn a_way_that_is_cut_again_and_again_while_nothing_waits_stays() {
    let mut agent = Agent::new(LanesConfig::default());
    let mut route = Route::new(true);
    for _ in 0..20 {
        let before = agent.state.moved();
        assert_eq!(route.way(agent.now), Way::Url);
        agent.session.opened(agent.now);
        agent.frames();
        let nothing = v1::Greeting { credit_bytes: 0, ..greeting(Vec::new(), START) };
        agent.take(from_collector::Frame::Greeting(nothing)).unwrap();
        assert!(agent.batches().is_empty());
        agent.pass(25 * SECOND);
        let starved = agent.session.starved();
        agent.session.closed(agent.now, "cut");
        let good = route::good(true, &Err(LinkError::Closed), starved, before, agent.state.moved());
        route.ended(good, agent.now);
    }
}

#[test]
fn credit_that_comes_late_keeps_the_way() {
    let mut agent = Agent::new(LanesConfig::default());
    let before = agent.state.moved();
    agent.session.opened(agent.now);
    agent.frames();
    let nothing = v1::Greeting { credit_bytes: 0, ..greeting(Vec::new(), START) };
    agent.take(from_collector::Frame::Greeting(nothing)).unwrap();
    agent.batch(SECOND);
    assert!(agent.batches().is_empty() && agent.session.starved());
    agent.pass(50 * SECOND);
    agent.take(from_collector::Frame::Credit(v1::Credit { bytes: 4 << 20 })).unwrap();
    let sent = agent.batches();
    assert!(!sent.is_empty() && !agent.session.starved());
    agent.take(ack(&sent)).unwrap();
    let good = route::good(true, &Err(LinkError::Closed), false, before, agent.state.moved());
    assert_eq!(good, Good::Something);
}

#[test]
fn a_session_without_anything_to_send_is_as_good_as_one_that_is_answered() {
    let mut agent = Agent::new(LanesConfig::default());
    let before = agent.state.moved();
    agent.session.opened(agent.now);
    agent.frames();
    let nothing = v1::Greeting { credit_bytes: 0, ..greeting(Vec::new(), START) };
    agent.take(from_collector::Frame::Greeting(nothing)).unwrap();
    while agent.now < 600 * SECOND {
        let time = agent.session.wake_at().unwrap() - agent.now;
        agent.pass(time);
        assert!(agent.batches().is_empty());
        agent.session.tick(agent.now).unwrap();
    }
    let (starved, cut) = (agent.session.starved(), Err(LinkError::Closed));
    assert_eq!(route::good(true, &cut, starved, before, agent.state.moved()), Good::Something);
}

#[test]
fn what_a_session_was_good_for_goes_by_what_came_of_it() {
    use Good::{Nothing, Something, Unknown};
    let moved = |sent, acked| Moved { sent, acked };
    let (cut, stalled) = (Err(LinkError::Closed), Err(LinkError::Stalled(ACK_TIMEOUT)));
    let good = |end: &_, starved, after| route::good(true, end, starved, moved(5, 5), after);
    assert_eq!(good(&Ok(()), false, moved(6, 5)), Something, "it ended as it should");
    assert_eq!(good(&cut, false, moved(5, 5)), Something, "there was nothing to send");
    assert_eq!(good(&cut, false, moved(7, 6)), Something);
    assert_eq!(good(&cut, true, moved(7, 6)), Something);
    assert_eq!(good(&stalled, false, moved(7, 6)), Something);
    assert_eq!(good(&stalled, true, moved(5, 5)), Nothing, "something waited for credit");
    assert_eq!(good(&cut, false, moved(6, 5)), Nothing);
    assert_eq!(good(&cut, true, moved(6, 5)), Nothing);
    assert_eq!(good(&cut, true, moved(5, 5)), Unknown, "something waited for credit, and not for long");
    assert_eq!(route::good(false, &cut, false, moved(5, 5), moved(5, 5)), Nothing, "it never greeted");
}

/// A session with batches that wait, over a collector that asks for a pause of a second whenever something came, and every five
/// seconds in a pause. Every `acks`-th batch it takes first. How the session ended, and how often it was asked for a pause.
fn put_off(agent: &mut Agent, acks: Option<usize>, until: Duration) -> (Option<LinkError>, usize) {
    agent.open(Vec::new());
    let (mut sent, mut asked) = (0, 0);
    while agent.now < until {
        agent.batch(SECOND);
        let batches = agent.batches();
        sent += batches.len();
        if acks.is_some_and(|every| sent >= every) {
            sent = 0;
            agent.take(ack(&batches)).unwrap();
        }
        asked += 1;
        if let Err(error) = agent.take(slow_down(1000, "overloaded")) {
            return (Some(error), asked);
        }
        let wake = agent.session.wake_at().unwrap();
        agent.pass(wake - agent.now);
        if let Err(error) = agent.session.tick(agent.now) {
            return (Some(error), asked);
        }
    }
    (None, asked)
}

#[test]
fn a_collector_that_asks_to_wait_for_ever_is_given_up_after_a_minute_and_leads_to_the_fallback() {
    let mut agent = Agent::new(LanesConfig::default());
    let (before, mut route) = (agent.state.moved(), Route::new(true));
    assert_eq!(route.way(agent.now), Way::Url);
    let (end, _) = put_off(&mut agent, None, 600 * SECOND);
    assert!(matches!(&end, Some(LinkError::Later { reason, .. }) if reason == "overloaded"), "{end:?}");
    assert!((60 * SECOND..90 * SECOND).contains(&agent.now), "{:?}", agent.now);
    assert_eq!(agent.status().stalls, 1, "it is said that nothing is acknowledged");
    let (end, starved) = (Err(end.unwrap()), agent.session.starved());
    agent.session.closed(agent.now, "put off");
    let good = route::good(true, &end, starved, before, agent.state.moved());
    assert_eq!(good, Good::Nothing);
    route.ended(good, agent.now);
    assert_eq!(route.way(agent.now), Way::Fallback);
}

#[test]
fn a_collector_that_asks_to_wait_and_takes_something_in_between_keeps_its_session() {
    let mut agent = Agent::new(LanesConfig::default());
    let (end, asked) = put_off(&mut agent, Some(20), 600 * SECOND);
    assert!(end.is_none() && asked > 300, "{end:?} after {asked}");
}

#[test]
fn a_session_that_was_cut_in_a_pause_before_anything_left_is_of_no_known_use() {
    let mut agent = Agent::new(LanesConfig::default());
    let before = agent.state.moved();
    for waits in [false, true] {
        agent.open(Vec::new());
        agent.take(slow_down(5000, "overloaded")).unwrap();
        if waits {
            agent.batch(SECOND);
        }
        assert!(agent.batches().is_empty());
        let starved = agent.session.starved();
        agent.session.closed(agent.now, "cut");
        let good = route::good(true, &Err(LinkError::Closed), starved, before, agent.state.moved());
        assert_eq!(good, if waits { Good::Unknown } else { Good::Something });
    }
}

/// Once each of them made the pause longer: a store that was away for a moment cost up to half a minute.
#[test]
fn what_is_said_of_each_batch_that_was_under_way_is_one_request_to_wait() {
    let mut agent = Agent::new(LanesConfig::default());
    agent.host.draw.store(u32::MAX, Ordering::Relaxed);
    agent.open(Vec::new());
    for round in 0..2 {
        (0..20).for_each(|_| agent.batch(SECOND));
        let sent = agent.batches().len();
        assert!(sent >= 20, "{sent}");
        for _ in 0..sent {
            agent.take(slow_down(1000, "the store is away")).unwrap();
            agent.pass(Duration::from_millis(1));
        }
        assert!(agent.batches().is_empty());
        // A second and a quarter behind the last word.
        agent.pass(Duration::from_millis(1250));
        let again = agent.batches();
        assert!(again.len() >= sent, "{} of {sent} in round {round}", again.len());
        agent.take(ack(&again)).unwrap();
    }
}
