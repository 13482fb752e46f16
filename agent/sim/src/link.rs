//! An agent's link in the run: dialled, driven as the uplink's pump does it, cut and dialled again.

use std::time::Duration;

use prost::Message;
use wire::v1::{FromCollector, LaneKind, from_agent, from_collector};

use crate::clock::{MS, SECOND, US};
use crate::collector::Conn;
use crate::net::{Connection, KEEP_ALIVE, Way};
use crate::world::{Event, World, nanos};

impl World {
    pub(crate) fn dial(&mut self, host: usize, life: u32) {
        let now = self.agenda.now();
        let this = &mut self.hosts[host];
        let Some(agent) = this.agent.as_mut().filter(|agent| this.life == life && agent.conn.is_none())
        else {
            return;
        };
        if now < self.down_until || !self.collector_up {
            let (most, draw) = (self.rng.scale(MS, 3 * SECOND), (self.rng.next() >> 32) as u32);
            let pause = nanos(agent.backoff.next(draw)) + most;
            self.agenda.after(pause, Event::Dial(host, life));
            return;
        }
        let conn = self.conns.len();
        agent.conn = Some(conn);
        agent.session.opened(Duration::from_nanos(now));
        self.conns.push(Connection::new(host, life, now));
        self.note("connected", [host as u64, conn as u64, 0]);
        self.wake_link(host, now);
    }

    pub(crate) fn link(&mut self, host: usize, life: u32, turn: u64) {
        let this = &mut self.hosts[host];
        let Some(agent) = this.agent.as_mut().filter(|agent| this.life == life && agent.link_turn == turn)
        else {
            return;
        };
        let Some(conn) = agent.conn else { return };
        let now = self.agenda.now();
        let time = Duration::from_nanos(now);
        loop {
            let Some(agent) = &mut self.hosts[host].agent else { return };
            let room = self.conns[conn].room(Way::Up, self.plan.net.2, now);
            if room > now {
                return self.wake_link(host, room);
            }
            match agent.session.next_frame(time) {
                Ok(Some(frame)) => {
                    let bytes = frame.encoded_len() as u64;
                    match &frame.frame {
                        Some(from_agent::Frame::Batch(batch)) => {
                            let lane = usize::from(batch.lane() == LaneKind::LaneBacklog);
                            self.carried.entry(now).or_default()[lane] += bytes;
                        }
                        Some(from_agent::Frame::Part(_)) => self.carried.entry(now).or_default()[1] += bytes,
                        _ => {}
                    }
                    let at = self.conns[conn].send(Way::Up, bytes, self.plan.net, &mut self.rng, now);
                    self.note("sent", [conn as u64, bytes, at]);
                    self.agenda.at(at, Event::Up(conn, Box::new(frame)));
                }
                Ok(None) => break,
                Err(error) => return self.close(host, &error.to_string()),
            }
        }
        let Some(agent) = &mut self.hosts[host].agent else { return };
        if let Err(error) = agent.session.tick(time) {
            return self.close(host, &error.to_string());
        }
        if let Some(wake) = agent.session.wake_at() {
            self.wake_link(host, nanos(wake).max(now + US));
        }
    }

    /// The agent gives its session up, or learns that it is over; then it tries again.
    fn close(&mut self, host: usize, why: &str) {
        let now = self.agenda.now();
        let life = self.hosts[host].life;
        let Some(agent) = &mut self.hosts[host].agent else { return };
        let Some(conn) = agent.conn.take() else { return };
        if agent.session.greeted() {
            agent.backoff.reset();
        }
        agent.session.closed(Duration::from_nanos(now), why);
        let pause = nanos(agent.backoff.next((self.rng.next() >> 32) as u32));
        self.conns[conn].agent = false;
        self.note("session over", [host as u64, conn as u64, 0]);
        if self.trace.told() {
            self.trace.say(why);
        }
        self.agenda.after(SECOND, Event::HungUp(conn));
        self.agenda.after(pause, Event::Dial(host, life));
    }

    pub(crate) fn broken(&mut self, conn: Conn) {
        let host = self.conns[conn].host;
        if self.hosts[host].agent.as_ref().is_some_and(|agent| agent.conn == Some(conn)) {
            self.close(host, "the link broke");
        }
    }

    pub(crate) fn arrive_down(&mut self, conn: Conn, frame: FromCollector) {
        let now = self.agenda.now();
        let Connection { host, life, agent: open, hole, .. } = self.conns[conn];
        let this = &mut self.hosts[host];
        let Some(agent) = this.agent.as_mut().filter(|_| this.life == life && open && !hole) else { return };
        if matches!(frame.frame, Some(from_collector::Frame::Greeting(_))) {
            self.returned = Some(now);
        }
        match agent.session.take(frame, Duration::from_nanos(now)) {
            Ok(()) => {
                self.note("heard", [conn as u64, 0, 0]);
                // An ack may make the next cut due.
                self.wake_fold(host, US);
                self.wake_link(host, now + US);
            }
            Err(error) => self.close(host, &error.to_string()),
        }
    }

    /// The connection of a host, while it has one.
    pub(crate) fn connection(&self, host: usize) -> Option<Conn> {
        self.hosts[host].agent.as_ref().and_then(|agent| agent.conn)
    }

    /// Nothing goes through it any more; the agent learns of it by its keep-alive.
    pub(crate) fn swallow(&mut self, conn: Conn) {
        self.conns[conn].hole = true;
        self.agenda.after(KEEP_ALIVE, Event::Broken(conn));
        self.agenda.after(KEEP_ALIVE, Event::HungUp(conn));
    }
}
