"""`telemetryx agents`: the fleet as it is seen, who may come in, and remote care (care.py)."""

from pathlib import Path
from typing import Annotated, Any

import typer

from telemetryx.cli import output
from telemetryx.cli.care import app as config_app
from telemetryx.cli.care import diagnostics, log_level
from telemetryx.cli.client import DEFAULT_URL
from telemetryx.cli.options import (
    AgentName,
    CaFile,
    Json,
    Limit,
    Many,
    Show,
    Straight,
    TokenFile,
    Url,
    client,
    shown_as,
)
from telemetryx.cli.output import Format
from telemetryx.cli.text import printable

app = typer.Typer(
    help="List agents: state, last seen, backlog, clock skew, rate. With a command: who is enrolled, approve, revoke, configure, diagnose.",
    invoke_without_command=True,
)

app.add_typer(config_app, name="config")
app.command("log-level")(log_level)
app.command("diagnostics")(diagnostics)


@app.callback()
def agents(
    context: typer.Context,
    filter_: Annotated[str, typer.Option("--filter", help="Part of a name or label.")] = "",
    state: Annotated[
        str | None, typer.Option("--state", help="live, catching_up, silent or revoked.")
    ] = None,
    site: Annotated[str | None, typer.Option("--site", help="Only agents that serve this site.")] = None,
    sort: Annotated[
        str, typer.Option("--sort", help="name, last_seen, last_event, backlog, skew or rate.")
    ] = "name",
    descending: Annotated[bool, typer.Option("--desc", help="Largest first.")] = False,
    limit: Many = 50,
    how: Show = Format.TABLE,
    as_json: Json = False,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
) -> None:
    """List agents: state, last seen, backlog, clock skew, rate. With a command: who is enrolled, approve, revoke, configure, diagnose."""
    if context.invoked_subcommand is not None:
        return
    from telemetryx.cli import listing

    params = {
        "filter": filter_ or None,
        "state": state,
        "site": site,
        "sort": sort,
        "order": "desc" if descending else "asc",
        "limit": limit,
    }
    listing.agents(client(url, token_file, ca_file), params, shown_as(how, as_json))


@app.command("ls")
def ls(
    state: Annotated[str | None, typer.Option("--state", help="pending, active or revoked.")] = None,
    filter_: Annotated[str, typer.Option("--filter", help="Part of the name.")] = "",
    limit: Limit = 1_000,
    how: Show = Format.TABLE,
    config: Straight = None,
    as_json: Json = False,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
) -> None:
    """List the agents that joined with an enrolment token, and until when their certificates are valid."""
    if config is None:
        params = {"state": state, "filter": filter_ or None, "limit": limit}
        answer = client(url, token_file, ca_file).get("/enroll/agents", params)
    else:
        from telemetryx.cli import joined

        answer = joined.agents(config, limit, state, filter_)
    none = "no agent is enrolled" if state is None else f"no enrolled agent is {printable(state)}"
    if filter_:
        none = (
            f"{none} and has {printable(filter_)!r} in its name"
            if state
            else f"no enrolled agent has {printable(filter_)!r} in its name"
        )
    output.listed(answer, answer["agents"], shown_as(how, as_json), _shown, none=none)


@app.command("approve")
def approve(
    name: AgentName,
    config: Straight = None,
    as_json: Json = False,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
) -> None:
    """Let an agent in that joined and waits; it fetches its certificate by itself within seconds."""
    _said(_decided(name, "approve", config, url, token_file, ca_file), as_json=as_json)


@app.command("reject")
def reject(
    name: AgentName,
    config: Straight = None,
    as_json: Json = False,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
) -> None:
    """Shut an agent out that waits: its key never comes in, and its name is free for another host."""
    _said(_decided(name, "reject", config, url, token_file, ca_file), as_json=as_json)


@app.command("revoke")
def revoke(
    name: AgentName,
    config: Straight = None,
    as_json: Json = False,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
) -> None:
    """Shut an enrolled agent out for good: its link is cut at once, and its key opens nothing any more."""
    _said(_decided(name, "revoke", config, url, token_file, ca_file), as_json=as_json)


def _decided(
    name: str, verb: str, config: Path | None, url: str, token_file: Path | None, ca_file: Path | None
) -> dict[str, Any]:
    if config is None:
        return client(url, token_file, ca_file).send("POST", _path(name, verb))
    from telemetryx.cli import joined

    return joined.decide(config, name, verb)


def _path(name: str, verb: str) -> str:
    from urllib.parse import quote

    return f"/enroll/agents/{quote(name, safe='')}/{verb}"


def _said(row: dict[str, Any], *, as_json: bool) -> None:
    output.said(row, f"agent {printable(row['agent'])}: {row['state']}", as_json=as_json)


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "agent": row["agent"],
        "state": row["state"],
        "site": row["site"],
        "joined": output.moment(row["asked_ns"]),
        "from": row["peer"],
        "renewed": "-" if row["renewed_ns"] is None else output.moment(row["renewed_ns"]),
        "certificate until": _until(row),
    }


def _until(row: dict[str, Any]) -> str:
    """Write until when a certificate is good, and whether it should have been renewed: nobody visits the host."""
    if row["expires_ns"] is None:
        return "-"
    from telemetryx.clock import SystemClock
    from telemetryx.store.enrolment import Life

    said = output.moment(row["expires_ns"])
    if row["state"] != "active" or row["renewed_ns"] is None:
        return said
    life = Life(row["agent"], row["renewed_ns"], row["expires_ns"])
    why = life.overdue(SystemClock().now_ns())
    return f"{said} ({why})" if why else said
