"""`telemetryx agents config …`, `agents log-level` and `agents diagnostics`: agents are configured and asked from afar."""

import difflib
import sys
import time
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import quote

import typer

from telemetryx.cli import output
from telemetryx.cli.client import DEFAULT_URL, Asked
from telemetryx.cli.errors import CliError, Exit
from telemetryx.cli.options import (
    AgentName,
    CaFile,
    Force,
    Json,
    Limit,
    Show,
    Straight,
    TokenFile,
    Url,
    Wait,
    asked_of,
    given,
    shown_as,
)
from telemetryx.cli.output import Format
from telemetryx.cli.targets import STDOUT, free, whole
from telemetryx.cli.text import printable
from telemetryx.errors import unread

app = typer.Typer(
    help="Push configurations to agents, see what came of them, take them back.", no_args_is_help=True
)

Version = Annotated[int, typer.Argument(min=1, help="Its version, as `agents config list` says it.")]
Canary = Annotated[
    str,
    typer.Option(
        "--canary",
        metavar="N|P%",
        help="So many agents get it first; the rest once all of these have applied it, and nobody more when one fails.",
    ),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")]
SHOWN: Final = 3
"""Configurations that a new one is compared with: those that most of its agents have."""
NAMED: Final = 5
POLL_S: Final = 0.5


@app.command("push")
def push(
    file: Annotated[
        Path,
        typer.Argument(
            parser=given,
            metavar="FILE",
            help="TOML with what differs from the files on the hosts, without secrets.",
        ),
    ],
    agent: Annotated[str, typer.Option("--agent", metavar="NAME", help="Only for this agent.")] = "",
    match: Annotated[
        str,
        typer.Option(
            "--match", help='Only for agents whose labels meet this, e.g. \'site="plant1",os="linux"\'.'
        ),
    ] = "",
    everyone: Annotated[bool, typer.Option("--all", help="For all agents.")] = False,
    note: Annotated[str, typer.Option("--note", help="Why.")] = "",
    canary: Canary = "",
    check: Annotated[bool, typer.Option("--check", help="Only say what it would do.")] = False,
    yes: Yes = False,
    config: Straight = None,
    as_json: Json = False,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
) -> None:
    """Push a configuration: say whom it reaches and what changes for them, ask, and send it."""
    if sum([bool(agent), bool(match), everyone]) != 1:
        raise CliError(
            "it isn't said whom it is for", "give one of --agent NAME, --match LABELS and --all", Exit.USAGE
        )
    body = {"toml": _read(file), "agent": agent, "match": match, "note": note, "canary": canary}
    far = asked_of(config, url, token_file, ca_file)
    reach = far.send("POST", "/configs/check", body)
    if check:
        if agent and not any(reach[key] for key in ("agents", "unsupported", "overruled")):
            # Pushed all the same it waits for one of that name: whoever only looks learns of a slip.
            raise CliError(
                f"no agent is called {printable(agent)!r}: pushed, it would wait for one of that name",
                "`telemetryx agents` lists them",
                Exit.NO,
            )
        if as_json:
            output.write_json(reach)
        else:
            _say_reach(far, reach, body["toml"])
        return
    if not yes:
        _say_reach(far, reach, body["toml"])
        _sure(f"Push it to {output.count(len(reach['agents']), 'agent')}?")
    made = far.send("POST", "/configs", body)
    output.said(made, _pushed(made), as_json=as_json)


@app.command("push-again")
def push_again(
    version: Version,
    canary: Canary = "",
    config: Straight = None,
    as_json: Json = False,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
) -> None:
    """Push an old configuration anew, as the newest, to whom it was for: to go back to it, or to try one again that failed."""
    made = asked_of(config, url, token_file, ca_file).send(
        "POST", f"/configs/{version}/push-again", {"canary": canary}
    )
    output.said(made, _pushed(made), as_json=as_json)


@app.command("take-back")
def take_back(
    version: Version,
    config: Straight = None,
    as_json: Json = False,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
) -> None:
    """Take a configuration back: its agents get the next that is for them, or go back to the file on their host."""
    row = asked_of(config, url, token_file, ca_file).send("POST", f"/configs/{version}/take-back")
    output.said(row, f"configuration {row['version']} for {_whom(row)}: taken back", as_json=as_json)


@app.command("list")
def list_(
    limit: Limit = 100,
    how: Show = Format.TABLE,
    config: Straight = None,
    as_json: Json = False,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
) -> None:
    """List configurations, newest first."""
    answer = asked_of(config, url, token_file, ca_file).get("/configs", {"limit": limit})
    none = "no configuration was pushed; `telemetryx agents config push` does it"
    output.listed(answer, answer["configs"], shown_as(how, as_json), _shown, none=none)


@app.command("show")
def show(
    version: Version,
    config: Straight = None,
    as_json: Json = False,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
) -> None:
    """Print the text of one."""
    row = asked_of(config, url, token_file, ca_file).get(f"/configs/{version}")
    output.said(row, _text(row["toml"]).rstrip("\n"), as_json=as_json)


@app.command("diff")
def diff(
    old: Annotated[int, typer.Argument(min=0, help="A version; 0 is nothing.")],
    new: Version,
    config: Straight = None,
    as_json: Json = False,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
) -> None:
    """Show what differs between two. The exit code is 1 when something does."""
    far = asked_of(config, url, token_file, ca_file)
    lines = _difference(_toml(far, old), _toml(far, new), f"version {old}", f"version {new}")
    if as_json:
        output.write_json({"old": old, "new": new, "differs": bool(lines), "lines": lines})
    else:
        for line in lines:
            print(_text(line))
    if lines:
        raise typer.Exit(Exit.NO)


@app.command("status")
def status(
    phase: Annotated[
        str | None,
        typer.Option("--phase", help="waiting, trial, applied, failed, declined, unsupported or none."),
    ] = None,
    version: Annotated[
        int | None, typer.Option("--version", min=1, help="Only agents that should have this one.")
    ] = None,
    limit: Limit = 1_000,
    how: Show = Format.TABLE,
    config: Straight = None,
    as_json: Json = False,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
) -> None:
    """Say how far agents are: what each should have, what came of it and why, what is in force."""
    params = {"phase": phase, "version": version, "limit": limit}
    answer = asked_of(config, url, token_file, ca_file).get("/configs/states", params)
    output.listed(answer, answer["agents"], shown_as(how, as_json), _state, none="no agent is like that")


def log_level(
    name: AgentName,
    level: Annotated[
        str,
        typer.Argument(
            help="As `[agent] log` takes it: debug, or info,uplink=trace; '' is the configuration's own."
        ),
    ],
    lasts: Annotated[str, typer.Option("--for", metavar="SPAN", help="For how long, at most a day.")] = "15m",
    timeout: Wait = 60,
    config: Straight = None,
    as_json: Json = False,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
) -> None:
    """Give an agent another log level for a while."""
    far = asked_of(config, url, token_file, ca_file)
    body = {"level": level, "duration": lasts, "wait": f"{timeout}s"}
    asked = far.send("POST", f"/agents/{quote(name, safe='')}/log-level", body)
    done = _awaited(far, asked, timeout)
    now = printable(level) or "the level of its configuration"
    output.said(done, f"agent {printable(name)} logs at {now} for {printable(lasts)}", as_json=as_json)


def diagnostics(
    name: AgentName,
    to: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            parser=given,
            metavar="FILE",
            help="The file to write, a .tar.zst; - is standard output.",
        ),
    ],
    timeout: Wait = 120,
    request: Annotated[
        int | None,
        typer.Option(
            "--request", min=1, help="Wait for what was asked before, by its number, and ask nothing new."
        ),
    ] = None,
    force: Force = False,
    config: Straight = None,
    as_json: Json = False,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
) -> None:
    """Fetch a diagnostics bundle of an agent: its status, configuration without secrets, spool, last log lines."""
    free(to, force=force)
    far = asked_of(config, url, token_file, ca_file)
    if request is None:
        asked = far.send("POST", f"/agents/{quote(name, safe='')}/diagnostics", {"wait": f"{timeout}s"})
    else:
        asked = far.get(f"/requests/{request}")
        if (asked["agent"], asked["kind"]) != (name, "diagnostics"):
            raise CliError(f"request {request} isn't for diagnostics of agent {printable(name)}")
    done = _awaited(far, asked, timeout)
    with whole(to, force=force) as out:
        came = 0
        for piece in far.pieces(f"/requests/{done['id']}/answer"):
            out.write(piece)
            came += len(piece)
        if came != done["bytes"]:
            raise CliError(
                f"{came} bytes came of {done['bytes']}", "try again with another --out", Exit.REFUSED
            )
    if str(to) == STDOUT:
        output.nothing(f"{output.size(came)} from agent {printable(name)}")
    else:
        sentence = f"{to}: {output.size(came)} from agent {printable(name)}"
        output.said({**done, "file": str(to)}, sentence, as_json=as_json)


def _awaited(far: Asked, request: dict[str, Any], timeout_s: int) -> dict[str, Any]:
    """Wait as long as something comes and return the request as it stands then; raises CliError when there is no answer."""
    until, seen = time.monotonic() + timeout_s, request
    told = ""
    terminal = sys.stderr.isatty()
    try:
        while request["state"] in {"waiting", "asked"} and time.monotonic() < until:
            now = _progress(request)
            if terminal and now != told:
                sys.stderr.write(f"\r\x1b[K{now}")
                sys.stderr.flush()
                told = now
            time.sleep(POLL_S)
            request = far.get(f"/requests/{request['id']}")
            if (request["state"], request["bytes"]) != (seen["state"], seen["bytes"]):
                until, seen = time.monotonic() + timeout_s, request
    finally:
        if told:
            sys.stderr.write("\r\x1b[K")
    agent = printable(request["agent"])
    match request["state"]:
        case "done":
            return request
        case "waiting" | "lapsed":
            raise CliError(
                f"agent {agent} didn't take the request within {timeout_s} s",
                "the collector must run; `telemetryx agents` says whether the agent is connected; --timeout waits longer",
            )
        case "asked":
            raise CliError(
                f"nothing came from agent {agent} for {timeout_s} s ({output.size(request['bytes'])} came before)",
                f"request {request['id']} goes on; for diagnostics --request {request['id']} waits for it again",
            )
        case _:
            raise CliError(
                f"agent {agent} couldn't do it: {printable(request['reason'])}", "its log says more"
            )


def _progress(request: dict[str, Any]) -> str:
    if request["state"] == "waiting":
        return "waiting for the agent to be connected"
    return f"the agent answers: {output.size(request['bytes'])}"


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CliError(f"{file} can't be read: {unread(error)}", code=Exit.USAGE) from error


def _sure(question: str) -> None:
    if not sys.stdin.isatty():
        raise CliError("nobody is there to ask", "give --yes, or look first with --check", Exit.USAGE)
    if not typer.confirm(question, err=True):
        raise CliError("nothing was pushed")


def _say_reach(far: Asked, reach: dict[str, Any], toml: str) -> None:
    """Say whom it reaches, and what changes for them."""
    reached = len(reach["agents"])
    print(f"It reaches {output.count(reached, 'agent')}{_named(reach['agents'])}.")
    if reach["offline"]:
        print(
            f"{reach['offline']} of them not connected: {'it gets' if reach['offline'] == 1 else 'they get'} it later."
        )
    if reach["first"]:
        print(f"First {output.count(len(reach['first']), 'agent')}{_named(reach['first'])}.")
    for key, why in (("unsupported", "take no configurations"), ("overruled", "keep a more specific one")):
        if reach[key]:
            print(f"{output.count(len(reach[key]), 'agent')} {why}{_named(reach[key])}.")
    for old in reach["replaced"][:SHOWN]:
        version = old["version"]
        what = f"configuration {version}" if version else "no pushed configuration"
        print(f"\n{output.count(old['agents'], 'agent')} with {what} until now:")
        for line in _difference(_toml(far, version), toml, f"version {version}", "new"):
            print(_text(line))
    if len(reach["replaced"]) > SHOWN:
        print(f"\nand {len(reach['replaced']) - SHOWN} other configurations are replaced")


def _pushed(made: dict[str, Any]) -> str:
    row = made["config"]
    first = made["first"]
    to = f"{output.count(len(first), 'agent')} first{_named(first)}, of" if first else ""
    return (
        f"configuration {row['version']} for {_whom(row)}: pushed to {to}{' ' if to else ''}"
        f"{output.count(len(made['agents']), 'agent')}\n"
        f"`telemetryx agents config status --version {row['version']}` says what comes of it"
    )


def _named(names: list[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f": {', '.join(printable(name) for name in names[:NAMED])}{more}"


def _toml(far: Asked, version: int) -> str:
    return str(far.get(f"/configs/{version}")["toml"]) if version else ""


def _difference(old: str, new: str, old_name: str, new_name: str) -> list[str]:
    return [
        line.rstrip("\n")
        for line in difflib.unified_diff(old.splitlines(), new.splitlines(), old_name, new_name, lineterm="")
    ]


def _text(text: str) -> str:
    """Print a configuration's lines as they are, and nothing that a terminal would obey."""
    return "\n".join(printable(line.replace("\t", "    ")) for line in text.split("\n"))


def _whom(row: dict[str, Any]) -> str:
    if row["agent"]:
        return f"agent {printable(row['agent'])}"
    return printable(f"{{{row['match']}}}") if row["match"] else "all agents"


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    state = row["state"].replace("_", " ")
    return {
        "version": str(row["version"]),
        "state": f"{state}: {row['reason']}" if row["reason"] else state,
        "for": _whom(row),
        "bytes": row["bytes"],
        "by": row["author"],
        "pushed": output.moment(row["created_ns"]),
        "note": row["note"],
    }


def _state(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "agent": row["agent"],
        "connected": row["connected"],
        "wanted": _number(row["wanted"]),
        "phase": row["phase"],
        "in force": _number(row["in_force"]),
        "reason": row["reason"],
    }


def _number(number: int) -> str:
    return str(number) if number else "host's file"
