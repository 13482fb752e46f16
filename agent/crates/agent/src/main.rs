//! The agent binary: the commands a person uses, and what keeps its documents true.

mod ask;
mod brief;
mod care;
mod classes;
mod client;
mod config;
mod control;
mod courier;
mod data_dir;
mod doctor;
mod enrol;
mod exposed;
mod health;
mod hints;
mod human;
mod identity;
mod inputs_table;
mod leaves;
mod lock;
mod logging;
mod models;
mod owner;
mod pages;
mod password;
mod paths;
mod pipeline;
mod place;
mod ranges;
mod reference;
mod refusing;
mod remote;
mod run;
mod service;
mod spool_commands;
mod stage;
mod standing;
mod status;
mod tap;
mod texts;
mod time_service;
mod token_file;
mod told;
mod top;
mod traces;
mod units;
mod watchdog;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::Config;

/// Takes sensor readings, host metrics and events, keeps them safe on disk, and ships them to the collector.
#[derive(Parser)]
#[command(
    name = "telemetryx-agent",
    version,
    after_help = "\
Examples:
  telemetryx-agent check --config /etc/telemetryx/agent.toml
  telemetryx-agent run --config /etc/telemetryx/agent.toml
  telemetryx-agent status --json | jq .spool.batches
  telemetryx-agent tap | grep temperature
  telemetryx-agent doctor

With --json an error is JSON too, on standard error.
Exit codes: 0 done, 1 failed, 2 wrong usage, 3 the configuration can't be used, 4 no agent is running there."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the agent until SIGTERM or Ctrl-C. SIGHUP reads [fold], [model], [remote], the log level and who may use
    /// [input.mqtt] again.
    Run(At),
    /// Check the config file and the files it names: gives line and remedy, or says that all is fine.
    Check {
        #[command(flatten)]
        at: At,
        /// Answer in JSON.
        #[arg(long)]
        json: bool,
        /// Print the configuration in force instead: every key that is set, and whether the file or the collector set it.
        #[arg(long)]
        merged: bool,
    },
    /// Show how the running agent is: inputs, journal, spool, link.
    Status {
        #[command(flatten)]
        at: At,
        /// Answer in JSON.
        #[arg(long)]
        json: bool,
        /// Also list the last refused readings with the reason.
        #[arg(long)]
        rejects: bool,
        /// Say on standard error what keeps it from taking and keeping readings, and end with 1 then: for a container's
        /// health check. A link that is down is no such thing.
        #[arg(long)]
        healthy: bool,
    },
    /// Show readings live as they are taken.
    Tap {
        #[command(flatten)]
        at: At,
        /// A JSON line a reading.
        #[arg(long)]
        json: bool,
        /// End after so many readings.
        #[arg(long, short = 'n', value_parser = clap::value_parser!(u64).range(1..))]
        count: Option<u64>,
    },
    /// Watch the running agent live: rates, fill, backlog, link, refusals.
    #[command(after_help = top::EXAMPLES)]
    Top {
        #[command(flatten)]
        at: At,
        #[command(flatten)]
        args: top::Args,
    },
    /// Join a collector with an enrolment token: makes this host's key, and gets a certificate for it.
    #[command(after_help = enrol::EXAMPLES)]
    Enroll {
        #[command(flatten)]
        at: At,
        #[command(flatten)]
        args: enrol::Args,
    },
    /// Find out what is wrong: config, disk, clock, link, certificates, inputs, limits; each with what to do.
    #[command(after_help = doctor::EXAMPLES)]
    Doctor {
        #[command(flatten)]
        at: At,
        /// Answer in JSON.
        #[arg(long)]
        json: bool,
    },
    /// Look into the spool, verify it, settle damage, take readings out of it.
    #[command(subcommand)]
    Spool(spool_commands::SpoolCommand),
    /// Show or forget the configuration that the collector pushed.
    #[command(subcommand)]
    Remote(remote::command::RemoteCommand),
    /// Print a commented config file, or the reference of every key.
    Config {
        /// Print the reference as Markdown.
        #[arg(long)]
        reference: bool,
        /// Print the JSON schema.
        #[arg(long, conflicts_with = "reference")]
        schema: bool,
    },
    /// Read a password from standard input and print its hash for [input.mqtt] users.
    HashPassword,
    /// Write the man pages and shell completions that packages ship.
    #[command(hide = true)]
    Pages {
        /// The folder: man pages go to `man`, completions to `completions` in it.
        to: PathBuf,
    },
}

impl Command {
    /// Whether answers, errors too, are for a program.
    fn json(&self) -> bool {
        match self {
            Self::Check { json, .. }
            | Self::Status { json, .. }
            | Self::Tap { json, .. }
            | Self::Doctor { json, .. } => *json,
            Self::Enroll { args, .. } => args.json,
            Self::Spool(command) => command.json(),
            Self::Remote(command) => command.json(),
            Self::Run(_)
            | Self::Top { .. }
            | Self::Config { .. }
            | Self::HashPassword
            | Self::Pages { .. } => false,
        }
    }
}

#[derive(clap::Args)]
struct At {
    /// The config file.
    #[arg(long, short, default_value = "/etc/telemetryx/agent.toml", env = "TELEMETRYX_AGENT_CONFIG")]
    config: PathBuf,
}

/// Options that don't go together, or not with what they name: said by us, since clap can't know.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Misuse(String);

const MISUSED: u8 = 2;
const CONFIG_REFUSED: u8 = 3;
const NOT_RUNNING: u8 = 4;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return unparsed(&error),
    };
    let json = cli.command.json();
    match dispatch(cli.command) {
        Ok(code) => code,
        // A reader that closed its end (`| head`) is no failure.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            say_error(&causes(&error), json);
            if error.is::<config::ConfigError>() {
                ExitCode::from(CONFIG_REFUSED)
            } else if error.is::<Misuse>() || enrol::is_wrong_use(&error) {
                ExitCode::from(MISUSED)
            } else if matches!(error.downcast_ref(), Some(ask::AskError::NotRunning { .. })) {
                ExitCode::from(NOT_RUNNING)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

/// Says what is wrong with the arguments, in JSON where that was asked for among them; help and version stay as they are.
fn unparsed(error: &clap::Error) -> ExitCode {
    let mut given = std::env::args_os().take_while(|given| given != "--");
    if !error.use_stderr() || !given.any(|given| given == "--json") {
        error.exit();
    }
    say_error(&misuse(error), true);
    ExitCode::from(MISUSED)
}

/// The library's words in one sentence, without the usage behind them.
fn misuse(error: &clap::Error) -> String {
    if error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return "a command is missing: --help lists them".into();
    }
    let text = error.render().to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let told = text.split("\n\nUsage:").next().unwrap_or(text).split("\n\nFor more information").next();
    told.unwrap_or(text).split_whitespace().collect::<Vec<_>>().join(" ")
}

fn dispatch(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Run(at) => {
            // The file must do alone: it is what everything that is pushed falls back to.
            let file = remote::HostFile::read(&at.config)?;
            let alone = file.alone()?;
            let logging = logging::Logging::begin(&alone.config.agent);
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
            runtime.block_on(run::run(file, alone, logging))?;
        }
        Command::Check { at, json, merged: true } => return remote::command::check_merged(&at.config, json),
        Command::Check { at, json, merged: false } => return check(&at.config, json),
        Command::Status { at, json, rejects, healthy } => {
            let status = client::status(&data_dir::of(&at.config)?, json, rejects)?;
            let trouble = if healthy { health::trouble(&status) } else { Vec::new() };
            for reason in &trouble {
                say_error(reason, json);
            }
            if !trouble.is_empty() {
                return Ok(ExitCode::FAILURE);
            }
        }
        Command::Tap { at, json, count } => {
            client::tap(&data_dir::of(&at.config)?, json, count)?;
        }
        Command::Top { at, args } => {
            top::run(&args, &data_dir::of(&at.config)?)?;
        }
        Command::Enroll { at, args } => enrol::run(args, &at.config)?,
        Command::Doctor { at, json } => return doctor::run(&at.config, json),
        Command::Spool(command) => return spool_commands::run(command),
        Command::Remote(command) => return remote::command::run(command),
        Command::Config { reference, schema } => {
            let text = match (reference, schema) {
                (true, _) => reference::markdown(),
                (_, true) => reference::schema(),
                _ => reference::EXAMPLE.to_owned(),
            };
            std::io::stdout().write_all(text.as_bytes())?;
        }
        Command::HashPassword => {
            let hash = inputs::mqtt::hash_password(&password::read()?)?;
            writeln!(std::io::stdout(), "{hash}")?;
        }
        Command::Pages { to } => pages::write(<Cli as clap::CommandFactory>::command(), &to)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn check(path: &std::path::Path, json: bool) -> anyhow::Result<ExitCode> {
    let result = Config::load_with_files(path);
    let mut out = std::io::stdout();
    if json {
        let error = result.as_ref().err().map(ToString::to_string);
        let warnings = result.as_ref().map(|config| config.warnings_in(path, "")).unwrap_or_default();
        let said =
            serde_json::json!({"file": path, "ok": result.is_ok(), "error": error, "warnings": warnings});
        writeln!(out, "{said}")?;
    } else {
        match &result {
            Ok(config) => {
                for warning in config.warnings_in(path, "warning: ") {
                    writeln!(out, "{warning}")?;
                }
                writeln!(out, "{}: fine (agent {})", path.display(), config.agent.name)?;
            }
            Err(error) => say_error(&error.to_string(), false),
        }
    }
    Ok(if result.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(CONFIG_REFUSED) })
}

/// An error with its causes, each said once: many say theirs themselves.
fn causes(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

fn say_error(text: &str, json: bool) {
    let text = match json {
        true => serde_json::json!({"error": text}).to_string(),
        false => format!("telemetryx-agent: {text}"),
    };
    // Nothing can be said when standard error is closed.
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.downcast_ref::<std::io::Error>().is_some_and(|io| io.kind() == std::io::ErrorKind::BrokenPipe)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_the_arguments_is_one_sentence() {
        for (given, said) in [
            (
                &["status", "--jso"][..],
                "unexpected argument '--jso' found tip: a similar argument exists: '--json'",
            ),
            (
                &["enroll", "--json"],
                "the following required arguments were not provided: --token <TOKEN> <URL>",
            ),
            (&["spool"], "a command is missing: --help lists them"),
        ] {
            let error = Cli::try_parse_from([&["telemetryx-agent"], given].concat()).err().unwrap();
            assert_eq!(misuse(&error), said);
        }
    }

    #[test]
    fn a_cause_is_said_once() {
        let read = std::fs::read_to_string("/nope")
            .map_err(|source| config::ConfigError::Read { path: "/nope".into(), source });
        let said = causes(&anyhow::Error::from(read.unwrap_err()).context("starting"));
        assert_eq!(said.matches("No such file").count(), 1, "{said}");
        assert!(said.starts_with("starting: the config file /nope can't be read"), "{said}");
    }
}
