//! What a fault of the plan does to the world.

use wire::v1::{self, from_collector};

use crate::clock::{MS, SECOND};
use crate::host::Host;
use crate::plan::Fault;
use crate::world::{Event, World};

impl World {
    /// One of the plan's faults happens.
    pub(crate) fn fail(&mut self, fault: Fault) {
        let host = self.rng.range(0, self.hosts.len() as u64 - 1) as usize;
        self.count(fault);
        self.note(fault.name(), [host as u64, 0, 0]);
        match fault {
            Fault::Kill | Fault::Power => {
                if self.hosts[host].agent.is_some() {
                    self.fall(host, fault == Fault::Power);
                }
            }
            Fault::PowerDuring(calls) => self.hosts[host].disk.crash_after(calls),
            Fault::PowerAt(point) => self.hosts[host].disk.crash_at(point),
            Fault::CollectorCrash => self.collector_falls(),
            Fault::CollectorCrashUntold => self.untold = true,
            Fault::Cut => self.cut(host),
            Fault::Hole => {
                if let Some(conn) = self.connection(host) {
                    self.swallow(conn);
                }
            }
            Fault::Down(span) => {
                self.down_until = self.agenda.now() + span;
                for host in 0..self.hosts.len() {
                    match self.connection(host) {
                        Some(conn) if self.rng.chance(1, 2) => self.swallow(conn),
                        Some(_) => self.cut(host),
                        None => {}
                    }
                }
            }
            Fault::DiskFull(bytes, span) => {
                let disk = &self.hosts[host].disk;
                disk.set_capacity(Some(disk.used() + bytes));
                self.agenda.after(span, Event::DiskHasRoom(host));
            }
            Fault::FailSync(calls) => self.hosts[host].disk.fail_sync_after(calls),
            Fault::FailWrite(calls) => self.hosts[host].disk.fail_write_after(calls),
            Fault::Clone => self.clone_host(host),
            Fault::Config(config) => self.configure_anew(host, config),
            Fault::SlowDown(span) => self.slow_down(span / MS),
            Fault::NeedDefinitions => self.collector.forget += 1,
            Fault::Refuse => self.collector.refuse += 1,
            Fault::Rot => self.rot(host),
            Fault::RotLast => self.rot_last(host),
            Fault::Unreadable(span) => {
                self.refuse(host);
                self.agenda.after(span, Event::DiskGives(host));
            }
            Fault::Withheld(span) => {
                self.withhold(host);
                self.agenda.after(span, Event::DiskGives(host));
            }
            Fault::Unwritable(part, span) => {
                self.hosts[host].disk.fail_writes(part);
                self.agenda.after(span, Event::DiskGives(host));
            }
        }
    }

    /// The connection breaks; what is under way arrives or doesn't.
    fn cut(&mut self, host: usize) {
        let Some(conn) = self.connection(host) else { return };
        self.conns[conn].hole = self.rng.chance(1, 2);
        let delay = self.rng.scale(MS, SECOND);
        self.agenda.after(delay, Event::Broken(conn));
        let delay = self.rng.scale(MS, SECOND);
        self.agenda.after(delay, Event::HungUp(conn));
    }

    fn clone_host(&mut self, host: usize) {
        // A machine is switched off before its disk is copied.
        if self.hosts[host].agent.is_none() {
            return;
        }
        self.fall(host, true);
        let number = self.hosts.len();
        let seed = self.rng.next();
        let disk = self.hosts[host].disk.image(seed);
        let mut clone = Host::new(seed, number as u64, disk, &self.now);
        clone.boots = self.hosts[host].boots + 100;
        clone.boot(self.agenda.now());
        self.hosts.push(clone);
        let delay = self.rng.scale(MS, 10 * SECOND);
        self.agenda.after(delay, Event::Start(number));
        for at in 0..self.devices.len() {
            let (device, of) = self.devices[at];
            if of == host {
                self.agenda.after(delay + MS, Event::Send(self.devices.len()));
                self.devices.push((device, number));
            }
        }
    }

    fn configure_anew(&mut self, host: usize, config: usize) {
        self.hosts[host].config = config;
        let now = self.agenda.now();
        let records = self.hosts[host].standing(&self.plan, now);
        if let Some(agent) = &mut self.hosts[host].agent {
            agent.unconfigured |= agent.journal.append_all(&records).is_err();
            self.wake_commit(host);
        }
    }

    /// The collector can't store now: what waits is forgotten, and everyone is asked to come again.
    fn slow_down(&mut self, after_ms: u64) {
        if !self.collector_up {
            return;
        }
        for (conn, bytes) in self.collector.forget_waiting() {
            self.answer(conn, from_collector::Frame::Credit(v1::Credit { bytes }));
            let slow = v1::SlowDown { after_ms: after_ms as u32, reason: "the store is away".into() };
            self.answer(conn, from_collector::Frame::SlowDown(slow));
        }
    }
}
