//! Batches of boots of which nobody knows yet when they were: which, how many bytes, and of how many boots.

use std::collections::{BTreeMap, BTreeSet};

use telemetry::Boot;

use crate::ClockHeld;
use crate::entry::Entry;
use crate::state::Order;

/// What waits until it is known when its boot was. Its sums are kept, since they are asked for all the time.
#[derive(Default)]
pub(crate) struct Held {
    orders: BTreeSet<Order>,
    bytes: u64,
    boots: BTreeMap<Boot, u64>,
}

impl Held {
    pub(crate) fn is_empty(&self) -> bool {
        self.orders.is_empty()
    }

    pub(crate) fn insert(&mut self, order: Order, entry: &Entry) {
        if self.orders.insert(order) {
            self.bytes += u64::from(entry.bytes);
            let boot = entry.group.clock.unwrap_or_default();
            *self.boots.entry(boot).or_default() += 1;
        }
    }

    pub(crate) fn remove(&mut self, order: Order, entry: &Entry) {
        if self.orders.remove(&order) {
            self.bytes -= u64::from(entry.bytes);
            less(&mut self.boots, entry.group.clock.unwrap_or_default());
        }
    }

    pub(crate) fn take(&mut self) -> BTreeSet<Order> {
        std::mem::take(self).orders
    }

    pub(crate) fn sums(&self) -> ClockHeld {
        ClockHeld { batches: self.orders.len() as u64, bytes: self.bytes, boots: self.boots.len() as u64 }
    }
}

/// One fewer of a boot. True when it was the last.
pub(crate) fn less(boots: &mut BTreeMap<Boot, u64>, boot: Boot) -> bool {
    let Some(count) = boots.get_mut(&boot) else { return false };
    *count -= 1;
    let last = *count == 0;
    if last {
        boots.remove(&boot);
    }
    last
}
