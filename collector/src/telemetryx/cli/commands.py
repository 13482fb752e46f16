"""Declares every command of `telemetryx` with its options; what each does stands in the module of its name."""

from pathlib import Path
from typing import Annotated

import typer

import telemetryx
from telemetryx.cli.client import DEFAULT_URL, Client, read_token
from telemetryx.cli.output import Format

EPILOG = (
    "Exit codes: 0 done; 1 the answer is no (nothing matched, a check failed); 2 wrong use; "
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
store_app = typer.Typer(help="Look after the store.", no_args_is_help=True)
quarantine_app = typer.Typer(
    help="Look into batches that are kept apart because their times are far ahead; let them in or drop them.",
    no_args_is_help=True,
)
token_app = typer.Typer(help="Make tokens.", no_args_is_help=True)
for name, group in (
    ("config", config_app),
    ("rules", rules_app),
    ("store", store_app),
    ("quarantine", quarantine_app),
    ("token", token_app),
):
    app.add_typer(group, name=name)

Url = Annotated[str, typer.Option("--url", envvar="TELEMETRYX_URL", help="The collector's address.")]
TokenFile = Annotated[
    Path | None,
    typer.Option("--token-file", envvar="TELEMETRYX_TOKEN_FILE", help="File with a token.", dir_okay=False),
]
CaFile = Annotated[
    Path | None,
    typer.Option("--ca-file", envvar="TELEMETRYX_CA_FILE", help="Authority of its certificate, PEM."),
]
Json = Annotated[bool, typer.Option("--json", help="Print the API's answer as JSON.")]
Show = Annotated[Format, typer.Option("--format", "-f", help="How to print.")]
ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", "-c", envvar="TELEMETRYX_CONFIG", help="TOML file; without one, defaults."),
]
Since = Annotated[str, typer.Option("--since", help="Begin: a span before now like 15m, or a time.")]
Until = Annotated[str | None, typer.Option("--until", help="End: now when left out.")]
Agent = Annotated[str | None, typer.Option("--agent", help="Only this agent's.")]
QuarantineId = Annotated[int, typer.Argument(min=1, help="Its id, as `quarantine ls` says it.")]
Limit = Annotated[int, typer.Option("--limit", min=1, max=1_000, help="Rows at most.")]


def _client(url: str, token_file: Path | None, ca_file: Path | None) -> Client:
    return Client(url, read_token(token_file), ca_file)


def _how(how: Format, as_json: bool) -> Format:
    return Format.JSON if as_json else how


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
def collector(config: ConfigFile = None) -> None:
    """Run the collector until it gets SIGTERM or Ctrl-C."""
    from telemetryx.cli import run

    run.collector(config)


@app.command()
def demo(
    seconds: Annotated[
        str | None,
        typer.Option("--for", metavar="SPAN", help="End by itself after e.g. 30s; without, Ctrl-C ends it."),
    ] = None,
    folder: Annotated[Path | None, typer.Option("--folder", help="Where its data goes.")] = None,
    agent: Annotated[Path | None, typer.Option("--agent", help="The agent program.")] = None,
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
    step: Annotated[str, typer.Option("--step", help="Width of a point like 10s, or auto.")] = "auto",
    agg: Annotated[str, typer.Option("--agg", help="avg, min, max, sum, count, last or raw.")] = "avg",
    points: Annotated[
        int, typer.Option("--points", min=1, max=1_000_000, help="Points a series at most.")
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
        _client(url, token_file, ca_file),
        command.Question(selector, since, until, step, agg, points),
        _how(how, as_json),
    )


@app.command()
def agents(
    filter_: Annotated[str, typer.Option("--filter", help="Part of a name or label.")] = "",
    state: Annotated[str | None, typer.Option("--state", help="live, catching_up or silent.")] = None,
    site: Annotated[str | None, typer.Option("--site", help="Only agents that serve this site.")] = None,
    sort: Annotated[
        str, typer.Option("--sort", help="name, last_seen, last_event, backlog, skew or rate.")
    ] = "name",
    descending: Annotated[bool, typer.Option("--desc", help="Largest first.")] = False,
    limit: Limit = 50,
    how: Show = Format.TABLE,
    as_json: Json = False,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
) -> None:
    """List agents: state, last seen, backlog, clock skew, rate."""
    from telemetryx.cli import listing

    params = {
        "filter": filter_ or None,
        "state": state,
        "site": site,
        "sort": sort,
        "order": "desc" if descending else "asc",
        "limit": limit,
    }
    listing.agents(_client(url, token_file, ca_file), params, _how(how, as_json))


@app.command()
def series(
    selector: Annotated[str | None, typer.Argument(help="Only series that match; all when left out.")] = None,
    agent: Agent = None,
    limit: Limit = 100,
    how: Show = Format.TABLE,
    as_json: Json = False,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
) -> None:
    """List series with their newest values."""
    from telemetryx.cli import listing

    params = {"match": selector, "agent": agent, "limit": limit}
    listing.series(_client(url, token_file, ca_file), params, _how(how, as_json))


@app.command()
def events(
    text: Annotated[str | None, typer.Argument(help="Words that the event must contain.")] = None,
    source: Annotated[str | None, typer.Option("--source", help="Only from this source.")] = None,
    severity: Annotated[
        str | None, typer.Option("--severity", help="This severity and above, e.g. warn.")
    ] = None,
    agent: Agent = None,
    since: Annotated[
        str | None, typer.Option("--since", help="Begin: a span before now like 15m, or a time.")
    ] = None,
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

    params = {
        "q": text,
        "source": source,
        "severity": severity,
        "agent": agent,
        "start": listing.point(since),
        "end": listing.point(until),
        "limit": limit,
    }
    listing.events(_client(url, token_file, ca_file), params, _how(how, as_json))


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
    listing.alerts(_client(url, token_file, ca_file), params, _how(how, as_json))


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

    listing.loss(_client(url, token_file, ca_file), {"agent": agent}, _how(how, as_json))


@app.command()
def sql(
    statement: Annotated[
        str, typer.Argument(help='E.g. "SELECT name, avg(value) FROM samples GROUP BY name".')
    ],
    match: Annotated[
        str | None, typer.Option("--match", help="Only samples of series that match this selector.")
    ] = None,
    since: Since = "1h",
    until: Until = None,
    how: Show = Format.TABLE,
    as_json: Json = False,
    config: ConfigFile = None,
) -> None:
    """Ask the store's raw samples in SQL (Polars), on the collector's machine. Tables: samples, windows, series."""
    from telemetryx.cli import sql as command

    command.run(config, command.Question(statement, match, since, until), _how(how, as_json))


@app.command()
def convert(
    source: Annotated[
        str, typer.Argument(help="What `telemetryx-agent spool export` wrote; - is standard input.")
    ],
    folder: Annotated[Path, typer.Argument(help="Where samples.parquet and the others go.", file_okay=False)],
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that are there.")] = False,
) -> None:
    """Turn readings exported from an agent's spool (NDJSON) into Parquet, a file a kind."""
    from telemetryx.cli import convert as command

    command.run(source, folder, force=force)


@config_app.command("reference")
def config_reference(
    markdown: Annotated[bool, typer.Option("--markdown", help="As the page in docs/reference.")] = False,
) -> None:
    """Print a commented configuration with every key and its default."""
    from telemetryx import config

    typer.echo(config.reference() if markdown else config.example(), nl=False)


@config_app.command("check")
def config_check(path: Annotated[Path, typer.Argument(help="The TOML file.")]) -> None:
    """Say what is wrong in a configuration, with lines, without starting anything."""
    from telemetryx.cli import run

    run.check(path)


@rules_app.command("check")
def rules_check(paths: Annotated[list[Path], typer.Argument(help="YAML files.")]) -> None:
    """Say what is wrong in rule files, with lines."""
    from telemetryx.cli import rules

    rules.check(paths)


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

    listing.rules(_client(url, token_file, ca_file), _how(how, as_json))


@quarantine_app.command("ls")
def quarantine_ls(
    agent: Agent = None,
    limit: Limit = 50,
    how: Show = Format.TABLE,
    as_json: Json = False,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
) -> None:
    """List batches that are kept apart, newest first."""
    from telemetryx.cli import quarantine

    quarantine.ls(_client(url, token_file, ca_file), {"agent": agent, "limit": limit}, _how(how, as_json))


@quarantine_app.command("show")
def quarantine_show(
    number: QuarantineId,
    as_json: Json = False,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
) -> None:
    """Show what is in one: its series and events."""
    from telemetryx.cli import quarantine

    quarantine.show(_client(url, token_file, ca_file), number, as_json=as_json)


@quarantine_app.command("release")
def quarantine_release(
    number: QuarantineId,
    shift: Annotated[
        str | None,
        typer.Option(
            "--shift", help="Move its times by a span, e.g. --shift=-2d12h for a clock that was ahead."
        ),
    ] = None,
    to_arrival: Annotated[
        bool, typer.Option("--to-arrival", help="Move its times so that the latest is when the batch came.")
    ] = False,
    as_json: Json = False,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
) -> None:
    """Store one; what was moved is marked as uncertain."""
    from telemetryx.cli import quarantine

    quarantine.release(
        _client(url, token_file, ca_file), number, shift, to_arrival=to_arrival, as_json=as_json
    )


@quarantine_app.command("drop")
def quarantine_drop(
    number: QuarantineId,
    as_json: Json = False,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
) -> None:
    """Delete one for good; its readings stay counted as refused."""
    from telemetryx.cli import quarantine

    quarantine.drop(_client(url, token_file, ca_file), number, as_json=as_json)


@store_app.command("check")
def store_check(config: ConfigFile = None, as_json: Json = False) -> None:
    """Check that a collector can work on the store: it is there, ours, and of a schema that is known."""
    from telemetryx.cli import store

    store.check(config, as_json=as_json)


@store_app.command("backup")
def store_backup(
    to: Annotated[Path, typer.Argument(help="The file to write.")],
    config: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Write the whole store into one file, also while a collector runs on it. Of a database in PostgreSQL too."""
    from telemetryx.cli import moving

    moving.backup(config, to, as_json=as_json)


@store_app.command("restore")
def store_restore(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="What `backup` wrote.")],
    config: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Make a backup the collector's store, where there is none or an empty database; with the collector stopped."""
    from telemetryx.cli import moving

    moving.restore(config, source, as_json=as_json)


@store_app.command("copy")
def store_copy(
    to: Annotated[
        str, typer.Option("--to", metavar="STORE", help="A file, or postgresql://…: not there yet, or empty.")
    ],
    password_file: Annotated[
        Path | None, typer.Option("--to-password-file", help="The database's password, in a file.")
    ] = None,
    config: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Copy the store into another one, from SQLite to PostgreSQL or back; rows are counted on both sides.

    Stop the collector first: what it stores meanwhile isn't in the copy, and agents don't send it again.
    """
    from telemetryx.cli import moving

    moving.copy(config, to, password_file, as_json=as_json)


@store_app.command("verify")
def store_verify(config: ConfigFile = None, as_json: Json = False) -> None:
    """Check that the store is sound, and that ledger, batches and chunks agree."""
    from telemetryx.cli import store

    store.verify(config, as_json=as_json)


@store_app.command("stats")
def store_stats(config: ConfigFile = None, as_json: Json = False) -> None:
    """Show how big the store is and what is in it."""
    from telemetryx.cli import store

    store.stats(config, as_json=as_json)


@token_app.command("new")
def token_new(
    out: Annotated[
        Path | None, typer.Option("--out", help="Add it to this token file (made with mode 600).")
    ] = None,
    note: Annotated[str, typer.Option("--note", help="A comment beside it: for whom it is.")] = "",
) -> None:
    """Make a random token."""
    from telemetryx.cli import token

    token.new(out, note)


@app.command("openapi", hidden=True)
def openapi(
    markdown: Annotated[bool, typer.Option("--markdown", help="As docs/reference/http-api.md.")] = False,
) -> None:
    """Print the API's description; docs/reference/http-api.md is made with it."""
    from telemetryx.cli import reference

    reference.show(markdown=markdown)
