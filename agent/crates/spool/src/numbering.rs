//! Series numbers: what stands in payloads in place of names. Counted up for as long as the spool
//! lives and never given to another series, whatever the epoch.

use telemetry::SeriesRef;

#[derive(Debug)]
pub(crate) struct Numbering {
    /// By index in this process's table; 0 = has none yet.
    numbers: Vec<u32>,
    next: u32,
}

impl Numbering {
    pub(crate) fn new(next: u32) -> Self {
        Self { numbers: Vec::new(), next: next.max(1) }
    }

    pub(crate) fn next(&self) -> u32 {
        self.next
    }

    /// A number that was given before. Of two for one series the later one is used.
    pub(crate) fn restore(&mut self, series: SeriesRef, number: u32) {
        *self.slot(series) = number;
        self.next = self.next.max(number.saturating_add(1));
    }

    /// A number that a batch uses: whether or not its definition was lost, no other series may have it.
    pub(crate) fn used(&mut self, number: u32) {
        self.next = self.next.max(number.saturating_add(1));
    }

    /// The number of a series; a new one gets the next.
    pub(crate) fn of(&mut self, series: SeriesRef) -> (u32, bool) {
        let next = self.next;
        let slot = self.slot(series);
        if *slot > 0 {
            return (*slot, false);
        }
        *slot = next;
        self.next = next.saturating_add(1);
        (next, true)
    }

    fn slot(&mut self, series: SeriesRef) -> &mut u32 {
        if series.index() >= self.numbers.len() {
            self.numbers.resize(series.index() + 1, 0);
        }
        &mut self.numbers[series.index()]
    }
}
