//! What the fold keeps of each series: its route, its device, its open windows.

use std::sync::Arc;

use telemetry::{SeriesDef, SeriesRef};

use crate::window::OpenWindow;
use crate::{FoldConfig, To};

/// Most windows of one series that are open at once; at more all of them leave as partials. Only
/// times in wild disorder get there, and each such window costs a search through the others.
pub(crate) const MAX_OPEN: usize = 256;

/// One series of one input.
#[derive(Debug)]
pub(crate) struct Series {
    /// Its number in this process.
    pub at: SeriesRef,
    pub device: u32,
    pub to: To,
    /// The scorer wants its samples.
    pub scored: bool,
    /// Length of its windows.
    pub length: i64,
    /// Ascending by start, no two of the same bounds.
    pub open: Vec<OpenWindow>,
    pub def: Arc<SeriesDef>,
}

impl Series {
    pub(crate) fn new(at: SeriesRef, device: u32, def: Arc<SeriesDef>, config: &FoldConfig) -> Self {
        let (to, window) = config.decide(&def.key);
        Self { at, device, to, scored: false, length: window.nanos(), open: Vec::new(), def }
    }

    /// The route by a new configuration. Open windows must have left before.
    pub(crate) fn reroute(&mut self, config: &FoldConfig) {
        let (to, window) = config.decide(&self.def.key);
        (self.to, self.length) = (to, window.nanos());
    }
}
