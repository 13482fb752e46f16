//! A batch of windows that thinning made, damaged while the raw batches it replaced are in the log still.
//!
//! Its record held what said that they are gone, so they are there again, and are sent as they are: what was counted of
//! their thinning is to be taken back, or their readings would be counted as shipped and as reduced. The echo behind the
//! batch says what that was. Those whose losses have records of their own, or that are gone too, were windows for
//! good: what is lost of them are the readings that the windows were made of.
//!
//! NOTE: the sum of all counts is corrected when the log is opened, and whatever is written afterwards builds on the
//! corrected one. So the loss of the damaged batch gets its record first (`Writer::save_corrected`), and what was written
//! behind that record isn't corrected again.

use telemetry::{Cause, Counts};

use crate::gone::difference;
use crate::record::Echo;
use crate::replay::Replay;
use crate::state::Order;
use crate::writer::exchanged;

impl Replay<'_> {
    /// What a cut counted that stands before it in the log, if that can be read.
    pub(crate) fn echo(&mut self, number: u64, echo: Echo) {
        let epoch = self.epoch(echo.key.epoch);
        self.noted(epoch, echo.key.seq, 0);
        if self.is_there((epoch, echo.key.seq)) {
            return;
        }
        // Nothing was counted between the two.
        self.state.before.clone_from(&echo.after);
        (self.counted, self.chained) = (true, number);
        self.echoes.push(echo);
    }

    /// A batch that waits, or needs no further care.
    fn is_there(&self, order: Order) -> bool {
        let done = self.state.epochs.get(&order.0).is_some_and(|epoch| epoch.done.contains(order.1));
        done || self.state.entry(order).is_some_and(|entry| !entry.loss)
    }

    /// Takes back what damaged batches of windows counted, as far as what they replaced is there.
    pub(crate) fn take_back(&mut self) {
        for echo in std::mem::take(&mut self.echoes) {
            let order = (self.epoch(echo.key.epoch), echo.key.seq);
            let loss = self.state.entry(order).map(|entry| entry.record);
            let told = loss.is_some_and(|record| record > 0 && self.chained > record);
            if self.is_there(order) || told {
                continue;
            }
            self.state.before = self.without(&echo);
            self.state.corrected = true;
        }
    }

    /// The sum of all counts with what is true of them now.
    fn without(&mut self, echo: &Echo) -> Counts {
        let mut sum = difference(&self.state.before, &echo.counts);
        let windows = echo.counts.get(Cause::Derived);
        let mut moved = echo.counts.get(Cause::Shipped).saturating_sub(windows);
        let mut windowed = echo.thinned;
        for loss in &echo.replaces {
            let order = (self.epoch(loss.key.epoch), loss.key.seq);
            let Some(batch) = self.state.entry(order).filter(|entry| !entry.loss) else { continue };
            let counts = batch.counts.counts();
            let reduced = |of: &Counts| of.get(Cause::ReducedWindow);
            let reduced = reduced(&loss.counts).saturating_sub(reduced(&counts));
            windowed = windowed.saturating_sub(reduced);
            moved = moved.saturating_sub(u64::from(batch.rows).saturating_sub(reduced));
            sum = exchanged(&sum, &loss.counts, &counts);
        }
        sum.add(Cause::Derived, windowed);
        sum.add(Cause::Shipped, windowed + moved);
        sum
    }
}
