//! A session is driven here as a link would, with a clock of our own.

use std::sync::atomic::{AtomicI64, Ordering};

use proptest::prelude::*;
use seglog::sim::SimDisk;
use spool::SpoolConfig;
use telemetry::{Cause, Rows, SeriesDef, SeriesKey, SeriesTable};
use wire::RangeSet;

use super::*;
use crate::config::LanesConfig;
use crate::route::{self, Good, Route, Way};
use crate::state::Moved;
use crate::units::Rate;

const SECOND: Duration = Duration::from_secs(1);
const START: i64 = 1_800_000_000_000_000_000;
const HOUR: i64 = 3_600_000_000_000;

struct Bench {
    wall: AtomicI64,
}

impl Host for Bench {
    fn wall(&self) -> i64 {
        self.wall.load(Ordering::Relaxed)
    }
    fn mono(&self) -> u64 {
        0
    }
    fn status_json(&self) -> String {
        "{}".into()
    }
    fn draw(&self) -> u32 {
        0
    }
}

/// An agent's spool and sessions, and how long it has been running.
struct Agent {
    session: Session,
    spool: Spool,
    table: Arc<SeriesTable>,
    host: Arc<Bench>,
    state: Arc<LinkState>,
    now: Duration,
    position: u64,
}

impl Agent {
    fn new(lanes: LanesConfig) -> Self {
        let disk = SimDisk::new(7);
        let table = SeriesTable::new(100);
        let config = SpoolConfig { min_free_bytes: 0, ..SpoolConfig::new("/spool") };
        let (spool, _) = Spool::open(config, disk.storage(), Arc::clone(&table), "edge").unwrap();
        let host = Arc::new(Bench { wall: AtomicI64::new(START) });
        let state = Arc::new(LinkState::new(&lanes));
        let identity =
            Identity { agent: "edge".into(), version: "0".into(), boot: [1; 16], labels: Vec::new() };
        let session = Session::new(
            identity,
            spool.clone(),
            Arc::clone(&host) as Arc<dyn Host>,
            Arc::clone(&state),
            Lanes::new(&lanes).unwrap(),
        );
        Self { session, spool, table, host, state, now: Duration::ZERO, position: 0 }
    }

    fn status(&self) -> crate::LinkStatus {
        self.state.status(&self.spool.usage(), self.host.wall())
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.host.wall.fetch_add(time.as_nanos() as i64, Ordering::Relaxed);
    }

    /// One batch of readings that are so old.
    fn batch(&mut self, age: Duration) {
        self.position += 1;
        let mut rows = Rows::default();
        for sensor in 0..20 {
            let key = SeriesKey::new("m", [("device", format!("d{sensor}"))]).unwrap();
            let series = self.table.intern(SeriesDef::bare(key)).unwrap();
            let time = self.host.wall() - age.as_nanos() as i64;
            rows.push_sample(series, time, self.position as f64 + 0.1 * f64::from(sensor), 0);
        }
        rows.count(Cause::Received, 20);
        self.spool.append(self.position, &rows, false).unwrap();
        // Of the spool's clock nothing is fresh: the age of the readings alone decides the lane.
        self.spool.cut_if_due(Duration::from_secs(1000 * self.position)).unwrap();
        self.spool.cut().unwrap();
        self.spool.cut_if_due(Duration::from_secs(1000 * self.position + 500)).unwrap();
    }

    /// All frames that may be sent now.
    fn frames(&mut self) -> Vec<from_agent::Frame> {
        let mut frames = Vec::new();
        while let Some(frame) = self.session.next_frame(self.now).unwrap() {
            frames.push(frame.frame.unwrap());
            assert!(frames.len() < 10_000, "the session never stops talking");
        }
        frames
    }

    /// The batches of those.
    fn batches(&mut self) -> Vec<v1::Batch> {
        let batch = |frame| match frame {
            from_agent::Frame::Batch(batch) => Some(batch),
            _ => None,
        };
        self.frames().into_iter().filter_map(batch).collect()
    }

    fn take(&mut self, frame: from_collector::Frame) -> Result<(), LinkError> {
        self.session.take(v1::FromCollector { frame: Some(frame) }, self.now)
    }

    fn open(&mut self, holdings: Vec<v1::Holdings>) -> v1::Hello {
        self.session.opened(self.now);
        let Some(from_agent::Frame::Hello(hello)) = self.frames().pop() else { panic!("no hello") };
        self.take(from_collector::Frame::Greeting(greeting(holdings, START))).unwrap();
        hello
    }
}

fn greeting(holdings: Vec<v1::Holdings>, wall_ns: i64) -> v1::Greeting {
    v1::Greeting {
        wire: WIRE,
        collector: "1".into(),
        holdings,
        conflicts: Vec::new(),
        credit_bytes: 4 << 20,
        max_batch_bytes: 4 << 20,
        wall_ns,
        parts: true,
    }
}

fn ack(batches: &[v1::Batch]) -> from_collector::Frame {
    let holdings = batches.iter().map(|batch| v1::Holdings {
        epoch: batch.epoch.clone(),
        upto: 0,
        ranges: vec![v1::Range { first: batch.seq, last: batch.seq }],
    });
    from_collector::Frame::Ack(v1::Ack { holdings: holdings.collect() })
}

fn slow_down(after_ms: u32, reason: &str) -> from_collector::Frame {
    from_collector::Frame::SlowDown(v1::SlowDown { after_ms, reason: reason.into() })
}

#[test]
fn a_session_begins_with_a_hello_and_says_nothing_more_before_the_greeting() {
    let mut agent = Agent::new(LanesConfig::default());
    agent.batch(SECOND);
    agent.session.opened(agent.now);
    let frames = agent.frames();
    assert!(matches!(frames.as_slice(), [from_agent::Frame::Hello(hello)] if hello.unacked.len() == 1));
    assert!(!agent.session.greeted());
    agent.take(from_collector::Frame::Greeting(greeting(Vec::new(), START - 5_000_000))).unwrap();
    assert!(agent.session.greeted());
    assert_eq!(agent.status().skew_ms, Some(5.0));
    assert_eq!(agent.batches().len(), 1);
}

#[test]
fn the_greeting_tells_a_host_without_a_clock_when_its_boot_was() {
    let mut agent = Agent::new(LanesConfig::default());
    agent.host.wall.store(5_000_000_000, Ordering::Relaxed);
    let key = SeriesKey::new("m", [("device", "d")]).unwrap();
    let series = agent.table.intern(SeriesDef::bare(key)).unwrap();
    let mut rows = Rows::default();
    rows.since([1; 16]).push_sample(series, -3_000_000_000, 1.0, 4);
    agent.spool.append(1, &rows, false).unwrap();
    agent.spool.cut().unwrap();
    agent.session.opened(agent.now);
    assert_eq!(agent.frames().len(), 1, "the hello");
    agent.pass(SECOND * 4);
    agent.take(from_collector::Frame::Greeting(greeting(Vec::new(), START))).unwrap();
    let batches = agent.batches();
    // The bench's monotonic clock stands at 0; half the round trip is on top of the collector's word.
    assert_eq!((batches.len(), batches[0].clock_offset_ns), (1, START + 2_000_000_000));
    assert_eq!(batches[0].t0_ns, -3_000_000_000);
}

#[test]
fn a_collector_that_does_not_greet_in_time_ends_the_session() {
    let mut agent = Agent::new(LanesConfig::default());
    agent.session.opened(agent.now);
    agent.frames();
    assert_eq!(agent.session.wake_at(), Some(GREETING_TIMEOUT));
    agent.pass(GREETING_TIMEOUT - Duration::from_millis(1));
    agent.session.tick(agent.now).unwrap();
    agent.pass(Duration::from_millis(1));
    assert!(matches!(agent.session.tick(agent.now), Err(LinkError::NoGreeting(_))));
}

#[test]
fn another_frame_than_a_greeting_or_another_version_ends_the_session() {
    let mut agent = Agent::new(LanesConfig::default());
    agent.session.opened(agent.now);
    agent.frames();
    assert!(matches!(agent.take(ack(&[])), Err(LinkError::NoGreeting(_))));
    let newer = v1::Greeting { wire: 2, ..greeting(Vec::new(), START) };
    let newer = from_collector::Frame::Greeting(newer);
    assert!(matches!(agent.take(newer), Err(LinkError::Version { ours: 1, theirs: 2 })));
}

#[test]
fn acks_that_stay_away_end_the_session_and_what_was_under_way_is_sent_again() {
    let mut agent = Agent::new(LanesConfig::default());
    agent.open(Vec::new());
    agent.batch(SECOND);
    let sent = agent.batches();
    assert_eq!(sent.len(), 1);
    // The link ate them: nothing comes, only our own status goes out.
    let error = loop {
        let wake = agent.session.wake_at().unwrap();
        assert!(wake > agent.now, "a wake in the past would spin");
        let time = wake - agent.now;
        agent.pass(time);
        if let Err(error) = agent.session.tick(agent.now) {
            break error;
        }
        assert!(agent.batches().is_empty());
    };
    assert!(matches!(error, LinkError::Stalled(_)));
    assert_eq!(agent.now, ACK_TIMEOUT);
    agent.session.closed(agent.now, &error.to_string());

    let hello = agent.open(Vec::new());
    assert_eq!(hello.unacked.len(), 1);
    let again = agent.batches();
    assert_eq!((again[0].seq, &again[0].payload), (sent[0].seq, &sent[0].payload));
    agent.take(ack(&again)).unwrap();
    assert_eq!(agent.spool.usage().batches, 0);
}

#[test]
fn what_the_collector_got_before_the_link_died_is_settled_by_its_greeting() {
    let mut agent = Agent::new(LanesConfig::default());
    agent.open(Vec::new());
    agent.batch(SECOND);
    agent.batch(SECOND);
    let sent = agent.batches();
    assert_eq!(sent.len(), 2);
    agent.session.closed(agent.now, "the link broke");
    let held = v1::Holdings { epoch: sent[0].epoch.clone(), upto: 1, ranges: Vec::new() };
    agent.open(vec![held]);
    let again = agent.batches();
    assert_eq!(again.iter().map(|batch| batch.seq).collect::<Vec<_>>(), [2]);
}

#[test]
fn a_collector_that_asks_to_wait_gets_nothing_but_the_status_until_then() {
    let mut agent = Agent::new(LanesConfig::default());
    agent.open(Vec::new());
    agent.batch(SECOND);
    let sent = agent.batches();
    agent.take(slow_down(60_000, "the store is busy")).unwrap();
    let (mut status, mut again) = (0, Vec::new());
    let end = Duration::from_secs(60);
    while agent.now < end {
        let time = agent.session.wake_at().unwrap() - agent.now;
        agent.pass(time);
        agent.session.tick(agent.now).unwrap();
        for frame in agent.frames() {
            match frame {
                from_agent::Frame::Status(_) => status += 1,
                from_agent::Frame::Batch(batch) => again.push((agent.now, batch.seq)),
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(again, [(end, sent[0].seq)]);
    assert_eq!(status, 12);
    let told = agent.status().slow_down.unwrap();
    assert_eq!((told.reason.as_str(), told.until_ns - told.at_ns), ("the store is busy", 60_000_000_000));
}

#[test]
fn a_collector_that_lost_the_session_or_refuses_it_for_now_ends_it() {
    for reason in GOODBYES {
        let mut agent = Agent::new(LanesConfig::default());
        agent.open(Vec::new());
        let error = agent.take(slow_down(1000, reason)).unwrap_err();
        assert_eq!(error.come_back(), Some(SECOND));
    }
    let mut agent = Agent::new(LanesConfig::default());
    agent.session.opened(agent.now);
    agent.frames();
    assert_eq!(agent.take(slow_down(2000, "full")).unwrap_err().come_back(), Some(2 * SECOND));
}

#[test]
fn silence_on_a_link_where_each_status_is_answered_ends_the_session() {
    let mut agent = Agent::new(LanesConfig::default());
    agent.open(Vec::new());
    agent.session.expect_word_every(30 * SECOND);
    agent.pass(29 * SECOND);
    agent.take(ack(&[])).unwrap();
    agent.pass(29 * SECOND);
    agent.session.tick(agent.now).unwrap();
    agent.pass(SECOND);
    assert!(matches!(agent.session.tick(agent.now), Err(LinkError::Silent(_))));
}

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

#[test]
fn the_end_waits_for_acks_but_not_for_ever() {
    let mut agent = Agent::new(LanesConfig::default());
    agent.open(Vec::new());
    agent.batch(SECOND);
    let sent = agent.batches();
    agent.session.finish(Finish::Drain, agent.now);
    assert!(!agent.session.finished(agent.now));
    agent.take(ack(&sent)).unwrap();
    assert!(agent.session.finished(agent.now));

    let mut agent = Agent::new(LanesConfig::default());
    agent.open(Vec::new());
    agent.batch(SECOND);
    agent.batches();
    agent.batch(SECOND);
    agent.session.finish(Finish::Settle, agent.now);
    assert!(agent.batches().is_empty(), "another link takes over: nothing new is sent");
    agent.pass(FINISH_TIMEOUT);
    assert!(agent.session.finished(agent.now));
}

#[test]
fn before_and_after_a_session_there_is_nothing_to_say() {
    let mut agent = Agent::new(LanesConfig::default());
    assert_eq!(agent.session.wake_at(), None);
    assert!(matches!(agent.session.next_frame(agent.now), Err(LinkError::NotOpen)));
    agent.open(Vec::new());
    agent.session.closed(agent.now, "over");
    assert!(matches!(agent.take(ack(&[])), Err(LinkError::NotOpen)));
    assert_eq!(agent.status().last_error, "over");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Links die, acks get lost, the collector asks to wait: every batch is stored in the end, once under its name.
    #[test]
    fn whatever_the_link_does_every_batch_arrives(steps in prop::collection::vec(0u8..8, 1..80)) {
        let mut agent = Agent::new(LanesConfig { limit: Rate(50_000), ..LanesConfig::default() });
        let mut stored: std::collections::BTreeMap<u64, Vec<u8>> = std::collections::BTreeMap::new();
        let mut held = RangeSet::new();
        let (mut made, mut up) = (0, false);
        let epoch = agent.spool.usage().epoch.unwrap().0;
        let holdings = |held: &RangeSet| vec![held.to_holdings(&epoch)];
        for step in steps.into_iter().chain([6]).chain([7, 5].repeat(40)) {
            match step {
                0 | 1 => {
                    agent.batch(if step == 0 { SECOND } else { 600 * SECOND });
                    made += 1;
                }
                2 if up => {
                    agent.session.closed(agent.now, "the link broke");
                    up = false;
                }
                3 if up => agent.take(slow_down(500, "busy")).unwrap(),
                4 => agent.pass(SECOND),
                5 if up => agent.take(from_collector::Frame::Ack(v1::Ack { holdings: holdings(&held) })).unwrap(),
                6 if !up => {
                    agent.open(holdings(&held));
                    up = true;
                }
                7 if up => {
                    agent.pass(10 * SECOND);
                    for batch in agent.batches() {
                        let known = stored.entry(batch.seq).or_insert_with(|| batch.payload.to_vec());
                        prop_assert_eq!(&known[..], &batch.payload[..]);
                        held.insert(batch.seq);
                    }
                }
                _ => {}
            }
        }
        prop_assert_eq!(stored.len(), made);
        agent.take(from_collector::Frame::Ack(v1::Ack { holdings: holdings(&held) })).unwrap();
        prop_assert_eq!(agent.spool.usage().batches, 0);
    }
}

/// One large batch of the backlog.
fn large(agent: &mut Agent) -> usize {
    let series =
        agent.table.intern(SeriesDef::bare(SeriesKey::new("noise", [("device", "d")]).unwrap())).unwrap();
    agent.position += 1;
    let mut rows = Rows::default();
    let mut value = 1_u64;
    for n in 0..5_000_i64 {
        value = value.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        rows.push_sample(series, START - 3_600_000_000_000 + n, f64::from_bits(value >> 2), 0);
    }
    rows.count(Cause::Received, 5_000);
    agent.spool.append(agent.position, &rows, false).unwrap();
    agent.spool.cut_if_due(Duration::from_secs(1000 * agent.position)).unwrap();
    agent.spool.cut().unwrap();
    agent.spool.cut_if_due(Duration::from_secs(1000 * agent.position + 500)).unwrap();
    agent.spool.usage().bytes as usize
}

fn parts(frames: &[from_agent::Frame]) -> Vec<&v1::Part> {
    frames
        .iter()
        .filter_map(|frame| match frame {
            from_agent::Frame::Part(part) => Some(part),
            _ => None,
        })
        .collect()
}

#[test]
fn a_large_batch_goes_in_parts_and_a_fresh_one_passes_between_them() {
    let mut agent = Agent::new(LanesConfig::default());
    let size = large(&mut agent);
    agent.open(Vec::new());
    let (mut bytes, mut taken, mut fresh) = (Vec::new(), 0, None);
    while bytes.len() < size {
        let frames = agent.frames();
        let now = parts(&frames);
        let batches = frames.iter().filter_map(|frame| match frame {
            from_agent::Frame::Batch(batch) => Some(batch),
            _ => None,
        });
        for batch in batches {
            assert_eq!(batch.seq, 2);
            fresh = Some((bytes.len(), batch.clone()));
        }
        assert!(!now.is_empty(), "stuck at {} of {size}", bytes.len());
        assert!(now.iter().map(|part| part.data.len()).sum::<usize>() < size / 2, "not all of it at once");
        for part in now {
            assert_eq!(part.offset as usize, bytes.len());
            bytes.extend_from_slice(&part.data);
            taken += part.data.len() as u64;
        }
        if fresh.is_none() {
            agent.batch(SECOND);
        }
        agent.pass(SECOND / 10);
        agent.take(from_collector::Frame::Taken(v1::Taken { bytes: taken })).unwrap();
    }
    let old = v1::Batch::decode(bytes.as_slice()).unwrap();
    assert_eq!(old.seq, 1);
    let (at, fresh) = fresh.unwrap();
    assert!(at > 0 && at < bytes.len(), "it went at {at} of {}", bytes.len());
    assert_eq!(agent.spool.usage().batches, 2, "arrived is not stored");
    agent.take(ack(&[old, fresh])).unwrap();
    assert_eq!(agent.spool.usage().batches, 0);
}

#[test]
fn a_batch_in_parts_begins_anew_after_its_session_or_a_pause() {
    let mut agent = Agent::new(LanesConfig::default());
    let size = large(&mut agent);
    agent.open(Vec::new());
    assert_eq!(parts(&agent.frames())[0].offset, 0);
    agent.session.closed(agent.now, "the link broke");
    agent.open(Vec::new());
    assert_eq!(parts(&agent.frames())[0].offset, 0);
    agent.take(slow_down(1_000, "busy")).unwrap();
    agent.take(from_collector::Frame::Taken(v1::Taken { bytes: 1 << 20 })).unwrap();
    agent.pass(60 * SECOND);
    let frames = agent.frames();
    let again = parts(&frames);
    assert_eq!((again[0].offset, again[0].size as usize > size), (0, true));
}

#[test]
fn a_link_that_is_to_end_ends_the_batch_in_parts_first() {
    let mut agent = Agent::new(LanesConfig::default());
    let size = large(&mut agent);
    agent.open(Vec::new());
    agent.batch(3600 * SECOND);
    let mut sent: usize = parts(&agent.frames()).iter().map(|part| part.data.len()).sum();
    agent.session.finish(Finish::Settle, agent.now);
    while sent < size {
        agent.take(from_collector::Frame::Taken(v1::Taken { bytes: sent as u64 })).unwrap();
        let frames = agent.frames();
        assert!(
            !frames.iter().any(|frame| matches!(frame, from_agent::Frame::Batch(_))),
            "nothing new begins"
        );
        sent += parts(&frames).iter().map(|part| part.data.len()).sum::<usize>();
    }
    assert!(!agent.session.finished(agent.now), "its ack is waited for");
}

#[test]
fn a_collector_that_knows_no_parts_gets_the_batch_whole() {
    let mut agent = Agent::new(LanesConfig::default());
    large(&mut agent);
    agent.session.opened(agent.now);
    agent.frames();
    let older = v1::Greeting { parts: false, ..greeting(Vec::new(), START) };
    agent.take(from_collector::Frame::Greeting(older)).unwrap();
    assert_eq!(agent.batches().iter().map(|batch| batch.seq).collect::<Vec<_>>(), [1]);
}

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
