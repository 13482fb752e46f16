"""The documentation can't go stale: what exists is written down, and what is written down exists."""

import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from telemetryx import config
from telemetryx.api.metrics import Metric
from telemetryx.api.routes import ROUTES, document
from telemetryx.cli import reference as http_api
from telemetryx.rules import reference as rules
from tests.harness import Stack, agent_status, commands
from tests.harness.commands import Command
from tests.harness.processes import PATIENCE
from tests.harness.stack import AGENT, ROOT

DOCS = ROOT / "docs"
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *DOCS.rglob("*.md"),
        *(ROOT / folder / "README.md" for folder in ("collector", "models", "proto")),
    ]
)
#: Where a person looks a name up.
REFERENCE = "\n".join(
    path.read_text("utf-8") for path in (ROOT / "README.md", *sorted((DOCS / "reference").glob("*.md")))
)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^```[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`([^`\n]+)`")
#: Paths from the repository's root, as prose names them.
_ROOTS = ("agent/", "collector/", "docs/", "models/", "packaging/", "proto/", "tests/")


def name(page: Path) -> str:
    """Name a page in a test's id."""
    return page.relative_to(ROOT).as_posix()


def agent_says(*arguments: str) -> str:
    """Run the agent's program and return what it prints."""
    return subprocess.run(
        [AGENT, *arguments], capture_output=True, text=True, timeout=PATIENCE, check=True
    ).stdout


# --- what exists is written down


@pytest.mark.parametrize(
    ("page", "made"),
    [
        ("agent-config.md", lambda: agent_says("config", "--reference")),
        ("collector-config.md", config.reference),
        ("http-api.md", http_api.page),
        ("rules.md", rules.reference),
        ("commands.md", commands.page),
        ("agent-status.md", agent_status.page),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_generated_page_is_what_the_program_writes_now(page: str, made: Any) -> None:
    """`just docs` was run after the last change of what the page is made of."""
    assert (DOCS / "reference" / page).read_text("utf-8") == made(), "run `just docs` and commit the page"


def test_every_command_and_option_is_in_the_reference() -> None:
    """Whoever looks for a command or an option finds it, hidden ones apart."""

    def missing(command: Command) -> Iterator[str]:
        if command.hidden:
            return
        if command.path not in REFERENCE:
            yield command.path
        for option in command.options:
            if not re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", REFERENCE):
                yield f"{command.path} {option}"
        for inner in command.commands.values():
            yield from missing(inner)

    programs = (commands.telemetryx(), commands.agent())
    assert all(len(program.commands) > 5 for program in programs)
    assert [word for program in programs for word in missing(program)] == []


#: Commands without --json, and why a program needs none.
PLAIN = {
    "telemetryx collector": "it runs, and its log is JSON by [collector] log_format",
    "telemetryx export": "what it prints is the data, in the form that --format says",
    "telemetryx config reference": "what it prints is TOML",
    "telemetryx-agent run": "it runs, and its log is JSON by [agent] log_format",
    "telemetryx-agent top": "a live view for a person; `status --json` has what it shows",
    "telemetryx-agent spool export": "what it prints is the readings, as NDJSON or line protocol",
    "telemetryx-agent config": "what it prints is TOML, or with --schema JSON",
    "telemetryx-agent hash-password": "what it prints is the one line that goes into the configuration",
}


def test_every_command_that_answers_does_so_in_json_too() -> None:
    """Or there is a reason, and no reason is left of what has --json by now."""

    def plain(command: Command) -> Iterator[str]:
        if command.hidden:
            return
        answers = not command.commands or command.options - {"--help", "-h", "--version", "-V"}
        if answers and "--json" not in command.options:
            yield command.path
        for inner in command.commands.values():
            yield from plain(inner)

    found = {path for program in (commands.telemetryx(), commands.agent()) for path in plain(program)}
    assert found - {"telemetryx", "telemetryx-agent"} == set(PLAIN)


def test_every_route_is_in_the_reference() -> None:
    """The paths of OpenAPI, and what is served beside them."""
    paths = {route.path for route in ROUTES} | set(document()["paths"])  # type: ignore[call-overload]
    paths |= {"/api/v1/live", "/metrics", "/openapi.json"}
    assert len(paths) > 10
    assert [path for path in sorted(paths) if path not in REFERENCE] == []


def test_every_key_of_a_real_status_is_in_its_reference(stack: Stack) -> None:
    """Of an agent that was asked: what it says has the form that its source seems to have."""
    agent = stack.agent(stack.collector())
    assert agent.write("m v=1") == 204
    agent.wait_drained()
    known = {key.path for key in agent_status.entries()}
    maps = {key.path for key in agent_status.entries() if key.kind.startswith("object of ")}

    def walk(value: Any, path: str) -> Iterator[str]:
        if isinstance(value, dict):
            for key, inside in value.items():
                at = f"{path}.{key}" if path else key
                at = f"{path}.NAME" if path in maps else at
                yield at
                yield from walk(inside, at)
        elif isinstance(value, list):
            for inside in value:
                yield from walk(inside, f"{path}[]")

    said = {path for path in walk(agent.status(), "") if not path.endswith(".NAME")}
    assert said - known == set()
    assert {
        "spool.priorities.NAME.bytes",
        "link.backlog.bytes",
        "inputs[].rate",
        "fold.fold.position",
    } <= said


def test_every_metric_is_in_the_reference(stack: Stack) -> None:
    """Those that a running collector exposes by now, and those that are declared and wait for their first count."""
    collector = stack.collector()
    agent = stack.agent(collector)
    assert agent.write("m v=1") == 204
    agent.wait_drained()
    exposed = set(re.findall(r"^# TYPE (\S+)", collector.get("/metrics"), re.MULTILINE))
    declared = {metric.value.full_name for metric in Metric}
    assert "telemetryx_collector_batches_total" in exposed
    assert exposed <= declared
    assert [metric for metric in sorted(declared) if f"`{metric}`" not in REFERENCE] == []


def keys(schema: dict[str, Any], described: dict[str, Any]) -> Iterator[str]:
    """Give every key of a JSON schema, those of inner tables too."""
    for kind in (described, *described.get("anyOf", ()), *described.get("oneOf", ())):
        if "$ref" in kind:
            yield from keys(schema, schema["$defs"][kind["$ref"].rpartition("/")[2]])
        if "items" in kind:
            yield from keys(schema, kind["items"])
        for key, inner in kind.get("properties", {}).items():
            yield key
            yield from keys(schema, inner)


@pytest.mark.parametrize(
    ("page", "schema"),
    [
        ("agent-config.md", lambda: json.loads(agent_says("config", "--schema"))),
        ("collector-config.md", config.Settings.model_json_schema),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_configuration_key_is_in_its_reference(page: str, schema: Any) -> None:
    """By the schema that a configuration file is checked with."""
    known = schema()
    found = set(keys(known, known))
    assert len(found) > 20
    text = (DOCS / "reference" / page).read_text("utf-8")
    assert [
        key for key in sorted(found) if not re.search(rf"(?<![\w-]){re.escape(key)}(?![\w-])", text)
    ] == []


# --- what is written down exists


def anchors(page: Path) -> set[str]:
    """Give the anchors that GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", _FENCE.sub("", page.read_text("utf-8")), re.MULTILINE)
    plain = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading) for heading in headings)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_leads_to_a_file_and_its_heading(page: Path) -> None:
    """Relative links only: other people's pages are theirs."""
    lost = []
    for link in _LINK.findall(_FENCE.sub("", page.read_text("utf-8"))):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            lost.append(link)
    assert lost == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_path_that_prose_names_is_there(page: Path) -> None:
    """`collector/src/…` in a code span, with * for any name and NAME in capitals for a placeholder."""
    prose = _LINK.sub("", _FENCE.sub("", page.read_text("utf-8")))
    paths = {span.split()[0].partition("::")[0].rstrip("/") for span in _SPAN.findall(prose)}
    ours = {path for path in paths if path.startswith(_ROOTS) and not re.search(r"[A-Z]{4}|…|[{<]", path)}
    assert [path for path in ours if not path.startswith("agent/target") and not [*ROOT.glob(path)]] == []


def test_the_walk_names_each_file_as_it_is_called() -> None:
    """A step's words and its link mean the same file, and the walk ends where the reading is seen."""
    page = DOCS / "architecture.md"
    walk = page.read_text("utf-8").partition("## A walk")[2]
    steps = re.findall(r"\[`([^`]+)`\]\(([^)]+)\)", walk)
    assert len(steps) >= 10
    for words, link in steps:
        assert (page.parent / link).is_file(), link
        assert f"/{link}".replace("/src/telemetryx/", "/").endswith(f"/{words}"), (words, link)
    assert steps[0][0].startswith("inputs/")
    assert steps[-1][0].startswith("console/")


def recipes() -> set[str]:
    """Give the justfile's recipes, those for itself too."""
    text = (ROOT / "justfile").read_text("utf-8")
    return set(re.findall(r"^([a-z][a-z-]*)(?: [^:\n]*)?:(?!=)", text, re.MULTILINE))


def named(page: Path) -> Iterator[list[str]]:
    """Give the words of each of our commands that a page names, in a fenced block or in a code span."""
    text = page.read_text("utf-8")
    lines = [line for block in _FENCE.findall(text) for line in block.replace("\\\n", " ").splitlines()]
    for line in [*lines, *_SPAN.findall(_FENCE.sub("", text))]:
        try:
            words = shlex.split(line.removeprefix("$ "), comments=True)
        except ValueError:
            continue  # not a command line
        command: list[str] = []
        for word in [*words, "|"]:
            if word in {"|", "&&", ";"}:
                yield command
                command = []
            elif command or "=" not in word:
                command.append(word)


def wrong(words: list[str]) -> str:
    """Say what doesn't exist in a command line, or nothing."""
    program = words[0].rpartition("/")[2] if words else ""
    rest = words[1:]
    if program == "bootstrap.sh" and rest[:1] == ["just"]:
        program, rest = "just", rest[1:]
    if program == "just":
        unknown = rest and re.fullmatch(r"[a-z-]+", rest[0]) and rest[0] not in recipes()
        return f"no recipe {rest[0]}" if unknown else ""
    if program not in {"telemetryx", "telemetryx-agent"}:
        return ""
    command = commands.telemetryx() if program == "telemetryx" else commands.agent()
    while command.commands and rest and re.fullmatch(r"[a-z-]+", rest[0]) and not rest[0].startswith("-"):
        if rest[0] not in command.commands:
            return f"no command {command.path} {rest[0]}"
        command, rest = command.commands[rest[0]], rest[1:]
    for word in rest:
        option = word.partition("=")[0]
        if re.fullmatch(r"--[a-z-]+|-[a-z]", option) and option not in command.options:
            return f"no option {option} of {command.path}"
    return ""


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_command_that_a_page_names_exists_with_its_options(page: Path) -> None:
    """`telemetryx …`, `telemetryx-agent …` and `just …`."""
    assert [f"{' '.join(words)}: {wrong(words)}" for words in named(page) if wrong(words)] == []


def test_a_command_that_does_not_exist_would_be_found() -> None:
    """The check itself: it reads fenced blocks and spans, and knows commands, options and recipes."""
    assert wrong(["telemetryx", "query", "x", "--since", "5m"]) == ""
    assert wrong(["telemetryx", "qeury", "x"]) == "no command telemetryx qeury"
    assert (
        wrong([".venv/bin/telemetryx", "config", "check", "--loud"])
        == "no option --loud of telemetryx config check"
    )
    assert wrong(["telemetryx-agent", "status", "--json"]) == ""
    assert (
        wrong(["telemetryx-agent", "status", "--follow"]) == "no option --follow of telemetryx-agent status"
    )
    assert wrong(["just", "tset"]) == "no recipe tset"
    assert ["telemetryx", "query", "temperature", "--since", "5m"] in [
        [words[0].rpartition("/")[2], *words[1:]] for words in named(ROOT / "README.md") if words
    ]


def test_every_rust_test_that_the_mqtt_page_names_is_there() -> None:
    """What the conformance page claims to be tested has a test of that name."""
    page = (DOCS / "reference/mqtt.md").read_text("utf-8")
    table = page.partition("## What other servers have got wrong")[2]
    claimed = set(re.findall(r"`([a-z0-9_]{20,})`", table))
    assert claimed
    tests = "".join(path.read_text("utf-8") for path in ROOT.glob("agent/crates/inputs/tests/*.rs"))
    assert {name for name in claimed if f"fn {name}(" not in tests} == set()


def test_the_page_on_monitoring_lists_each_alert_rule_and_counts_them() -> None:
    """Who is woken by one looks it up there; with the severity that the rule has."""
    rules_file = (ROOT / "packaging/prometheus/telemetryx.rules.yml").read_text()
    shipped = dict(re.findall(r"alert: (\w+)\n(?:.*\n)*?\s+labels: \{severity: (\w+)\}", rules_file))
    page = (DOCS / "how-to/monitoring.md").read_text()
    listed = {
        name: severity
        for names, severity in re.findall(r"^\| (`Telemetryx.*?`) \| (\w+) \|", page, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", names)
    }
    assert listed == shipped
    assert f"| {len(shipped)} alert rules |" in page
