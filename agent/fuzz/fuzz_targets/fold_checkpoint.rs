//! Any bytes as a fold's checkpoint and as its configuration: refused or taken, never a panic.
#![no_main]

use fold::{Fold, FoldConfig, NoScorer};
use libfuzzer_sys::fuzz_target;
use telemetry::SeriesTable;

fuzz_target!(|data: &[u8]| {
    let _ = FoldConfig::from_json(data);
    if let Ok(fold) = Fold::restore(SeriesTable::new(10_000), Box::new(NoScorer), data) {
        let _ = fold.checkpoint();
    }
});
