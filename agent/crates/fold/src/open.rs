//! Open windows over a restart, when a record that was folded before is gone: which of them batches may have already.
//!
//! Behind the checkpoint everything is folded again, and what batches have is passed over. With all records that gives the
//! windows of before. Without one, the watermark may lag that it had moved: windows stay open that had left, and would come
//! again with readings that are stored. So batches say, with the number of readings in open windows, two things that make
//! sure of the rest: the latest end of all windows that have left (one that ends later never has), and which
//! routes decided what goes into windows. What isn't sure is given up. As the windows that stay hold nothing that is
//! stored, what the batches' number says beyond theirs is lost, to the reading.

use telemetry::OpenWindows;

use crate::fold::Fold;

/// The latest end that is told apart from one that isn't known.
const LAST: i64 = i64::MAX - 1;

impl Fold {
    /// How many readings are in open windows.
    pub fn held(&self) -> u64 {
        self.held
    }

    /// What batches are to say of the open windows; `None` where there is none and nothing is reduced to windows.
    pub fn open(&self) -> Option<OpenWindows> {
        let some = self.held > 0 || self.config.has_windows();
        some.then(|| OpenWindows { readings: self.held, routes: self.routes, left: self.left.by.min(LAST) })
    }

    /// Windows that end here or before have left, as batches say.
    pub fn left_by(&mut self, open: &OpenWindows) {
        if let Some(left) = open.left_by() {
            self.left.by = self.left.by.max(left);
        }
    }

    /// Gives up the open windows that may have left, by what batches say of the place where this fold stands.
    pub fn give_up(&mut self, open: Option<&OpenWindows>) {
        let known = open.filter(|open| open.routes == self.routes);
        // In other routes readings that are in windows here may have been samples there.
        let left = known.and_then(OpenWindows::left_by).unwrap_or(i64::MAX);
        for device in &mut self.devices {
            device.reset_open();
            for at in 0..device.series.len() {
                let series = &mut self.series[device.series[at] as usize];
                for window in series.open.extract_if(.., |window| window.end.min(LAST) <= left) {
                    self.held = self.held.saturating_sub(window.count());
                    self.left.by = self.left.by.max(window.end);
                }
                series.open.iter().for_each(|window| device.opened(window.end, window.late));
            }
        }
    }

    /// Other routes: whatever came until now may have gone elsewhere than it would by the new ones.
    pub(crate) fn routes_changed(&mut self) {
        let longest = self.config.longest_window();
        let heard = self.devices.iter().filter(|device| device.newest > i64::MIN);
        let ends = heard.map(|device| device.newest.saturating_add(longest));
        self.left.by = ends.fold(self.left.by, i64::max);
    }
}
