//! Which batches leave when: fresh ones, the backlog, limits and hours.

use super::*;

const HOUR: i64 = 3_600_000_000_000;

#[test]
fn a_fresh_batch_leaves_before_the_backlog() {
    let mut agent = Agent::new(LanesConfig::default());
    for _ in 0..5 {
        agent.batch(3600 * SECOND);
    }
    agent.batch(SECOND);
    agent.open(Vec::new());
    let seqs: Vec<u64> = agent.batches().iter().map(|batch| batch.seq).collect();
    assert_eq!(seqs, [6, 1, 2, 3, 4, 5]);
}

#[test]
fn a_limit_holds_the_backlog_back_and_lets_a_fresh_batch_pass() {
    let mut agent = Agent::new(LanesConfig { limit: Rate(1000), ..LanesConfig::default() });
    for _ in 0..30 {
        agent.batch(3600 * SECOND);
    }
    agent.open(Vec::new());
    let first = agent.batches();
    assert!(!first.is_empty() && first.len() < 20, "{}", first.len());
    let bytes: usize = first.iter().map(Message::encoded_len).sum();
    assert!(bytes >= 900, "{bytes}");
    assert!(agent.session.wake_at().unwrap() > agent.now);
    agent.batch(SECOND);
    let fresh = agent.batches();
    assert_eq!(fresh.iter().map(|batch| batch.seq).collect::<Vec<_>>(), [31]);
}

#[test]
fn outside_its_hours_the_backlog_stays_and_fresh_batches_leave() {
    // START is 2027-01-15 08:00 UTC.
    let hours = Some("22:00-06:00 UTC".to_owned());
    let mut agent = Agent::new(LanesConfig { backlog_hours: hours, ..LanesConfig::default() });
    agent.batch(3600 * SECOND);
    agent.batch(SECOND);
    agent.open(Vec::new());
    let sent = agent.batches();
    assert_eq!(sent.iter().map(|batch| batch.seq).collect::<Vec<_>>(), [2]);
    agent.take(ack(&sent)).unwrap();
    assert!(!agent.status().lanes.backlog_open);
    agent.pass(14 * 3600 * SECOND);
    assert_eq!(agent.batches().iter().map(|batch| batch.seq).collect::<Vec<_>>(), [1]);
    assert!(agent.status().lanes.backlog_open);
}

#[test]
fn hours_keep_what_is_ten_seconds_old_and_nothing_younger() {
    let hours = Some("22:00-06:00 UTC".to_owned());
    let mut agent = Agent::new(LanesConfig { backlog_hours: hours, ..LanesConfig::default() });
    // All of it gathered in an outage; what of it is live is decided when it could be sent.
    agent.batch(3600 * SECOND);
    agent.batch(10 * SECOND);
    agent.batch(10 * SECOND - Duration::from_nanos(1));
    agent.batch(2 * SECOND);
    agent.open(Vec::new());
    let sent = agent.batches();
    assert_eq!(sent.iter().map(|batch| batch.seq).collect::<Vec<_>>(), [3, 4]);
    agent.take(ack(&sent)).unwrap();
    assert!(agent.batches().is_empty());
    agent.session.closed(agent.now, "the link broke");

    // What was live becomes backlog by waiting.
    agent.batch(2 * SECOND);
    agent.pass(8 * SECOND);
    agent.open(Vec::new());
    assert!(agent.batches().is_empty());
    let told = agent.status();
    assert_eq!((told.backlog.batches, told.backlog.waits_until_ns), (3, Some(START + 14 * HOUR)));
    let mut sent: Vec<u64> = Vec::new();
    agent.pass(Duration::from_nanos((14 * HOUR) as u64) - 8 * SECOND);
    sent.extend(agent.batches().iter().map(|batch| batch.seq));
    assert_eq!(sent, [1, 2, 5]);
    assert_eq!(agent.status().backlog.waits_until_ns, None);
}

#[test]
fn the_forecast_of_a_backlog_knows_its_hours() {
    let hours = Some("07:00-08:02 UTC".to_owned());
    let mut agent = Agent::new(LanesConfig { backlog_hours: hours, ..LanesConfig::default() });
    for _ in 0..100 {
        agent.batch(3600 * SECOND);
    }
    let offline = agent.status().backlog;
    assert_eq!((offline.caught_up_s, offline.waits_until_ns), (None, None));
    agent.open(Vec::new());
    // One batch in five seconds, for a minute: then 88 are left, and another minute of today's hours.
    let mut sent: Vec<v1::Batch> = Vec::new();
    let mut minute = |agent: &mut Agent| {
        for _ in 0..12 {
            agent.pass(5 * SECOND);
            sent.extend(agent.batches());
            let first = sent.remove(0);
            agent.take(ack(&[first])).unwrap();
            agent.session.tick(agent.now).unwrap();
        }
    };
    minute(&mut agent);
    let night = 82_680.0;
    assert_eq!(agent.status().backlog.batches, 88);
    let open = agent.status();
    assert!(open.lanes.backlog_open);
    let seconds = open.backlog.caught_up_s.unwrap();
    assert!((night + 300.0..night + 600.0).contains(&seconds), "{seconds}");

    minute(&mut agent);
    let closed = agent.status();
    assert!(!closed.lanes.backlog_open);
    assert_eq!(closed.backlog.waits_until_ns, Some(START + 23 * HOUR));
    let seconds = closed.backlog.caught_up_s.unwrap();
    assert!((night + 300.0..night + 600.0).contains(&seconds), "{seconds}");
    agent.session.closed(agent.now, "the link broke");
    let offline = agent.status();
    assert!(!offline.lanes.backlog_open, "the hours are known without a session");
    assert_eq!(offline.backlog.waits_until_ns, Some(START + 23 * HOUR));
    assert_eq!(offline.backlog.caught_up_s, None, "how fast the next one will be, nobody knows");
}

#[test]
fn a_host_whose_clock_was_never_set_goes_by_the_collectors_hour() {
    let hours = Some("22:00-06:00 UTC".to_owned());
    let mut agent = Agent::new(LanesConfig { backlog_hours: hours, ..LanesConfig::default() });
    agent.host.wall.store(0, Ordering::Relaxed);
    agent.batch(3600 * SECOND);
    agent.session.opened(agent.now);
    agent.frames();
    // There it is eight in the morning, here midnight.
    agent.take(from_collector::Frame::Greeting(greeting(Vec::new(), START))).unwrap();
    assert!(agent.batches().is_empty());
}
