//! `just sim`: runs seeds and says what they found.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use serde_json::json;
use sim::clock::SECOND;
use sim::outage::Outage;
use sim::plan::{Aim, Plan};
use sim::run::{Verdict, run_all, run_plan};

/// How often a long run says how far it is.
const TELL_EVERY: Duration = Duration::from_secs(15);

/// Runs the agent's durable path on disks and networks that fail, and checks the promises P1 to P4.
#[derive(Parser)]
#[command(
    name = "sim",
    after_help = "\
A seed that fails once fails always:
  sim --seed 4711            run it again
  sim --seed 4711 --trace    and print everything that happens

Exit codes: 0 all promises kept, 1 a seed failed, 2 wrong usage."
)]
struct Cli {
    /// How many seeds to run.
    #[arg(long, default_value_t = 1_000)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Only seeds that have this aim; so many of them.
    #[arg(long, value_enum)]
    aim: Option<Aim>,
    /// Run this one alone.
    #[arg(long, conflicts_with_all = ["seeds", "from"])]
    seed: Option<u64>,
    /// Print everything that happens in it.
    #[arg(long, requires = "seed")]
    trace: bool,
    /// The agent's disk says of files with this in their path too early that they are durable: the promises must
    /// break, or the simulation would not see it if the agent didn't wait for them. As `journal`, `spool/log`,
    /// `spool/cursor`, `fold.checkpoint`.
    #[arg(long, value_name = "PATH")]
    lie: Option<String>,
    /// One run alone: the link is down for so many seconds under a steady load, then as wide as --room says.
    #[arg(long, value_name = "SECONDS", conflicts_with_all = ["seeds", "seed", "record"])]
    outage: Option<u64>,
    /// Readings a second in that run.
    #[arg(long, requires = "outage", default_value_t = 5_000)]
    rate: u64,
    /// The link's room after it, in live loads; more than 1.
    #[arg(long, requires = "outage", default_value_t = 2.0)]
    room: f64,
    /// How many run at once.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Write what arrived at the collector into this folder, for `python -m tests.sim.replay`.
    #[arg(long)]
    record: Option<PathBuf>,
    /// Of so many seeds, the first ones.
    #[arg(long, default_value_t = 100, value_name = "SEEDS")]
    traces: usize,
    /// Print the figures as JSON.
    #[arg(long)]
    json: bool,
}

/// Of all seeds.
#[derive(Default)]
struct Total {
    seeds: u64,
    seconds: f64,
    acked: u64,
    stored: u64,
    thinned: u64,
    lost: u64,
    twice: u64,
    unexplained: u64,
    late: u64,
    again: u64,
    silent: u64,
    faults: BTreeMap<&'static str, u64>,
    failed: Vec<Verdict>,
}

impl Total {
    fn add(&mut self, verdict: Verdict) {
        self.seeds += 1;
        self.seconds += verdict.time as f64 / SECOND as f64;
        self.acked += verdict.sums.acked;
        self.stored += verdict.sums.stored;
        self.thinned += verdict.sums.thinned;
        self.lost += verdict.sums.lost;
        self.twice += verdict.sums.twice;
        self.unexplained += verdict.sums.unexplained;
        self.late += verdict.sums.late;
        self.again += verdict.sums.again;
        self.silent += verdict.sums.silent;
        for (kind, n) in &verdict.faults {
            *self.faults.entry(kind).or_default() += n;
        }
        if !verdict.failures.is_empty() {
            self.failed.push(verdict);
        }
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Some(seconds) = cli.outage {
        let outage = Outage { seconds, rate: cli.rate, room: cli.room, seed: cli.from };
        return outage_alone(outage, cli.json);
    }
    // A panic is a finding; it is told with its seed.
    if cli.seed.is_none() {
        std::panic::set_hook(Box::new(|_| {}));
    }
    let started = Instant::now();
    let mut total = Total::default();
    // It is told once, and is as long as the program runs.
    let lie: Option<&'static str> = cli.lie.clone().map(|path| &*path.leak());
    let run = |seed, record: Option<&Path>| run_plan(Plan { lie, ..Plan::draw(seed) }, cli.trace, record);
    match cli.seed {
        Some(seed) => total.add(run(seed, cli.record.as_deref())),
        None => {
            let mut told = started;
            let meant = |seed: &u64| cli.aim.is_none_or(|aim| Plan::draw(*seed).aim == aim);
            let seeds: Vec<u64> = (cli.from..).filter(meant).take(cli.seeds as usize).collect();
            let recorded = seeds.get(cli.traces).copied().unwrap_or(u64::MAX);
            let record = |seed| cli.record.as_deref().filter(|_| seed < recorded);
            run_all(
                &seeds,
                cli.jobs,
                |seed| run(seed, record(seed)),
                |verdict| {
                    if let Some(why) = verdict.failures.first() {
                        _ = writeln!(std::io::stderr(), "seed {} FAILED: {why}", verdict.seed);
                    }
                    total.add(verdict);
                    if told.elapsed() >= TELL_EVERY {
                        told = Instant::now();
                        progress(&total, cli.seeds, started.elapsed());
                    }
                },
            );
        }
    }
    print(&total, started.elapsed().as_secs_f64(), cli.json);
    if total.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// For who waits; not among the figures.
fn progress(total: &Total, of: u64, took: Duration) {
    let rate = total.seeds as f64 / took.as_secs_f64();
    let left = (of - total.seeds) as f64 / rate;
    _ = writeln!(
        std::io::stderr(),
        "{} of {of} seeds, {} failed, {rate:.0} a second, {left:.0} s left",
        total.seeds,
        total.failed.len()
    );
}

#[allow(clippy::print_stdout, reason = "it is a command")]
fn outage_alone(outage: Outage, as_json: bool) -> ExitCode {
    let started = Instant::now();
    let drain = sim::outage::run(outage);
    let took = started.elapsed().as_secs_f64();
    if as_json {
        let figures = json!({
            "seconds": took, "virtual_seconds": drain.seconds, "live_bytes_per_second": drain.live,
            "acknowledged": drain.sums.acked, "stored": drain.sums.stored, "lost": drain.sums.lost,
            "twice": drain.sums.twice, "unexplained": drain.sums.unexplained, "late": drain.sums.late,
            "backlog": drain.backlog, "fresh": drain.fresh, "drain_s": drain.drain,
            "fresh_median_s": drain.fresh_median, "fresh_p99_s": drain.fresh_p99, "fresh_max_s": drain.fresh_max,
            "backlog_share_of_bytes": drain.share, "failed": drain.failures,
        });
        println!("{figures}");
    } else {
        println!(
            "outage of {} s at {} readings/s, then a link of {:.1} x {:.1} kB/s: {:.2} h of virtual time in {took:.0} s",
            outage.seconds,
            outage.rate,
            outage.room,
            drain.live as f64 / 1e3,
            drain.seconds / 3600.0
        );
        let sums = &drain.sums;
        println!(
            "acknowledged {}, stored {}, lost {}, twice {}, unexplained {}",
            sums.acked, sums.stored, sums.lost, sums.twice, sums.unexplained
        );
        println!(
            "the backlog of {} drained in {:.1} s with {:.0} % of the bytes",
            drain.backlog,
            drain.drain,
            drain.share * 100.0
        );
        println!(
            "meanwhile {} fresh ones were stored after {:.3} s (median), {:.3} s (p99), {:.3} s (longest)",
            drain.fresh, drain.fresh_median, drain.fresh_p99, drain.fresh_max
        );
        drain.failures.iter().for_each(|why| println!("FAILED {why}"));
    }
    if drain.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[allow(clippy::print_stdout, reason = "it is a command")]
fn print(total: &Total, took: f64, as_json: bool) {
    if as_json {
        let failed: Vec<_> = total
            .failed
            .iter()
            .map(|verdict| json!({ "seed": verdict.seed, "why": verdict.failures }))
            .collect();
        let figures = json!({
            "seeds": total.seeds, "seconds": took, "virtual_seconds": total.seconds, "acknowledged": total.acked,
            "stored": total.stored, "thinned": total.thinned, "lost": total.lost, "twice": total.twice, "unexplained": total.unexplained,
            "late": total.late, "stored_again_after_rot": total.again, "gone_with_rot": total.silent, "faults": total.faults, "failed": failed,
        });
        println!("{figures}");
        return;
    }
    println!(
        "{} seeds in {took:.1} s ({:.0}/s), {:.1} h of virtual time",
        total.seeds,
        total.seeds as f64 / took.max(0.001),
        total.seconds / 3600.0
    );
    for (kind, n) in &total.faults {
        println!("  {n:>9}  {kind}");
    }
    println!(
        "acknowledged {}, stored {} ({} of them thinned), lost {}, twice {}, unexplained {}, late {}",
        total.acked, total.stored, total.thinned, total.lost, total.twice, total.unexplained, total.late
    );
    println!("of rotten records at the end of a log: stored again {}, gone {}", total.again, total.silent);
    for verdict in total.failed.iter().take(20) {
        println!("seed {} FAILED (trace {:016x})", verdict.seed, verdict.hash);
        verdict.failures.iter().take(5).for_each(|why| println!("  {why}"));
        println!("  again: just sim --seed {0} --trace", verdict.seed);
    }
    if total.failed.len() > 20 {
        println!("and {} more seeds failed", total.failed.len() - 20);
    }
}
