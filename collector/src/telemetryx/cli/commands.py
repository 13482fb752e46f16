"""Declares every command of `telemetryx` with its options; what each does stands in the module of its name."""

from pathlib import Path
from typing import Annotated

import typer

import telemetryx
from telemetryx.cli.agents import app as agents_app
from telemetryx.cli.client import DEFAULT_URL
from telemetryx.cli.enroll import app as enroll_app
from telemetryx.cli.errors import CliError, Exit
from telemetryx.cli.options import (
    SINCE,
    Agent,
    CaFile,
    ConfigFile,
    Force,
    Json,
    Limit,
    Many,
    Match,
    Memory,
    Show,
    Since,
    Timeout,
    TokenFile,
    Until,
    Url,
    client,
    filled,
    given,
    shown_as,
)
from telemetryx.cli.output import Format
from telemetryx.cli.quarantine_commands import app as quarantine_app
from telemetryx.cli.silences import app as silence_app
from telemetryx.cli.store_commands import app as store_app
from telemetryx.cli.tokens import app as token_app
from telemetryx.cli.users import app as user_app

EPILOG = (
    "Exit codes: 0 done; 1 the answer is no (what was asked for by name is not there, a check failed); 2 wrong use; "
    "3 the collector can't be reached; 4 it refused."
)

app = typer.Typer(
    name="telemetryx",
    help="Telemetry that survives a dead link: the collector, and what people ask it.",
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
)
config_app = typer.Typer(help="Check and explain the collector's configuration.", no_args_is_help=True)
rules_app = typer.Typer(help="Check rule files, list the loaded rules.", no_args_is_help=True)
for name, group in (
    ("agents", agents_app),
    ("config", config_app),
    ("enroll", enroll_app),
    ("rules", rules_app),
    ("store", store_app),
    ("quarantine", quarantine_app),
    ("silence", silence_app),
    ("user", user_app),
    ("token", token_app),
):
    app.add_typer(group, name=name)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"telemetryx {telemetryx.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    del version


@app.command()
def collector(
    config: ConfigFile = None,
    workers: Annotated[
        int,
        typer.Option(
            "--workers", min=1, max=64, help="Processes on the same ports; more than one needs PostgreSQL."
        ),
    ] = 1,
) -> None:
    """Run the collector until it gets SIGTERM or Ctrl-C."""
    from telemetryx.cli import run

    run.collector(config, workers)


@app.command()
def health(
    config: ConfigFile = None,
    ready: Annotated[
        bool,
        typer.Option("--ready", help="Ask whether every part works, such as the store, as /readyz does."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Say whether the collector of this configuration answers, on its own machine: for a container's health check."""
    from telemetryx.cli import health as look

    look.show(config, ready=ready, as_json=as_json)


@app.command()
def demo(
    seconds: Annotated[
        str | None,
        typer.Option("--for", metavar="SPAN", help="End by itself after e.g. 30s; without, Ctrl-C ends it."),
    ] = None,
    folder: Annotated[
        Path | None, typer.Option("--folder", parser=given, metavar="FOLDER", help="Where its data goes.")
    ] = None,
    agent: Annotated[
        Path | None,
        typer.Option(
            "--agent",
            envvar="TELEMETRYX_AGENT",
            parser=given,
            metavar="FILE",
            help="The agent program; without, the one on the path, or else the one built in this checkout.",
        ),
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Delete the data of the demo before.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print only the summary, as JSON.")] = False,
) -> None:
    """Run a collector and an agent on this machine with its real metrics."""
    from telemetryx.cli import run

    raise typer.Exit(run.demo(seconds, folder, agent, fresh=fresh, as_json=as_json))


@app.command()
def query(
    selector: Annotated[
        str, typer.Argument(help='What to show, e.g. temperature{site="plant1",device=~"pump.*"}.')
    ],
    since: Since = "1h",
    until: Until = None,
    step: Annotated[
        str,
        typer.Option(
            "--step",
            help="Width of a point like 10s, or auto; with quantile also whole: one of all the time.",
        ),
    ] = "auto",
    agg: Annotated[
        str,
        typer.Option(
            "--agg", help="avg, min, max, sum, count, last, raw, or quantile of all series together."
        ),
    ] = "avg",
    q: Annotated[
        float | None, typer.Option("--q", help="Which quantile, from 0 to 1: 0.99 when left out.")
    ] = None,
    by: Annotated[
        list[str] | None,
        typer.Option("--by", help="With quantile: a group for each value of this label; may be repeated."),
    ] = None,
    points: Annotated[
        int,
        typer.Option(
            "--points",
            min=1,
            max=1_000_000,
            help="Points a series, or a group, at most, with --step auto and raw.",
        ),
    ] = 300,
    how: Show = Format.TABLE,
    as_json: Json = False,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
) -> None:
    """Show samples over time: a line with a small chart for each series, or every point as CSV, JSON or NDJSON."""
    from telemetryx.cli import query as command

    command.run(
        client(url, token_file, ca_file),
        command.Question(selector, since, until, step, agg, points, q, tuple(by or ())),
        shown_as(how, as_json),
    )


@app.command()
def series(
    selector: Annotated[str | None, typer.Argument(help="Only series that match; all when left out.")] = None,
    agent: Agent = None,
    limit: Many = 100,
    how: Show = Format.TABLE,
    as_json: Json = False,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
) -> None:
    """List series with their newest values."""
    from telemetryx.cli import listing

    params = {"match": selector, "agent": agent, "limit": limit}
    listing.series(client(url, token_file, ca_file), params, shown_as(how, as_json))


@app.command()
def events(
    text: Annotated[str | None, typer.Argument(help="Words that the event must contain.")] = None,
    source: Annotated[str | None, typer.Option("--source", help="Only from this source.")] = None,
    severity: Annotated[
        str | None, typer.Option("--severity", help="This severity and above, e.g. warn.")
    ] = None,
    agent: Agent = None,
    since: Annotated[str | None, typer.Option("--since", help=SINCE.format("15m"))] = None,
    until: Until = None,
    limit: Limit = 50,
    how: Show = Format.TABLE,
    as_json: Json = False,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
) -> None:
    """List events, newest first."""
    from telemetryx.cli import listing
    from telemetryx.cli.span import point

    params = {
        "q": text,
        "source": source,
        "severity": severity,
        "agent": agent,
        "start": point(since, "--since"),
        "end": point(until, "--until"),
        "limit": limit,
    }
    listing.events(client(url, token_file, ca_file), params, shown_as(how, as_json))


@app.command()
def alerts(
    state: Annotated[
        str,
        typer.Option("--state", help="open, firing, pending, unknown, resolved, retracted, closed or all."),
    ] = "open",
    agent: Agent = None,
    limit: Limit = 100,
    how: Show = Format.TABLE,
    as_json: Json = False,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
) -> None:
    """List alerts; by default all that are open."""
    from telemetryx.cli import listing

    params = {"state": state, "agent": agent, "limit": limit}
    listing.alerts(client(url, token_file, ca_file), params, shown_as(how, as_json))


@app.command()
def acknowledge(
    number: Annotated[int, typer.Argument(min=1, help="The alert's id, as `alerts` says it.")],
    author: Annotated[str | None, typer.Option("--author", envvar="USER", help="Who takes it on.")] = None,
    comment: Annotated[str, typer.Option("--comment", help="What others should know.")] = "",
    withdraw: Annotated[bool, typer.Option("--withdraw", help="Take it back.")] = False,
    as_json: Json = False,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
) -> None:
    """Say that somebody has taken an alert on: others see it in `alerts`. Its notifications go on."""
    from telemetryx.cli import listing

    listing.acknowledge(
        client(url, token_file, ca_file), number, None if withdraw else (author, comment), as_json=as_json
    )


@app.command()
def loss(
    agent: Agent = None,
    how: Show = Format.TABLE,
    as_json: Json = False,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
) -> None:
    """Show the loss ledger: every reading is accounted for."""
    from telemetryx.cli import listing

    listing.loss(client(url, token_file, ca_file), {"agent": agent}, shown_as(how, as_json))


@app.command()
def sql(
    statement: Annotated[
        str, typer.Argument(help='E.g. "SELECT name, avg(value) FROM samples GROUP BY name".')
    ],
    match: Annotated[
        str | None, typer.Option("--match", help="Only rows of series that match this selector.")
    ] = None,
    since: Since = "1h",
    until: Until = None,
    timeout: Timeout = "1m",
    memory: Memory = 2_048,
    rows: Annotated[
        int, typer.Option("--rows", min=1, max=100_000_000, help="Rows that the answer may have.")
    ] = 1_000_000,
    how: Show = Format.TABLE,
    as_json: Json = False,
    config: ConfigFile = None,
) -> None:
    """Ask the store in SQL (Polars), on the collector's machine. Tables: samples, windows, rollups, events, series.

    They show what lies between --since and --until; what a statement doesn't ask for isn't read. Only queries are
    taken: SELECT, WITH, EXPLAIN, SHOW TABLES.
    """
    from telemetryx.cli import sql as command

    question = command.Question(statement, match, since, until, timeout, memory, rows)
    command.run(config, question, shown_as(how, as_json))


@app.command()
def export(
    context: typer.Context,
    kind: Annotated[str, typer.Argument(help="samples, windows, rollups or events.")],
    to: Annotated[
        str,
        typer.Option("--to", "-o", parser=filled, metavar="FILE", help="The file; - is standard output."),
    ] = "-",
    form: Annotated[
        str | None,
        typer.Option(
            "--format", "-f", help="arrow, parquet, csv or ndjson; else by the file's ending, else csv."
        ),
    ] = None,
    match: Match = None,
    agent: Agent = None,
    since: Since = "1h",
    until: Until = None,
    level: Annotated[
        str | None, typer.Option("--level", help="Of rollups alone: 1m (when left out) or 1h.")
    ] = None,
    force: Force = False,
    timeout: Timeout = "1h",
    config: ConfigFile = None,
    url: Annotated[
        str | None,
        typer.Option("--url", help="Ask this collector over HTTP; without, the store here is read."),
    ] = None,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
) -> None:
    """Write samples, windows, rollups or events to a file: of the store here, or of a collector elsewhere."""
    from telemetryx.cli import export as command

    # The variable may stand for other commands; what is typed beside --url would be ignored.
    named = context.get_parameter_source("config")
    if url is not None and named is not None and named.name == "COMMANDLINE":
        raise CliError(
            "both --config and --url are given",
            "--url asks a collector elsewhere, --config reads the store here: give one of them",
            Exit.USAGE,
        )
    afar = None if url is None else client(url, token_file, ca_file)
    question = command.Question(kind, to, form, match, agent, since, until, level, force, timeout)
    command.run(config, question, afar)


@app.command()
def report(
    since: Annotated[str, typer.Option("--since", help=SINCE.format("7d"))] = "7d",
    until: Until = None,
    match: Match = None,
    html: Annotated[
        Path | None,
        typer.Option(
            "--html",
            parser=given,
            metavar="FILE",
            help="Write a page with plots to this file; - is standard output.",
        ),
    ] = None,
    csv: Annotated[
        Path | None,
        typer.Option("--csv", parser=given, metavar="FOLDER", help="Write the tables into this folder."),
    ] = None,
    top: Annotated[int, typer.Option("--top", min=1, max=1_000, help="Highest scores that are listed.")] = 50,
    force: Force = False,
    timeout: Timeout = "1h",
    memory: Memory = 2_048,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    config: ConfigFile = None,
) -> None:
    """Say how available and complete each site was, and what was most anomalous, on the collector's machine."""
    from telemetryx.cli import report as command

    question = command.Question(match, since, until, html, csv, top, force, timeout, memory)
    command.run(config, question, as_json=as_json)


@app.command()
def convert(
    source: Annotated[
        str,
        typer.Argument(
            parser=filled,
            metavar="FILE",
            help="What `telemetryx-agent spool export` wrote; - is standard input.",
        ),
    ],
    folder: Annotated[
        Path,
        typer.Argument(parser=given, metavar="FOLDER", help="Where samples.parquet and the others go."),
    ],
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Turn readings exported from an agent's spool (NDJSON) into Parquet, a file a kind."""
    from telemetryx.cli import convert as command

    command.run(source, folder, force=force, as_json=as_json)


@config_app.command("reference")
def config_reference(
    markdown: Annotated[bool, typer.Option("--markdown", help="As the page in docs/reference.")] = False,
) -> None:
    """Print a commented configuration with every key and its default."""
    from telemetryx import config

    typer.echo(config.reference() if markdown else config.example(), nl=False)


@config_app.command("check")
def config_check(
    path: Annotated[Path, typer.Argument(parser=given, metavar="FILE", help="The TOML file.")],
    alone: Annotated[
        bool,
        typer.Option("--alone", help="Not the files that it names, as on a machine that doesn't have them."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Say what is wrong in a configuration, with lines, and in the files that it names, without starting anything."""
    from telemetryx.cli import run

    run.check(path, alone=alone, as_json=as_json)


@rules_app.command("check")
def rules_check(
    paths: Annotated[list[Path], typer.Argument(parser=given, metavar="FILE...", help="YAML files.")],
    as_json: Json = False,
) -> None:
    """Say what is wrong in rule files, with lines."""
    from telemetryx.cli import rules

    rules.check(paths, as_json=as_json)


@rules_app.command("list")
def rules_list(
    how: Show = Format.TABLE,
    as_json: Json = False,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
) -> None:
    """List the rules that the collector judges by."""
    from telemetryx.cli import listing

    listing.rules(client(url, token_file, ca_file), shown_as(how, as_json))


@app.command("audit")
def audit(
    actor: Annotated[str | None, typer.Option("--actor", help="Only by this person or token.")] = None,
    action: Annotated[
        str | None, typer.Option("--action", help="Only this action (user.add), or all of a noun (user).")
    ] = None,
    target: Annotated[str | None, typer.Option("--target", help="Only about this thing.")] = None,
    since: Since = "7d",
    until: Until = None,
    limit: Limit = 100,
    how: Show = Format.TABLE,
    as_json: Json = False,
    config: ConfigFile = None,
) -> None:
    """Show who changed what, when and from where, straight from the store."""
    from telemetryx.cli import audit as log

    filters = {"actor": actor, "action": action, "target": target}
    log.show(config, filters=filters, since=since, until=until, limit=limit, how=shown_as(how, as_json))


@app.command("openapi", hidden=True)
def openapi(
    markdown: Annotated[bool, typer.Option("--markdown", help="As docs/reference/http-api.md.")] = False,
) -> None:
    """Print the API's description; docs/reference/http-api.md is made with it."""
    from telemetryx.cli import reference

    reference.show(markdown=markdown)
