//! `telemetryx-agent enroll`: this host joins its collector. What comes of it is kept in `data_dir/identity`, and the uplink
//! goes by it: nothing has to be written into the config file.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use uplink::enrolment::{Ask, EnrolError, Enrolled, Folder, Joined, Outcome, Token, join};

use crate::config::Config;
use crate::{ask, lock, token_file};

pub const EXAMPLES: &str = "\
Examples:
  telemetryx-agent enroll https://collector.example:8420 --token txe1.…
  telemetryx-agent enroll https://collector.example:8420 --token txe1.… --name pump-house
  telemetryx-agent enroll https://collector.example:8420 --token txe1.… --replace    this is that host, rebuilt
  telemetryx-agent enroll https://collector.example:8420 --token-file /run/secrets/token --if-needed    before each start of a container

The token comes from `telemetryx enroll token` on the collector, which prints this line.
Exit codes: 0 done (or waiting for approval), 1 refused or not reached, 2 wrong usage, 3 the configuration can't be used.";

/// What is asked for.
#[derive(clap::Args)]
pub struct Args {
    /// The collector's console: https://HOST:PORT.
    url: String,
    /// The enrolment token.
    #[arg(
        long,
        env = "TELEMETRYX_ENROLL_TOKEN",
        hide_env_values = true,
        required_unless_present = "token_file",
        conflicts_with = "token_file"
    )]
    token: Option<String>,
    /// File with the token.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// A host that has joined already is left as it is, and the token isn't looked at.
    #[arg(long, conflicts_with = "replace")]
    if_needed: bool,
    /// The name to have, in place of agent.name in the config file or the host's name.
    #[arg(long)]
    name: Option<String>,
    /// Take the place of the agent of this name: this is its host, rebuilt. The token must allow it.
    #[arg(long)]
    replace: bool,
    /// PEM file with the authority that signed the console's certificate, where that isn't the collector's own.
    #[arg(long)]
    ca_file: Option<PathBuf>,
    /// Answer in JSON.
    #[arg(long)]
    pub json: bool,
}

/// Whether a failed enrolment is one of what was given, which another try won't mend.
pub fn is_wrong_use(error: &anyhow::Error) -> bool {
    error.downcast_ref::<EnrolError>().is_some_and(EnrolError::is_wrong_use)
}

/// Joins.
///
/// # Errors
/// When the collector refuses, can't be reached or isn't to be trusted; or the config file names another agent.
pub fn run(args: Args, path: &Path) -> anyhow::Result<()> {
    let (config, said) = Config::before_enrolment(path)?;
    let folder = Folder::of(&config.agent.data_dir);
    if args.if_needed {
        match folder.load() {
            Ok(Some(Enrolled { joined, .. })) => return Ok(say_kept(&joined, &folder, args.json)?),
            Ok(None) => {}
            // It has joined, and what starts after this command is to start: the agent says the same until it is mended.
            Err(error) => {
                crate::say_error(&error.to_string(), args.json);
                return Ok(());
            }
        }
    }
    let token = Token::parse(&given(&args)?)?;
    let agent = match (&args.name, said) {
        (Some(name), Some(said)) if *name != said => {
            let both = format!("{} says agent.name = {said:?}, and --name {name:?}", path.display());
            return Err(crate::Misuse(format!("{both}: give one of them")).into());
        }
        (Some(name), _) => name.clone(),
        (None, _) => config.agent.name.clone(),
    };
    let data = &config.agent.data_dir;
    lock::make(data)?;
    let ca_file = args.ca_file.map(std::path::absolute).transpose().context("--ca-file")?;
    let ask = Ask { url: args.url, token, agent, replace: args.replace, ca_file };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
    let outcome = runtime.block_on(join(&folder, &ask));
    // A name service that doesn't answer must not hold the command up.
    runtime.shutdown_timeout(std::time::Duration::from_millis(100));
    say(&outcome?, &folder, ask::ask_once(data, "status").is_ok(), args.json)?;
    Ok(())
}

/// The token's text: as it was given, or from its file.
fn given(args: &Args) -> anyhow::Result<String> {
    match (&args.token, &args.token_file) {
        (Some(token), _) => Ok(token.clone()),
        (None, Some(path)) => token_file::read(path),
        (None, None) => anyhow::bail!("give --token or --token-file"),
    }
}

fn say_kept(joined: &Joined, folder: &Folder, json: bool) -> std::io::Result<()> {
    let Joined { agent, site, gateway, collector, .. } = joined;
    let mut out = std::io::stdout().lock();
    if json {
        let told = serde_json::json!({"agent": agent, "site": site, "gateway": gateway, "state": "kept", "folder": folder.path()});
        return writeln!(out, "{told}");
    }
    writeln!(out, "this host is enrolled as agent {agent} at {collector} already: nothing was changed")
}

fn say(outcome: &Outcome, folder: &Folder, running: bool, json: bool) -> std::io::Result<()> {
    let Outcome { joined: Joined { agent, site, gateway, .. }, waits } = outcome;
    let mut out = std::io::stdout().lock();
    if json {
        let state = if *waits { "pending" } else { "active" };
        let told = serde_json::json!({"agent": agent, "site": site, "gateway": gateway, "state": state, "folder": folder.path()});
        return writeln!(out, "{told}");
    }
    let at = if site.is_empty() { String::new() } else { format!(" of site {site}") };
    writeln!(out, "this host is agent {agent}{at}, and sends to {gateway}")?;
    writeln!(out, "its key and certificate are in {}", folder.path().display())?;
    if *waits {
        writeln!(
            out,
            "it waits for approval: on the collector, `telemetryx agents approve {agent}`; the running agent then connects by itself"
        )?;
    }
    let next = match running {
        true => "restart the agent that runs here: systemctl restart telemetryx-agent",
        false => "start the agent: telemetryx-agent run, or systemctl enable --now telemetryx-agent",
    };
    writeln!(out, "{next}")
}

/// What is kept of an enrolment, for the config; a name in the file must be the one that was enrolled.
///
/// # Errors
/// A sentence for the config's list of problems.
pub fn named(kept: Option<Enrolled>, name: &str) -> Result<Option<Enrolled>, String> {
    match kept {
        Some(Enrolled { joined, .. }) if !name.is_empty() && name != joined.agent => Err(format!(
            "agent.name is {name:?}, and this host is enrolled as {:?}: leave the key out, or enroll the host again with `telemetryx-agent enroll … --replace`",
            joined.agent
        )),
        found => Ok(found),
    }
}
