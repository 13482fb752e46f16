//! The run itself: one event after the other, until everything is with the collector.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prost::Message;
use seglog::sim::SimDisk;
use wire::v1::{self, FromAgent, FromCollector, from_agent, from_collector};

use crate::clock::{Agenda, MS, SECOND, Time, US, WALL};
use crate::collector::{Collector, Conn, Outcome};
use crate::host::Host;
use crate::net::{Connection, Way};
use crate::plan::{Device, Fault, Plan};
use crate::readings::Readings;
use crate::record::Recorder;
use crate::rng::Rng;
use crate::trace::Trace;

/// After the last fault everything must be with the collector within this time.
const DRAIN: Time = 900 * SECOND;
/// What the fold says of itself is a moment old: so many looks must find nothing left.
const CALM: u32 = 3;
/// More events than any run of a minute has, and in each further second: one that never ends.
const MOST_EVENTS: (u64, u64) = (20_000_000, 20_000);

/// What happens next.
pub(crate) enum Event {
    Send(usize),
    Commit(usize, u32),
    Fold(usize, u32, u64),
    Link(usize, u32, u64),
    Dial(usize, u32),
    Start(usize),
    Up(Conn, Box<FromAgent>),
    Down(Conn, Box<FromCollector>),
    /// The agent's end learns that the connection is gone.
    Broken(Conn),
    /// The collector's end does.
    HungUp(Conn),
    Store(u32),
    CollectorStart,
    Fault(usize),
    DiskHasRoom(usize),
    DiskGives(usize),
    /// Are we done?
    Look,
}

/// Everything there is.
pub struct World {
    pub(crate) plan: Plan,
    pub(crate) agenda: Agenda<Event>,
    pub(crate) rng: Rng,
    pub(crate) trace: Trace,
    pub(crate) recorder: Option<Recorder>,
    pub(crate) now: Arc<AtomicU64>,
    pub(crate) hosts: Vec<Host>,
    /// With the host that each belongs to.
    pub(crate) devices: Vec<(Device, usize)>,
    pub(crate) conns: Vec<Connection>,
    pub(crate) collector: Collector,
    pub(crate) collector_life: u32,
    pub(crate) collector_up: bool,
    pub(crate) storing: bool,
    /// The next commit is the collector's last word to nobody.
    pub(crate) untold: bool,
    pub(crate) down_until: Time,
    pub(crate) readings: Readings,
    pub(crate) faults: BTreeMap<&'static str, u64>,
    /// When the last session began, of those after which nothing fails.
    pub(crate) returned: Option<Time>,
    /// A byte of a disk was changed.
    pub(crate) rotten: bool,
    /// One of the fold's checkpoint, or of the journal that it is made good from.
    pub(crate) lost_state: bool,
    /// One of the spool.
    pub(crate) spool_rotten: bool,
    /// Faults and senders are done.
    pub(crate) over: bool,
    /// How many looks in a row found everything with the collector.
    pub(crate) calm: u32,
    /// Bytes of batches that went up, live and backlog, by the time of their sending.
    pub(crate) carried: BTreeMap<Time, [u64; 2]>,
    /// Why it didn't end as it should.
    pub(crate) stuck: Option<String>,
}

impl World {
    /// Before anything happened.
    pub fn new(plan: Plan, told: bool, recorder: Option<Recorder>) -> Self {
        let now = Arc::new(AtomicU64::new(0));
        let disk = SimDisk::new(plan.seed ^ 0x5eed);
        if let Some(path) = plan.lie {
            disk.lie_about(path);
        }
        let host = Host::new(plan.seed, 0, disk, &now);
        let mut agenda = Agenda::default();
        agenda.after(0, Event::Start(0));
        agenda.after(SECOND, Event::Look);
        for (at, (when, _)) in plan.faults.iter().enumerate() {
            agenda.at(*when, Event::Fault(at));
        }
        let devices: Vec<_> = plan.devices.iter().map(|device| (*device, 0)).collect();
        for at in 0..devices.len() {
            agenda.after(MS, Event::Send(at));
        }
        Self {
            rng: Rng::new(plan.seed, 2),
            trace: Trace::new(told),
            recorder,
            now,
            hosts: vec![host],
            devices,
            conns: Vec::new(),
            collector: Collector::default(),
            collector_life: 1,
            collector_up: true,
            storing: false,
            untold: false,
            down_until: 0,
            readings: Readings::default(),
            faults: BTreeMap::new(),
            returned: None,
            rotten: false,
            lost_state: false,
            spool_rotten: false,
            over: false,
            calm: 0,
            carried: BTreeMap::new(),
            stuck: None,
            plan,
            agenda,
        }
    }

    /// Runs to the end.
    pub fn run(&mut self) {
        for _ in 0..MOST_EVENTS.0 + self.plan.until / SECOND * MOST_EVENTS.1 {
            let Some(event) = self.agenda.take() else { break };
            let now = self.agenda.now();
            self.now.store(now, Ordering::Relaxed);
            self.happen(event);
            for host in 0..self.hosts.len() {
                if self.hosts[host].disk.is_off() {
                    self.fall(host, true);
                }
            }
            if self.calm >= CALM {
                return;
            }
            if now > self.plan.until + DRAIN {
                break;
            }
        }
        let why =
            |host: &Host| host.agent.as_ref().map_or("not running".into(), |agent| agent.why_not_drained());
        self.stuck = Some(self.hosts.iter().map(why).collect::<Vec<_>>().join("; "));
    }

    pub(crate) fn note(&mut self, what: &str, numbers: [u64; 3]) {
        self.trace.note(self.agenda.now(), what, numbers);
    }

    fn drained(&self) -> bool {
        self.collector.waiting() == 0
            && self.hosts.iter().all(|host| host.agent.as_ref().is_some_and(|agent| agent.drained()))
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Send(device) => self.send(device),
            Event::Commit(host, life) => self.commit(host, life),
            Event::Fold(host, life, turn) => self.fold(host, life, turn),
            Event::Link(host, life, turn) => self.link(host, life, turn),
            Event::Dial(host, life) => self.dial(host, life),
            Event::Start(host) => self.start(host),
            Event::Up(conn, frame) => self.arrive_up(conn, *frame),
            Event::Down(conn, frame) => self.arrive_down(conn, *frame),
            Event::Broken(conn) => self.broken(conn),
            Event::HungUp(conn) => {
                self.conns[conn].collector = false;
                self.collector.hang_up(conn);
            }
            Event::Store(life) => self.store(life),
            Event::CollectorStart => {
                self.note("collector starts", [0; 3]);
                self.collector_up = true;
            }
            Event::Fault(at) => {
                let (_, fault) = self.plan.faults[at];
                self.fail(fault);
            }
            Event::DiskHasRoom(host) => {
                self.note("disk has room", [host as u64, 0, 0]);
                self.hosts[host].disk.set_capacity(None);
            }
            Event::DiskGives(host) => {
                self.note("disk gives again", [host as u64, 0, 0]);
                self.hosts[host].disk.give_again();
            }
            Event::Look => self.look(),
        }
    }

    /// The senders' and the faults' time is over at one moment: from then on all is well.
    fn look(&mut self) {
        self.agenda.after(SECOND, Event::Look);
        self.calm = if self.over && self.drained() { self.calm + 1 } else { 0 };
        if self.agenda.now() >= self.plan.until && !self.over {
            self.over = true;
            self.note("faults are over", [0; 3]);
            self.down_until = 0;
            self.untold = false;
            (self.collector.forget, self.collector.refuse) = (0, 0);
            for host in &self.hosts {
                host.disk.mend();
                host.disk.give_again();
            }
        }
    }

    // --- the host

    fn start(&mut self, host: usize) {
        let now = self.agenda.now();
        if self.hosts[host].agent.is_some() {
            return;
        }
        let plan = self.plan.clone();
        if std::mem::take(&mut self.hosts[host].newest_refused) {
            self.hosts[host].disk.give_again();
        }
        self.lost_state |= self.hosts[host].fall_silent(&mut self.readings);
        if let Err(error) = self.hosts[host].start(&plan, now) {
            // Whoever supervises it tries again.
            self.note("start failed", [host as u64, 0, 0]);
            if self.trace.told() {
                self.trace.say(&error);
            }
            self.hosts[host].disk.kill();
            self.agenda.after(SECOND, Event::Start(host));
            return;
        }
        let life = self.hosts[host].life;
        self.note("agent starts", [host as u64, u64::from(life), 0]);
        self.wake_commit(host);
        self.wake_fold(host, 0);
        self.agenda.after(10 * MS, Event::Dial(host, life));
    }

    /// The agent is gone, with its host's power or alone.
    pub(crate) fn fall(&mut self, host: usize, power: bool) {
        let now = self.agenda.now();
        self.note(if power { "power cut" } else { "agent killed" }, [host as u64, 0, 0]);
        let this = &mut self.hosts[host];
        if power {
            this.disk.crash();
            this.boot(now);
        } else {
            this.disk.kill();
        }
        if let Some(agent) = this.agent.take() {
            for (_, values) in &agent.waiting {
                self.readings.tell(values, crate::readings::Told::Unknown);
            }
            if let Some(conn) = agent.conn {
                self.conns[conn].agent = false;
                if power {
                    self.conns[conn].hole = true;
                } else {
                    // What was sent arrives, and then the end of the stream.
                    self.agenda.after(SECOND, Event::HungUp(conn));
                }
            }
            let pause = self.rng.scale(MS, 5 * SECOND);
            self.agenda.after(pause, Event::Start(host));
        }
    }

    pub(crate) fn wake_commit(&mut self, host: usize) {
        let delay = self.rng.range(20 * US, self.plan.disk);
        let life = self.hosts[host].life;
        if let Some(agent) = &mut self.hosts[host].agent
            && !agent.committing
        {
            agent.committing = true;
            self.agenda.after(delay, Event::Commit(host, life));
        }
    }

    pub(crate) fn wake_fold(&mut self, host: usize, delay: Time) {
        let life = self.hosts[host].life;
        if let Some(agent) = &mut self.hosts[host].agent {
            agent.fold_turn += 1;
            self.agenda.after(delay, Event::Fold(host, life, agent.fold_turn));
        }
    }

    pub(crate) fn wake_link(&mut self, host: usize, at: Time) {
        let life = self.hosts[host].life;
        if let Some(agent) = &mut self.hosts[host].agent {
            agent.link_turn += 1;
            self.agenda.at(at, Event::Link(host, life, agent.link_turn));
        }
    }

    fn commit(&mut self, host: usize, life: u32) {
        let now = self.agenda.now();
        let this = &mut self.hosts[host];
        let Some(agent) = this.agent.as_mut().filter(|_| this.life == life) else { return };
        agent.committing = false;
        let step = agent.journal.step();
        let (mut acked, mut failed) = (0, 0);
        let (journal, readings) = (&agent.journal, &mut self.readings);
        agent.waiting.retain(|(position, values)| match journal.settled(*position) {
            None => true,
            Some(Ok(())) => {
                acked += values.len() as u64;
                readings.tell(values, crate::readings::Told::Acked(now));
                false
            }
            Some(Err(_)) => {
                failed += values.len() as u64;
                readings.tell(values, crate::readings::Told::Unknown);
                false
            }
        });
        self.note("commit", [host as u64, acked, failed]);
        match step {
            journal::Step::Progress => {
                self.wake_commit(host);
                let delay = self.rng.range(US, 200 * US);
                self.wake_fold(host, delay);
            }
            journal::Step::Stalled => {
                if let Some(agent) = &mut self.hosts[host].agent {
                    agent.committing = true;
                    self.agenda.after(SECOND, Event::Commit(host, life));
                }
            }
            journal::Step::Idle | journal::Step::Ended => {}
        }
    }

    fn fold(&mut self, host: usize, life: u32, turn: u64) {
        let stamp = self.hosts[host].stamp(self.agenda.now());
        let this = &mut self.hosts[host];
        let Some(agent) = this.agent.as_mut().filter(|agent| this.life == life && agent.fold_turn == turn)
        else {
            return;
        };
        let step = agent.driver.step(stamp);
        let cut = agent.spool.usage().next_seq;
        let delay = match step {
            folding::Step::Progress => self.rng.range(US, 50 * US),
            folding::Step::Idle(pause) | folding::Step::Blocked(pause) => nanos(pause).max(US),
            folding::Step::Ended => return,
        };
        let kind = matches!(step, folding::Step::Blocked(_));
        self.note("fold", [host as u64, cut, u64::from(kind)]);
        if !matches!(step, folding::Step::Progress) {
            self.configure(host);
            self.wake_commit(host);
        }
        self.wake_fold(host, delay);
        let soon = self.agenda.now() + self.rng.range(US, 100 * US);
        self.wake_link(host, soon);
    }

    /// The configuration goes into the journal as soon as there is room.
    fn configure(&mut self, host: usize) {
        let now = self.agenda.now();
        let records = self.hosts[host].standing(&self.plan, now);
        if let Some(agent) = self.hosts[host].agent.as_mut().filter(|agent| agent.unconfigured) {
            agent.unconfigured = agent.journal.append_all(&records).is_err();
        }
    }

    // --- the collector

    fn arrive_up(&mut self, conn: Conn, frame: FromAgent) {
        let now = self.agenda.now();
        if !self.conns[conn].collector || self.conns[conn].hole || !self.collector_up {
            return;
        }
        let Some(frame) = frame.frame else { return };
        if let from_agent::Frame::Hello(hello) = &frame {
            let (credit, parts) = (self.plan.collector.0, self.plan.parts());
            let greeting = self.collector.greet(conn, hello, credit, parts, now);
            self.note("greeted", [conn as u64, hello.unacked.len() as u64, greeting.conflicts.len() as u64]);
            if let Some(recorder) = &mut self.recorder {
                recorder.greeting(conn, hello, &greeting);
            }
            self.answer(conn, from_collector::Frame::Greeting(greeting));
            return;
        }
        let frame = match frame {
            from_agent::Frame::Part(part) => {
                let (bytes, whole) = self.collector.part(conn, &part);
                self.note("part arrived", [conn as u64, bytes, 0]);
                self.answer(conn, from_collector::Frame::Taken(v1::Taken { bytes }));
                let Some(batch) = whole else { return };
                from_agent::Frame::Batch(batch)
            }
            frame => frame,
        };
        self.note("arrived", [conn as u64, u64::from(seq(&frame)), 0]);
        self.collector.take(conn, frame);
        self.plan_store();
    }

    fn plan_store(&mut self) {
        if self.collector.waiting() > 0 && !std::mem::replace(&mut self.storing, true) {
            let delay = self.rng.range(50 * US, self.plan.collector.2);
            self.agenda.after(delay, Event::Store(self.collector_life));
        }
    }

    fn store(&mut self, life: u32) {
        if life != self.collector_life {
            return;
        }
        self.storing = false;
        let now = self.agenda.now();
        let (committed, said) = self.collector.commit(self.plan.collector.1, now, &mut self.readings);
        for one in &committed {
            let outcome = match one.outcome {
                Outcome::Stored => 0,
                Outcome::Duplicate => 1,
                Outcome::Conflict(_) => 2,
                Outcome::NeedDefinitions(_) | Outcome::Forgot(_) => 3,
                Outcome::Refused => 4,
            };
            self.note("stored", [u64::from(seq(&one.frame)), outcome, committed.len() as u64]);
        }
        if let Some(recorder) = &mut self.recorder {
            recorder.commit(&committed, now);
        }
        if std::mem::take(&mut self.untold) {
            return self.collector_falls();
        }
        for (conn, frame) in said {
            self.answer(conn, frame);
        }
        self.plan_store();
    }

    pub(crate) fn answer(&mut self, conn: Conn, frame: from_collector::Frame) {
        let now = self.agenda.now();
        if !self.conns[conn].collector {
            return;
        }
        let frame = FromCollector { frame: Some(frame) };
        let bytes = frame.encoded_len() as u64;
        let at = self.conns[conn].send(Way::Down, bytes, self.plan.net, &mut self.rng, now);
        self.agenda.at(at, Event::Down(conn, Box::new(frame)));
    }

    pub(crate) fn collector_falls(&mut self) {
        if !std::mem::replace(&mut self.collector_up, false) {
            return;
        }
        self.note("collector killed", [0; 3]);
        self.collector_life += 1;
        self.storing = false;
        self.collector.crash();
        if let Some(recorder) = &mut self.recorder {
            recorder.crash();
        }
        for conn in 0..self.conns.len() {
            if std::mem::replace(&mut self.conns[conn].collector, false) && self.conns[conn].agent {
                let delay = self.plan.net.0;
                self.agenda.after(delay, Event::Broken(conn));
            }
        }
        let pause = self.rng.scale(20 * MS, 10 * SECOND);
        self.agenda.after(pause, Event::CollectorStart);
    }

    /// What the wall clock says.
    pub(crate) fn wall(&self) -> i64 {
        WALL + self.agenda.now() as i64
    }

    /// Faults of a kind are counted when they happen.
    pub(crate) fn count(&mut self, fault: Fault) {
        *self.faults.entry(fault.name()).or_default() += 1;
    }
}

pub(crate) fn nanos(duration: Duration) -> Time {
    Time::try_from(duration.as_nanos()).unwrap_or(Time::MAX / 2)
}

fn seq(frame: &from_agent::Frame) -> u32 {
    let seq = match frame {
        from_agent::Frame::Batch(batch) => batch.seq,
        from_agent::Frame::Loss(loss) => loss.seq,
        _ => 0,
    };
    seq as u32
}
