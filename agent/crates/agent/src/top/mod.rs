//! `telemetryx-agent top`: the running agent live, a frame a second, through the control socket.
//!
//! On a terminal it takes the screen and gives it back however it ends; elsewhere it prints frame after frame without
//! escapes. An agent that goes away is waited for: it may be restarting.

mod frame;
mod terminal;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use crate::ask::{self, AskError};
use frame::Seen;
use terminal::{Key, Screen};

pub const EXAMPLES: &str = "\
Examples:
  telemetryx-agent top
  telemetryx-agent top --once                    # one frame, for a script or a bug report
  telemetryx-agent top --interval 5 | tee top.log

q or Ctrl-C ends it. Exit codes: 0 ended by you, 2 wrong usage, 4 no agent is running there.";

/// Rates of the one frame are over this long.
const ONCE: Duration = Duration::from_millis(500);

/// Its options.
#[derive(clap::Args)]
pub struct Args {
    /// Print one frame and end.
    #[arg(long)]
    once: bool,
    /// Seconds between two frames.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=3600), value_name = "SECONDS")]
    interval: u64,
}

/// Runs it.
///
/// # Errors
/// What `main` prints.
pub fn run(args: &Args, data_dir: &Path) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(watch(args, data_dir));
    // A question that is still under way is not waited for.
    runtime.shutdown_background();
    ended
}

async fn watch(args: &Args, data_dir: &Path) -> anyhow::Result<()> {
    let mut seen = look(data_dir).await?;
    if args.once {
        tokio::time::sleep(ONCE).await;
        let later = look(data_dir).await?;
        return Ok(print(&frame::render(&later, Some(&seen), width()))?);
    }
    let mut screen = Screen::take()?;
    let mut ends = Ends::new()?;
    let mut resized = signal(SignalKind::window_change())?;
    let mut ticks = tokio::time::interval(Duration::from_secs(args.interval));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    let mut before: Option<Seen> = None;
    let mut trouble: Option<String> = None;
    let mut asked: Option<Asked> = None;
    loop {
        let (width, height) = screen.as_ref().map_or_else(|| (width(), usize::MAX), Screen::size);
        let mut lines = frame::render(&seen, before.as_ref(), width);
        if let Some(trouble) = &trouble {
            lines.insert(0, frame::fit(&format!("NO ANSWER: {trouble}"), width));
        }
        match &mut screen {
            Some(screen) => screen.draw(&lines, height)?,
            None => {
                print(&lines)?;
                writeln!(std::io::stdout())?;
            }
        }
        // Until there is something to draw; keys are seen while the agent takes its time to answer, too.
        loop {
            tokio::select! {
                () = ends.end() => return Ok(()),
                key = next_key(screen.as_mut()) => match key {
                    Key::Quit => return Ok(()),
                    Key::Other => break,
                },
                // The same frame in its new width; what was printed can't be drawn again.
                _ = resized.recv() => if screen.is_some() { break },
                _ = ticks.tick(), if asked.is_none() => asked = Some(ask_both(data_dir)),
                answer = answered(&mut asked) => {
                    asked = None;
                    match answer {
                        Ok(now) => {
                            before = Some(std::mem::replace(&mut seen, now));
                            trouble = None;
                        }
                        Err(error) => trouble = Some(error.to_string()),
                    }
                    break;
                }
            }
        }
    }
}

/// Of frames that don't take a screen: on a terminal its own; elsewhere what COLUMNS says, and without it a line is as long as
/// it is, since nobody reads the end of a sentence that was cut.
fn width() -> usize {
    terminal::width().unwrap_or_else(|| told(std::env::var("COLUMNS").ok().as_deref()))
}

fn told(columns: Option<&str>) -> usize {
    columns.and_then(|columns| columns.trim().parse().ok()).filter(|width| *width > 0).unwrap_or(usize::MAX)
}

/// The signals that end it, so that the screen is given back.
struct Ends([Signal; 3]);

impl Ends {
    fn new() -> std::io::Result<Self> {
        Ok(Self([
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
        ]))
    }

    async fn end(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

async fn next_key(screen: Option<&mut Screen>) -> Key {
    match screen {
        Some(screen) => screen.key().await,
        None => std::future::pending().await,
    }
}

/// A question that is under way.
type Asked = JoinHandle<Result<(Value, Value), AskError>>;

/// Asks the agent; not on this thread, which must go on to see keys.
fn ask_both(data_dir: &Path) -> Asked {
    let data_dir: PathBuf = data_dir.to_owned();
    tokio::task::spawn_blocking(move || {
        Ok((ask::ask_once(&data_dir, "status")?, ask::ask_once(&data_dir, "rejects")?))
    })
}

/// The answer to it; never, where nothing is asked.
async fn answered(asked: &mut Option<Asked>) -> anyhow::Result<Seen> {
    let Some(asked) = asked else { return std::future::pending().await };
    let (status, rejects) = asked.await??;
    Ok(Seen { at: Instant::now(), status, rejects })
}

async fn look(data_dir: &Path) -> anyhow::Result<Seen> {
    answered(&mut Some(ask_both(data_dir))).await
}

fn print(lines: &[String]) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    for line in lines {
        writeln!(out, "{line}")?;
    }
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_width_that_is_told_counts_and_without_one_nothing_is_cut() {
        assert_eq!(told(Some("72")), 72);
        for none in [None, Some(""), Some("0"), Some("wide"), Some("-1")] {
            assert_eq!(told(none), usize::MAX);
        }
    }
}
