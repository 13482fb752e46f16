//! One seed from plan to verdict, and many of them.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::check::{Sums, check};
use crate::clock::Time;
use crate::plan::Plan;
use crate::record::Recorder;
use crate::world::World;

/// What a seed came to.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    pub seed: u64,
    /// Virtual time.
    pub time: Time,
    pub sums: Sums,
    pub faults: BTreeMap<&'static str, u64>,
    /// Why it failed; nothing when it didn't.
    pub failures: Vec<String>,
    /// Equal for equal runs.
    pub hash: u64,
}

/// Runs one seed; `told` = everything that happens is printed.
pub fn run(seed: u64, told: bool, record: Option<&Path>) -> Verdict {
    let run = || {
        let recorder = record.map(|dir| Recorder::create(dir, seed)).transpose();
        let recorder = recorder.map_err(|error| format!("the trace can't be written: {error}"));
        let recorder = match recorder {
            Ok(recorder) => recorder,
            Err(failure) => return Verdict { seed, failures: vec![failure], ..Verdict::default() },
        };
        let plan = Plan::draw(seed);
        if told {
            crate::trace::say(&format!("{plan:?}"));
        }
        let mut world = World::new(plan, told, recorder);
        world.run();
        let (sums, mut failures) = check(&world);
        if let Some(stuck) = &world.stuck {
            failures.insert(0, format!("it did not drain: {stuck}"));
        }
        if let Some(recorder) = world.recorder.take()
            && let Err(error) = recorder.finish(&world.collector, &world.readings)
        {
            failures.push(format!("the trace can't be written: {error}"));
        }
        Verdict {
            seed,
            time: world.agenda.now(),
            sums,
            faults: std::mem::take(&mut world.faults),
            failures,
            hash: world.trace.hash(),
        }
    };
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        let failure = format!("panic: {}", text.unwrap_or_default());
        Verdict { seed, failures: vec![failure], ..Verdict::default() }
    })
}

/// Runs seeds on some threads; `done` is called for each, in no order.
pub fn run_all(
    seeds: std::ops::Range<u64>,
    jobs: usize,
    record: impl Fn(u64) -> Option<std::path::PathBuf> + Sync,
    done: impl Fn(Verdict) + Sync,
) {
    let next = AtomicU64::new(seeds.start);
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    done(run(seed, false, record(seed).as_deref()));
                }
            });
        }
    });
}
