//! One seed from plan to verdict, and many of them.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

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
    run_plan(Plan::draw(seed), told, record)
}

/// Runs a plan.
pub fn run_plan(plan: Plan, told: bool, record: Option<&Path>) -> Verdict {
    let seed = plan.seed;
    let run = || {
        let recorder = record.map(|dir| Recorder::create(dir, seed)).transpose();
        let recorder = recorder.map_err(|error| format!("the trace can't be written: {error}"));
        let recorder = match recorder {
            Ok(recorder) => recorder,
            Err(failure) => return Verdict { seed, failures: vec![failure], ..Verdict::default() },
        };
        if told {
            crate::trace::say(&format!("{plan:?}"));
        }
        let mut world = World::new(plan.clone(), told, recorder);
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

/// Runs seeds on some threads; `done` is called for each, in the order of the seeds.
pub fn run_all(
    seeds: &[u64],
    jobs: usize,
    run: impl Fn(u64) -> Verdict + Sync,
    done: impl FnMut(Verdict) + Send,
) {
    let waiting = Mutex::new((0, BTreeMap::new(), done));
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(seed) = seeds.get(at) else { return };
                    let verdict = run(*seed);
                    let Ok(mut waiting) = waiting.lock() else { return };
                    let (turn, early, done) = &mut *waiting;
                    early.insert(at, verdict);
                    while let Some(verdict) = early.remove(turn) {
                        done(verdict);
                        *turn += 1;
                    }
                }
            });
        }
    });
}
