"""`telemetryx silence ls|add|end`: notifications about some alerts are kept back for a while."""

import time
from typing import Annotated, Any

import typer

from telemetryx.cli import output
from telemetryx.cli.client import DEFAULT_URL
from telemetryx.cli.errors import CliError, Exit
from telemetryx.cli.options import CaFile, Json, Limit, Show, TokenFile, Url, client, shown_as
from telemetryx.cli.output import Format
from telemetryx.cli.text import printable

app = typer.Typer(
    help="Keep notifications about some alerts back for a while: list, begin and end silences.",
    no_args_is_help=True,
)


@app.command("ls")
def ls(
    ended: Annotated[bool, typer.Option("--ended", help="Those that ended, newest first.")] = False,
    limit: Limit = 100,
    how: Show = Format.TABLE,
    as_json: Json = False,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
) -> None:
    """List silences that stand or are to come, those that end first at the top."""
    params = {"state": "ended" if ended else "standing", "limit": limit}
    answer = client(url, token_file, ca_file).get("/silences", params)
    none = "no silence has ended" if ended else "nothing is silenced"
    output.listed(answer, answer["silences"], shown_as(how, as_json), _shown, none=none)


@app.command("add")
def add(
    match: Annotated[
        str, typer.Argument(help="Which alerts: the rule's name and labels, e.g. 'hot{site=\"north\"}'.")
    ],
    lasts: Annotated[str | None, typer.Option("--for", help="How long, e.g. 2h or 1d12h.")] = None,
    until: Annotated[str | None, typer.Option("--until", help="Until when, in place of --for.")] = None,
    starts: Annotated[str, typer.Option("--from", help="From when on.")] = "now",
    author: Annotated[str | None, typer.Option("--author", envvar="USER", help="Who says so.")] = None,
    comment: Annotated[str, typer.Option("--comment", help="Why.")] = "",
    as_json: Json = False,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
) -> None:
    """Begin a silence: nobody is told about alerts that match until it ends; then of those that still stand."""
    _check(match, lasts, until, starts)
    if not author:
        raise CliError("it isn't said who silences", "give --author NAME", Exit.USAGE)
    end = {"duration": lasts} if lasts is not None else {"ends": until}
    body = {"match": match, "starts": starts, **end, "author": author, "comment": comment}
    row = client(url, token_file, ca_file).send("POST", "/silences", body)
    _said(row, as_json=as_json)
    if not as_json:
        print(_met(row))


@app.command("end")
def end(
    number: Annotated[int, typer.Argument(min=1, help="Its id, as `silence ls` says it.")],
    as_json: Json = False,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
) -> None:
    """End a silence now: what it held back and no other does is told."""
    row = client(url, token_file, ca_file).send("DELETE", f"/silences/{number}")
    if row["ended_before"] and not as_json:
        print(f"silence {number} had ended already, at {output.moment(row['ends_ns'])}: nothing changes")
        return
    _said(row, as_json=as_json)


def _check(match: str, lasts: str | None, until: str | None, starts: str) -> None:
    """Say what is wrong before anybody is asked: of what, until when, from when on."""
    from telemetryx.api.times import TimeError, parse_duration, parse_time
    from telemetryx.errors import SelectorError
    from telemetryx.store.selector import parse

    example = 'e.g. \'hot{site="north"}\' or \'{alertname="pump hot", site="north"}\': the rule, then labels of the alert'
    try:
        matchers = parse(match)
    except SelectorError as error:
        raise CliError(f"MATCH: {printable(str(error))}", example, Exit.USAGE) from error
    if not matchers:
        raise CliError("MATCH is empty: a silence of everything isn't taken", example, Exit.USAGE)
    if lasts is None and until is None:
        raise CliError(
            "it isn't said when the silence ends", "give --for, e.g. --for 2h, or --until", Exit.USAGE
        )
    if lasts is not None and until is not None:
        raise CliError("both --for and --until are given", "give one of them", Exit.USAGE)
    now = time.time_ns()
    for option, text, read in (
        ("--for", lasts, parse_duration),
        ("--until", until, lambda text: parse_time(text, now)),
        ("--from", starts, lambda text: parse_time(text, now)),
    ):
        try:
            if text is not None:
                read(text)
        except TimeError as error:
            hint = "how long it lasts is --for" if option == "--until" else ""
            raise CliError(f"{option}: {error}", hint, Exit.USAGE) from error


def _said(row: dict[str, Any], *, as_json: bool) -> None:
    until = output.moment(row["ends_ns"])
    sentence = f"silence {row['id']}: {printable(row['match'])}, {row['state']}, until {until}"
    output.said(row, sentence, as_json=as_json)


def _met(row: dict[str, Any]) -> str:
    """Say how many alerts it is about: of what nobody notices."""
    met = row["alerts"]
    if not met:
        return "no open alert meets it now: `telemetryx alerts` and `telemetryx rules list` tell rules and labels"
    counted = output.count(met, "open alert")
    return f"{counted} {'meet' if met > 1 else 'meets'} it now" + (
        ": notifications are held back" if row["state"] == "active" else ""
    )


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": str(row["id"]),
        "state": row["state"],
        "match": row["match"],
        "from": output.moment(row["starts_ns"]),
        "until": output.moment(row["ends_ns"]),
        "by": row["author"],
        "why": row["comment"],
    }
