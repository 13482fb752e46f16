//! What a seed stands for: sizes, speeds, and which faults come when. Drawn once, before the run.
//!
//! Each run has some kinds of fault and not others (swarm testing, Groce et al. 2012): a fault that
//! happens all the time hides what only the absence of it shows.

use seglog::sim::{Call, Point};

use crate::clock::{MS, SECOND, Time};
use crate::rng::Rng;

/// One thing that goes wrong, or is done to the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The agent's process is killed.
    Kill,
    /// The host's power is cut: what was not synced may be lost.
    Power,
    /// The same during the n-th writing call from now.
    PowerDuring(u64),
    /// The same during the n-th call from now of one kind on one part of the data.
    PowerAt(Point),
    /// The collector's process is killed: what it had not committed is gone.
    CollectorCrash,
    /// The same right after a commit, before anybody was told.
    CollectorCrashUntold,
    /// The connection breaks and both sides learn of it.
    Cut,
    /// The connection carries nothing any more, and nobody is told.
    Hole,
    /// There is no way to the collector for so long.
    Down(Time),
    /// The agent's disk has room for this many bytes more, for so long.
    DiskFull(u64, Time),
    /// The n-th fsync from now fails.
    FailSync(u64),
    /// The n-th write from now fails.
    FailWrite(u64),
    /// The host is switched off, its disk is copied, and both copies run on.
    Clone,
    /// The fold gets another configuration.
    Config(usize),
    /// The collector asks to wait for so long.
    SlowDown(Time),
    /// The collector asks for definitions that it has.
    NeedDefinitions,
    /// The collector refuses the next batch for good.
    Refuse,
    /// A byte on the agent's disk changes.
    Rot,
    /// One of the last record of journal or spool.
    RotLast,
    /// One file of the agent's can't be opened for so long.
    Unreadable(Time),
    /// One file of its logs, or the spool's cursor, isn't opened by the system for so long: the disk has it, and nothing may be lost.
    Withheld(Time),
    /// A part of the agent's data takes no writes and no fsyncs for so long.
    Unwritable(&'static str, Time),
}

impl Fault {
    /// Its name in the report.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kill => "agent killed",
            Self::Power | Self::PowerDuring(_) | Self::PowerAt(_) => "power cut",
            Self::CollectorCrash => "collector killed",
            Self::CollectorCrashUntold => "collector killed before its acks left",
            Self::Cut => "link cut",
            Self::Hole => "link black-holed",
            Self::Down(_) => "no link for a while",
            Self::DiskFull(..) => "disk full",
            Self::FailSync(_) => "fsync failed",
            Self::FailWrite(_) => "write failed",
            Self::Clone => "disk cloned",
            Self::Config(_) => "configuration changed",
            Self::SlowDown(_) => "collector asked to wait",
            Self::NeedDefinitions => "definitions asked for",
            Self::Refuse => "batch refused",
            Self::Rot | Self::RotLast => "byte on disk changed",
            Self::Unreadable(_) => "file not given by the disk",
            Self::Withheld(_) => "file not opened by the system",
            Self::Unwritable(..) => "disk takes nothing",
        }
    }
}

/// What a run is for: which promises can be checked exactly depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Aim {
    /// Whatever fails, nothing is lost and nothing is stored twice.
    Faults,
    /// The same with the power going inside the short steps: checkpoint, cursor, unlink. They come often here.
    Steps,
    /// Two machines with copies of one disk.
    Clones,
    /// A spool that is too small: what is dropped is counted.
    Overflow,
    /// The same where raw readings become windows before anything is dropped.
    Thin,
    /// Bytes on the disk change: what is lost is damage.
    Rot,
    /// The disk answers with errors (EIO) for a while: what is given up is damage.
    Eio,
    /// A long outage and a slow link: fresh readings first.
    Outage,
}

/// Everything a run is made of.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where it was drawn from.
    pub seed: u64,
    /// What it is for.
    pub aim: Aim,
    /// Devices send and faults come until then.
    pub until: Time,
    /// Mean pause between the sendings of each device.
    pub devices: Vec<Device>,
    /// What the fold is told; the first at the start.
    pub configs: Vec<&'static str>,
    /// Journal: bytes of a segment, cap.
    pub journal: (u64, u64),
    /// Spool: bytes of a segment, cap, payload bytes of a batch.
    pub spool: (u64, u64, usize),
    /// What doesn't fit becomes windows of so many nanoseconds.
    pub thin: Option<i64>,
    /// An fsync takes up to so long.
    pub disk: Time,
    /// A frame travels at least so long, up to so much more, and at so many bytes a second.
    pub net: (Time, Time, u64),
    /// What the collector grants; frames in one commit; how long a commit takes.
    pub collector: (u64, usize, Time),
    /// The agent's disk says too early of these files that they are durable: a run that must fail.
    pub lie: Option<&'static str>,
    /// When what goes wrong.
    pub faults: Vec<(Time, Fault)>,
}

/// One sender.
#[derive(Clone, Copy, Debug)]
pub struct Device {
    /// Mean pause between two sendings.
    pub pause: Time,
    /// Most readings in one sending.
    pub readings: u64,
    /// How many series it has.
    pub series: u64,
    /// True when its metric may be routed into windows.
    pub windowed: bool,
    /// Its clock is this much behind.
    pub late: Time,
}

const RAW: &str = "{}";
/// Parts of the data folder, and the calls that change them.
const STEPS: [(&str, &[Call]); 5] = [
    ("/data/journal", &[Call::Create, Call::Write, Call::Sync, Call::SyncDir, Call::Unlink]),
    ("/data/spool/log", &[Call::Create, Call::Write, Call::Sync, Call::SyncDir, Call::Unlink]),
    ("/data/spool/cursor", &[Call::Write, Call::Sync]),
    ("/data/spool/heads", &[Call::Create, Call::Write, Call::Unlink]),
    ("/data/fold.checkpoint", &[Call::Write, Call::Sync]),
];
const CONFIGS: [&str; 5] = [
    RAW,
    r#"{"route":[{"match":"flow.*","to":"window","window":"1s"}]}"#,
    r#"{"route":[{"match":"flow.*","to":"window","window":"10s"}]}"#,
    r#"{"route":[{"match":"flow.*","to":"window","window":"250ms"}],"lateness":"0s"}"#,
    r#"{"route":[{"match":"flow.*","to":"window","window":"5s"}],"lateness":"4s"}"#,
];

impl Plan {
    /// Draws a plan.
    pub fn draw(seed: u64) -> Self {
        let mut rng = Rng::new(seed, 1);
        let aim = match rng.range(0, 99) {
            0..=11 => Aim::Steps,
            12..=63 => Aim::Faults,
            64..=66 => Aim::Eio,
            67..=69 => Aim::Thin,
            70..=79 => Aim::Clones,
            80..=86 => Aim::Overflow,
            87..=92 => Aim::Rot,
            _ => Aim::Outage,
        };
        let until = rng.range(10, 45) * SECOND;
        let windows = !matches!(aim, Aim::Clones);
        let mut plan = Self {
            seed,
            aim,
            until,
            devices: (0..rng.range(1, 4)).map(|_| device(&mut rng, windows)).collect(),
            configs: if windows { CONFIGS.to_vec() } else { vec![RAW] },
            journal: (rng.scale(2 << 10, 64 << 10), rng.scale(32 << 10, 1 << 20)),
            spool: (rng.scale(2 << 10, 64 << 10), 1 << 30, rng.scale(100, 16 << 10) as usize),
            disk: rng.scale(100_000, 30 * MS),
            net: (rng.scale(50_000, 150 * MS), rng.scale(1_000, 50 * MS), rng.scale(20_000, 100_000_000)),
            collector: (rng.scale(4 << 10, 1 << 20), rng.range(1, 64) as usize, rng.scale(100_000, 50 * MS)),
            thin: None,
            lie: None,
            faults: Vec::new(),
        };
        let first = rng.range(0, plan.configs.len() as u64 - 1) as usize;
        plan.configs.swap(0, first);
        if aim == Aim::Overflow {
            plan.spool.1 = plan.spool.0 * rng.range(4, 12);
        }
        if aim == Aim::Thin {
            plan.thin(&mut rng);
        }
        match aim {
            Aim::Outage => plan.outage(&mut rng),
            Aim::Steps => plan.steps(&mut rng),
            _ => plan.faults(&mut rng),
        }
        plan
    }

    /// Whether the collector takes batches in parts; a quarter of the runs has one of before there were any.
    pub fn parts(&self) -> bool {
        !self.seed.is_multiple_of(4)
    }

    /// Whether only journal and checkpoint rot, in a third of the runs: then what open windows lose is known to the reading, since
    /// no row of a window is lost with its batch.
    pub fn spares_spool(&self) -> bool {
        self.seed.is_multiple_of(3)
    }

    /// Whether a log may have to be opened anew while the agent runs: after a failed write, or as it wasn't given at the start.
    pub fn reopens(&self) -> bool {
        let reopens = |fault: &Fault| {
            use Fault::{FailSync, FailWrite, Unwritable, Withheld};
            matches!(fault, FailSync(_) | FailWrite(_) | Unwritable(..) | Withheld(_))
        };
        self.faults.iter().any(|(_, fault)| reopens(fault))
    }

    /// Whether each row that is lost is a reading, or is counted as those that it was made of.
    pub fn loses_readings(&self) -> bool {
        self.thin.is_some() && self.configs == [RAW]
    }

    /// Much comes, and little of it fits until the link is back.
    fn thin(&mut self, rng: &mut Rng) {
        self.thin = Some(rng.one(&[1, 10]) * SECOND as i64);
        self.spool = (rng.scale(2 << 10, 8 << 10), 0, rng.scale(500, 4 << 10) as usize);
        self.spool.1 = self.spool.0 * rng.range(4, 10);
        for device in &mut self.devices {
            device.pause = rng.scale(20 * MS, 200 * MS);
            device.readings = rng.range(10, 40);
            device.windowed &= rng.chance(1, 2);
        }
        if rng.chance(1, 2) {
            self.configs = vec![RAW];
        }
        let down = rng.range(self.until / 4, self.until / 2);
        self.faults.push((rng.range(0, self.until / 2), Fault::Down(down)));
    }

    fn outage(&mut self, rng: &mut Rng) {
        self.until = rng.range(40, 60) * SECOND;
        let down = rng.range(15, 25) * SECOND;
        self.faults = vec![(rng.range(1, 5) * SECOND, Fault::Down(down))];
        self.devices.truncate(3);
        for device in &mut self.devices {
            *device = Device { pause: rng.range(50, 200) * MS, windowed: false, late: 0, ..*device };
        }
        self.configs = vec![RAW];
        self.spool.2 = rng.range(1_000, 4_000) as usize;
        self.journal.1 = 1 << 20;
        self.disk = MS;
        let rate: u64 = self.devices.iter().map(|d| d.readings * 20 * SECOND / d.pause).sum();
        // What is fresh fits through twice over. A collector of before parts gets whole batches, which nothing overtakes: of
        // these a second's worth must fit through several times over.
        let room =
            if self.parts() { (2 * rate + 8_000).max(24_000) } else { (5 * rate + 16_000).max(80_000) };
        self.net = (rng.range(1, 40) * MS, 5 * MS, room);
        if self.parts() {
            self.spool.2 = rng.range(1_000, 64_000) as usize;
        }
        self.collector = (self.collector.0, self.collector.1.max(8), rng.range(1, 20) * MS);
    }

    /// Small files and a small journal: a checkpoint, and what it lets go, several times a second.
    fn steps(&mut self, rng: &mut Rng) {
        self.journal = (rng.scale(1 << 10, 8 << 10), rng.scale(24 << 10, 160 << 10));
        self.spool = (rng.scale(1 << 10, 8 << 10), 1 << 30, rng.scale(100, 2 << 10) as usize);
        self.disk = rng.scale(100_000, 5 * MS);
        for device in &mut self.devices {
            device.pause = rng.scale(10 * MS, 200 * MS);
        }
        // What is in windows is in no batch yet: losing it shows.
        self.devices[0].windowed = true;
        self.configs.rotate_left(rng.range(0, 4) as usize);
        for _ in 0..rng.range(8, 24) {
            let (path, calls) = rng.one(&STEPS);
            let after = rng.scale(1, 30) - 1;
            let point = Point { call: Some(rng.one(calls)), path, after };
            self.faults.push((rng.range(0, self.until), Fault::PowerAt(point)));
        }
        for _ in 0..rng.range(0, 6) {
            let span = rng.scale(100 * MS, self.until / 4);
            let kinds = [
                Fault::Down(span),
                Fault::Cut,
                Fault::Hole,
                Fault::Kill,
                Fault::CollectorCrash,
                Fault::CollectorCrashUntold,
                Fault::Config(rng.range(0, 4) as usize),
            ];
            self.faults.push((rng.range(0, self.until), rng.one(&kinds)));
        }
        self.faults.sort_unstable();
    }

    fn faults(&mut self, rng: &mut Rng) {
        let until = self.until;
        let count = if rng.chance(1, 12) { 0 } else { rng.scale(1, 24) };
        let clones = self.aim == Aim::Clones;
        let mut kinds: Vec<u64> = (0..15).filter(|_| rng.chance(1, 2)).collect();
        if kinds.is_empty() {
            kinds = vec![0];
        }
        for _ in 0..count {
            let at = rng.range(0, until);
            let span = rng.scale(100 * MS, until / 3);
            let fault = match rng.one(&kinds) {
                0 => Fault::Kill,
                1 => Fault::Power,
                2 => Fault::PowerDuring(rng.scale(1, 200)),
                3 => Fault::CollectorCrash,
                4 => Fault::CollectorCrashUntold,
                5 => Fault::Cut,
                6 => Fault::Hole,
                7 => Fault::Down(span),
                // A clone's disk that is full or fails is the other runs' matter.
                8 if !clones => Fault::DiskFull(rng.scale(1, 20_000), span),
                9 if !clones => Fault::FailSync(rng.range(0, 12)),
                10 if !clones => Fault::FailWrite(rng.range(0, 12)),
                11 if !clones => Fault::Config(rng.range(0, self.configs.len() as u64 - 1) as usize),
                12 => Fault::SlowDown(rng.scale(MS, 5 * SECOND)),
                13 => Fault::NeedDefinitions,
                14 if !clones => Fault::Refuse,
                _ => Fault::Kill,
            };
            self.faults.push((at, fault));
        }
        match self.aim {
            Aim::Clones => self.faults.push((rng.range(until / 4, until / 2), Fault::Clone)),
            Aim::Rot => {
                for _ in 0..rng.range(1, 4) {
                    self.faults.push((rng.range(0, until), Fault::Rot));
                    // Damage shows when something is read again.
                    self.faults.push((rng.range(0, until), rng.one(&[Fault::Kill, Fault::Power])));
                }
                for _ in 0..rng.range(0, 4) {
                    // The last record is soon not the last: only while the agent is down it stays so.
                    let at = rng.range(0, until);
                    self.faults.push((at, rng.one(&[Fault::Kill, Fault::Power])));
                    self.faults.push((at + MS / 2, Fault::RotLast));
                }
            }
            Aim::Eio => {
                for _ in 0..rng.range(1, 6) {
                    let at = rng.range(0, until);
                    self.faults.push((at, Fault::Unreadable(rng.scale(100 * MS, until / 2))));
                    if rng.chance(1, 2) {
                        let later = rng.range(at, until);
                        self.faults.push((later, rng.one(&[Fault::Kill, Fault::Power])));
                    }
                }
                for _ in 0..rng.range(0, 3) {
                    let part = rng.one(&STEPS.map(|(path, _)| path));
                    let fault = Fault::Unwritable(part, rng.scale(100 * MS, until / 3));
                    self.faults.push((rng.range(0, until), fault));
                }
                self.withhold(rng);
            }
            _ => {}
        }
        self.faults.sort_unstable();
    }
}

impl Plan {
    /// Files that aren't opened, most when the agent is started. In half of the runs the disk itself has no errors: whatever isn't
    /// opened then, the newest segments too, nothing is lost, and nothing is called damaged.
    fn withhold(&mut self, rng: &mut Rng) {
        if rng.chance(1, 2) {
            self.faults.retain(|(_, fault)| !matches!(fault, Fault::Unreadable(_) | Fault::Unwritable(..)));
        } else if rng.chance(1, 2) {
            return;
        }
        for _ in 0..rng.range(1, 5) {
            let at = rng.range(0, self.until);
            if rng.chance(3, 4) {
                self.faults.push((at, rng.one(&[Fault::Kill, Fault::Power])));
            }
            let span = rng.scale(100 * MS, self.until / 2);
            self.faults.push((at + MS / 2, Fault::Withheld(span)));
        }
    }
}

fn device(rng: &mut Rng, windows: bool) -> Device {
    Device {
        pause: rng.scale(20 * MS, 3 * SECOND),
        readings: rng.scale(1, 40),
        series: rng.range(1, 6),
        windowed: windows && rng.chance(1, 2),
        late: if rng.chance(1, 4) { rng.scale(100 * MS, 20 * SECOND) } else { 0 },
    }
}
