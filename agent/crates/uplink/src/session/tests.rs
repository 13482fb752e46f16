//! A session is driven here as a link would, with a clock of our own.

use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};

use proptest::prelude::*;
use seglog::sim::SimDisk;
use spool::SpoolConfig;
use telemetry::{Cause, Rows, SeriesDef, SeriesKey, SeriesTable};
use wire::RangeSet;

use super::*;
use crate::config::LanesConfig;
use crate::units::Rate;

mod care;
mod lanes;
mod parts;
mod ways;

const SECOND: Duration = Duration::from_secs(1);
const START: i64 = 1_800_000_000_000_000_000;

struct Bench {
    wall: AtomicI64,
    draw: AtomicU32,
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
        self.draw.load(Ordering::Relaxed)
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
        let host = Arc::new(Bench { wall: AtomicI64::new(START), draw: AtomicU32::new(0) });
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
