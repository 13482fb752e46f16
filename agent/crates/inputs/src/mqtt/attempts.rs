//! Wrong passwords: who sends them is slowed, by address, and nobody else is.
//!
//! A few are free, as everyone mistypes. After those each further attempt from that address waits, longer with each
//! wrong one, in one line with the others from there; a right password waits as long, so that the time tells
//! nothing. The line is short: whoever finds it full is sent away at once, without a check, so that
//! neither connections nor hashes pile up. One wrong password is forgiven a minute. A password that was right before
//! needs no attempt: a device that is known comes in whatever else comes from its address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Wrong ones that cost nothing.
const FREE: u32 = 5;
/// What the next one waits; then twice as long, and so on.
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(10);
/// One is forgiven in this time.
const FORGIVEN: Duration = Duration::from_secs(60);
/// Wrong ones beyond this many change nothing.
const MOST: u32 = 20;
/// In line from one address.
const LINE: u32 = 4;
/// Addresses remembered; the one that was heard of longest ago goes.
const ADDRESSES: usize = 4_096;

/// The line is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany;

#[derive(Debug)]
struct Failures {
    wrong: u32,
    /// When the last was wrong, or forgiven.
    since: Instant,
    /// When the last in line is let on.
    last: Instant,
    waiting: u32,
}

#[derive(Debug, Default)]
struct Table {
    by_address: HashMap<IpAddr, Failures>,
    waiting: usize,
}

/// Wrong passwords by address.
#[derive(Debug)]
pub struct Attempts {
    table: Mutex<Table>,
    /// Most in line of all addresses.
    most_waiting: usize,
}

/// An address as far as one sender is told from another: of IPv6 a host has a whole /64.
fn sender(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        address => address,
    }
}

impl Failures {
    fn forgive(&mut self, now: Instant) {
        let forgiven = now.duration_since(self.since).as_secs() / FORGIVEN.as_secs();
        let forgiven = u32::try_from(forgiven).unwrap_or(u32::MAX);
        if forgiven >= self.wrong {
            (self.wrong, self.since) = (0, now);
        } else {
            self.wrong -= forgiven;
            self.since += FORGIVEN * forgiven;
        }
    }

    fn pause(&self) -> Duration {
        match self.wrong.checked_sub(FREE) {
            None | Some(0) => Duration::ZERO,
            Some(beyond) => FIRST.saturating_mul(1 << (beyond - 1).min(MOST)).min(LONGEST),
        }
    }
}

/// A place in the line, given back however the wait ends.
struct Place<'a>(&'a Attempts, IpAddr);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut table = self.0.table.lock();
        table.waiting -= 1;
        if let Some(failures) = table.by_address.get_mut(&self.1) {
            failures.waiting -= 1;
        }
    }
}

impl Attempts {
    /// At most `most_waiting` attempts wait at a time.
    pub fn new(most_waiting: usize) -> Self {
        Self { table: Mutex::default(), most_waiting: most_waiting.max(1) }
    }

    /// Returns when an address may try a password.
    ///
    /// # Errors
    /// [`TooMany`]: it must not, now.
    pub async fn turn(&self, address: IpAddr) -> Result<(), TooMany> {
        let address = sender(address);
        let (due, _place) = {
            let mut table = self.table.lock();
            let now = Instant::now();
            let waiting = table.waiting;
            let Some(failures) = table.by_address.get_mut(&address) else { return Ok(()) };
            failures.forgive(now);
            let pause = failures.pause();
            if pause.is_zero() {
                return Ok(());
            }
            if failures.waiting >= LINE || waiting >= self.most_waiting {
                return Err(TooMany);
            }
            failures.waiting += 1;
            failures.last = failures.last.max(now) + pause;
            let due = failures.last;
            table.waiting += 1;
            (due, Place(self, address))
        };
        tokio::time::sleep_until(due).await;
        Ok(())
    }

    /// A password from there was wrong.
    pub fn wrong(&self, address: IpAddr) {
        let address = sender(address);
        let mut table = self.table.lock();
        let now = Instant::now();
        if table.by_address.len() >= ADDRESSES && !table.by_address.contains_key(&address) {
            let quiet = table.by_address.iter().filter(|(_, failures)| failures.waiting == 0);
            if let Some(oldest) =
                quiet.min_by_key(|(_, failures)| failures.since).map(|(address, _)| *address)
            {
                table.by_address.remove(&oldest);
            }
        }
        let failures = table.by_address.entry(address).or_insert(Failures {
            wrong: 0,
            since: now,
            last: now,
            waiting: 0,
        });
        failures.forgive(now);
        failures.wrong = (failures.wrong + 1).min(MOST);
        failures.since = now;
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::Arc;

    use super::*;

    const ATTACKER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 66));
    const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 7));

    async fn wait(attempts: &Attempts, address: IpAddr) -> Duration {
        let begun = Instant::now();
        attempts.turn(address).await.unwrap();
        begun.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_few_are_free_then_each_waits_longer_and_other_addresses_never() {
        let attempts = Attempts::new(100);
        let mut waits = Vec::new();
        for _ in 0..16 {
            waits.push(wait(&attempts, ATTACKER).await.as_millis());
            attempts.wrong(ATTACKER);
        }
        assert_eq!(waits[..6], [0; 6]);
        assert!((100..110).contains(&waits[6]) && (200..210).contains(&waits[7]), "{waits:?}");
        assert!(waits[14..].iter().all(|wait| (10_000..10_010).contains(wait)), "{waits:?}");
        assert_eq!(wait(&attempts, OTHER).await, Duration::ZERO);
        // An hour later all is forgiven.
        tokio::time::advance(Duration::from_secs(3_600)).await;
        assert_eq!(wait(&attempts, ATTACKER).await, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn the_line_of_an_address_is_short_and_its_places_come_back() {
        let attempts = Arc::new(Attempts::new(100));
        for _ in 0..20 {
            attempts.wrong(ATTACKER);
        }
        let line: Vec<_> = (0..LINE)
            .map(|_| {
                let attempts = Arc::clone(&attempts);
                tokio::spawn(async move { wait(&attempts, ATTACKER).await })
            })
            .collect();
        tokio::task::yield_now().await;
        assert_eq!(attempts.turn(ATTACKER).await, Err(TooMany));
        assert_eq!(attempts.turn(OTHER).await, Ok(()));
        // One behind the other, so many connections at once are no faster than one.
        let mut last = Duration::ZERO;
        for one in line {
            last = one.await.unwrap();
        }
        assert!(last >= LONGEST * LINE, "{last:?}");
        assert_eq!(attempts.turn(ATTACKER).await, Ok(()));
        assert_eq!(attempts.table.lock().waiting, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn many_addresses_take_bounded_memory_and_places() {
        let attempts = Attempts::new(1);
        for n in 0..2 * ADDRESSES as u32 {
            // The last two are heard of last.
            tokio::time::advance(Duration::from_millis(u64::from(n >= 2 * ADDRESSES as u32 - 2))).await;
            for _ in 0..=FREE {
                attempts.wrong(IpAddr::V4(Ipv4Addr::from_bits(n)));
            }
        }
        assert_eq!(attempts.table.lock().by_address.len(), ADDRESSES);
        let last = IpAddr::V4(Ipv4Addr::from_bits(2 * ADDRESSES as u32 - 1));
        let before = IpAddr::V4(Ipv4Addr::from_bits(2 * ADDRESSES as u32 - 2));
        let mut first = std::pin::pin!(attempts.turn(last));
        assert!(tokio::time::timeout(Duration::from_millis(1), &mut first).await.is_err());
        assert_eq!(attempts.turn(before).await, Err(TooMany));
        assert_eq!(first.await, Ok(()));
    }

    #[test]
    fn a_host_of_ipv6_is_its_64_bit_network() {
        let of = |text: &str| sender(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:2"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
    }
}
