"""The command line against a running collector: what people and scripts see, and how it ends."""

import asyncio
import csv
import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import pytest

from reference_agent import decoded, defined, samples
from running import T0, Field, S, key
from telemetryx import app, config
from telemetryx.api.delay import Delay
from telemetryx.api.live.hub import Hub
from telemetryx.cli import query
from telemetryx.clock import ManualClock
from telemetryx.store.sqlite.store import SqliteStore
from telemetryx.types import Aggregate, BatchKey, Cause
from telemetryx.wire.payload import Payload

NASTY = "pump\x1b[31m<b>'; DROP TABLE series;--"
DAY = 86_400 * S
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@dataclass(frozen=True)
class Collector:
    """A running collector: its address and its configuration file."""

    url: str
    config: Path


async def _fill(folder: Path) -> None:
    store = await SqliteStore.open(folder / "telemetry.db", clock=ManualClock(T0), future_limit_ns=DAY)
    agents = Field(store, Hub(), Delay())
    await agents.send(
        {
            key("temperature", site="plant1", device="pump7"): [
                (T0 + number * S, 20.0 + number) for number in range(10)
            ],
            key("pressure", site="plant1", device=NASTY): [(T0, 1.5)],
            key("torn"): [
                (T0 + n * S, value) for n, value in enumerate((1.0, float("nan"), 2.0, float("inf")), start=4)
            ],
        },
        events=[(T0, 17, "plc", "watchdog \x1b[2J expired", {"n": 1})],
    )
    # Real books: of 12 readings 3 were rejected, 1 came twice, 6 went into 2 windows that the agent made, 2 were kept.
    books = {Cause.RECEIVED: 12, Cause.DERIVED: 2, Cause.REJECTED_SYNTAX: 3, Cause.DEDUPLICATED: 1}
    books |= {Cause.REDUCED_WINDOW: 6, Cause.SHIPPED: 4}
    for name, counts in (("edge", books), ("leaky", {Cause.RECEIVED: 9, Cause.SHIPPED: 2})):
        await store.commit([decoded(BatchKey(name, b"c" * 16, 1), Payload(counts=counts))])
    ahead = Payload(samples({1: [(T0 + 3 * DAY, 7.0)]}), counts={Cause.RECEIVED: 1, Cause.SHIPPED: 1})
    for seq in (1, 2):
        await store.commit(
            [decoded(BatchKey("fast", b"f" * 16, seq), ahead, defined("level", device="tank"))]
        )
    await store.session_opened("skewed", "127.0.0.1:1", "0.1.0", {}, -2.62174)
    await store.close()


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    """A whole collector in a thread, as `telemetryx collector` runs it."""
    folder = tmp_path_factory.mktemp("collector")
    path = folder / "collector.toml"
    path.write_text(
        f'[collector]\ndata_dir = "{folder}"\n[api]\nlisten = "127.0.0.1:0"\n[gateway]\nlisten = "127.0.0.1:0"\n'
    )
    asyncio.run(_fill(folder))
    loop, stop, started, found = asyncio.new_event_loop(), asyncio.Event(), threading.Event(), []

    def ready(addresses: app.Addresses) -> None:
        found.append(addresses.http)
        started.set()

    async def serve() -> None:
        await app.run(config.load(path), clock=ManualClock(T0 + 60 * S), stop=stop, ready=ready)

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert started.wait(120)
    yield Collector(f"http://127.0.0.1:{found[0]}", path)
    loop.call_soon_threadsafe(stop.set)
    thread.join(60)
    loop.close()


@pytest.fixture
def run(collector: Collector) -> Run:
    """Run `telemetryx` as a process of its own."""

    def call(*arguments: str, status: int = 0, url: str | None = None) -> "subprocess.CompletedProcess[str]":
        done = subprocess.run(
            [sys.executable, "-m", "telemetryx", *arguments],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            cwd=Path(__file__).parents[2] / "src",
            env={**os.environ, "TELEMETRYX_URL": url or collector.url, "PYTHONIOENCODING": "utf-8"},
        )
        assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        return done

    return call


RANGE = ("--since", str(T0 // S), "--until", str(T0 // S + 10))


def test_query_asks_for_percentiles_of_groups_and_says_what_they_were_read_from(run: Run) -> None:
    """As a table, and as rows and JSON for programs; --q and --by are of nothing else."""
    asked = ("query", 'temperature{site="plant1"}', *RANGE, "--step", "5s", "--agg", "quantile", "--q", "1")
    printed = run(*asked, "--by", "device").stdout
    assert "device=pump7" in printed
    assert "quantile 1 of 5s, exact, read from raw" in " ".join(printed.split())
    answer = json.loads(run(*asked, "--json").stdout)
    assert [one["level"] for one in answer["levels"]] == ["raw"]
    (group,) = answer["groups"]
    rows = [json.loads(line) for line in run(*asked, "-f", "ndjson").stdout.splitlines()]
    assert [(row["time_ns"], row["value"]) for row in rows] == [
        pair for pair in zip(group["times_ns"], group["values"], strict=True) if pair[1] is not None
    ]
    assert len(rows) > 0
    lines = list(csv.DictReader(io.StringIO(run(*asked, "-f", "csv").stdout)))
    assert [float(line["value"]) for line in lines] == [row["value"] for row in rows]
    assert {line["level"] for line in lines} == {row["level"] for row in rows} == {"raw"}
    assert "--q" in run("query", "temperature", "--q", "0.5", status=2).stderr
    for q in ("nan", "inf", "-0.1", "1.5"):
        said = run(*asked[:-1], q, status=2).stderr
        assert f"--q {float(q)} is no quantile it is a number from 0 to 1" in " ".join(said.split()), said


def test_a_percentile_has_as_many_points_as_are_wanted_or_one_of_the_whole_time(run: Run) -> None:
    """`--points` is for `--step auto`; `--step whole` is of quantiles alone."""
    asked = ("query", "temperature", *RANGE, "--agg", "quantile")
    for most in (1, 2, 5):
        (group,) = json.loads(run(*asked, "--points", str(most), "--json").stdout)["groups"]
        assert most / 2 <= len(group["values"]) <= most + 1
    answer = json.loads(run(*asked, "--step", "whole", "--q", "0.5", "--json").stdout)
    assert (answer["step_ns"], answer["groups"][0]["values"]) == (0, [24.5])
    assert "quantile 0.5 of the whole time, exact" in " ".join(
        run(*asked, "--step", "whole", "--q", "0.5").stdout.split()
    )
    assert "--agg avg has no --step whole" in run("query", "temperature", "--step", "whole", status=2).stderr
    said = run("query", "nothing", "--agg", "quantile", "--json", status=1).stdout
    assert json.loads(said)["warnings"] == ["no series matches 'nothing': /api/v1/series lists what there is"]


def test_no_series_for_a_percentile_is_exit_code_1(run: Run) -> None:
    """As for other queries."""
    assert "no series" in run("query", "nothing", "--agg", "quantile", status=1).stderr


def test_query_shows_a_line_with_a_small_chart_for_each_series(run: Run) -> None:
    """Newest value, extremes and shape at a glance."""
    printed = run("query", 'temperature{site="plant1"}', *RANGE, "--step", "1s").stdout
    assert 'temperature{device="pump7",site="plant1"}' in printed
    assert "▁" in printed
    assert "█" in printed
    assert " 29 " in printed


def test_query_gives_every_point_as_csv_json_and_ndjson(run: Run) -> None:
    """The same points in each."""
    rows = list(
        csv.DictReader(io.StringIO(run("query", "temperature", *RANGE, "--agg", "raw", "-f", "csv").stdout))
    )
    assert [float(row["value"]) for row in rows] == [20.0 + number for number in range(10)]
    assert rows[1]["time"] == "2026-03-01T10:00:01Z"
    lines = run("query", "temperature", *RANGE, "--agg", "raw", "-f", "ndjson").stdout.splitlines()
    assert [json.loads(line)["value"] for line in lines] == [20.0 + number for number in range(10)]
    answer = json.loads(run("query", "temperature", *RANGE, "--agg", "max", "--step", "5s", "--json").stdout)
    assert answer["series"][0]["values"] == [24.0, 29.0]


def test_readings_without_a_number_in_json_are_still_readings(run: Run) -> None:
    """NaN and infinities are words, as in exports; a step without a reading is a gap, and has no row."""
    lines = run("query", "torn", *RANGE, "--agg", "raw", "-f", "ndjson").stdout.splitlines()
    assert [json.loads(line)["value"] for line in lines] == [1.0, "NaN", 2.0, "+Inf"]
    assert "+Inf" in run("query", "torn", *RANGE, "--agg", "raw").stdout
    assert "+Inf" in run("series", "torn").stdout
    lines = run("query", "torn", *RANGE, "--step", "5s", "-f", "ndjson").stdout.splitlines()
    assert [json.loads(line)["value"] for line in lines] == [1.0, "NaN"]


@pytest.mark.parametrize("how", ["table", "csv", "ndjson"])
@pytest.mark.parametrize("command", ["agents", "series"])
def test_a_list_that_is_cut_says_so_beside_its_rows(run: Run, command: str, how: str) -> None:
    """On stderr, so that what a program reads stays data; one that is whole says nothing."""
    cut = run(command, "--limit", "1", "-f", how)
    assert "1 are shown" in cut.stderr
    assert "1 are shown" not in cut.stdout
    assert "are shown" not in run(command, "-f", how).stderr
    assert "are shown" not in run(command, "--limit", "1", "--json").stderr


def test_what_matches_nothing_is_exit_code_1_with_a_way_on(run: Run) -> None:
    """Scripts can test for it."""
    assert "telemetryx series" in run("query", "nothing", status=1).stderr


def test_a_wrong_selector_or_time_is_exit_code_2(run: Run) -> None:
    """The collector's own sentence is shown."""
    assert "column" in run("query", "temperature{", status=2).stderr
    assert "not a time" in run("query", "temperature", "--since", "yesterday", status=2).stderr
    run("query", status=2)
    run("query", "t", "--format", "xml", status=2)


def test_no_collector_is_exit_code_3_with_the_remedy(run: Run) -> None:
    """Whether refused, no name, or no HTTP."""
    for url in ("http://127.0.0.1:1", "http://no.such.host.invalid:8420"):
        assert "telemetryx collector" in run("agents", status=3, url=url).stderr
        said = json.loads(run("agents", "--json", status=3, url=url).stderr)["error"]
        assert said["code"] == "unreachable"
        assert "telemetryx collector" in said["hint"]
    run("agents", status=2, url="ftp://x")
    run("agents", status=2, url="http://127.0.0.1:notaport")


@pytest.mark.parametrize(
    ("arguments", "status", "code"),
    [
        (("query", "nothing", "--json"), 1, "no"),
        (("query", "nothing", "-f", "ndjson"), 1, "no"),
        (("query", "temperature{", "--json"), 2, "usage"),
        (("query", "--json"), 2, "usage"),
        (("agents", "--json", "--nonsense"), 2, "usage"),
        (("agents", "--limit", "many", "--format=json"), 2, "usage"),
        (("nonsense", "--json"), 2, "usage"),
        (("store", "stats", "--json", "--config", "/nowhere.toml"), 2, "usage"),
    ],
)
def test_a_program_that_asks_for_json_gets_errors_as_json(
    run: Run, arguments: tuple[str, ...], status: int, code: str
) -> None:
    """One document on stderr, in the API's shape, with the exit code that people get."""
    said = json.loads(run(*arguments, status=status).stderr)["error"]
    assert said["code"] == code
    assert said["message"]
    plain = [part for part in arguments if "json" not in part and part != "-f"]
    if plain != list(arguments):
        assert not run(*plain, status=status).stderr.startswith("{")


def test_the_loss_ledger_ends_with_its_balance(run: Run) -> None:
    """For people a row an agent, for programs a number an agent: 0 when every reading is accounted for."""
    answer = json.loads(run("loss", "--json").stdout)
    assert answer["balance"] == {"edge": 0, "fast": 0, "leaky": 7}
    rows = [line.split() for line in run("loss").stdout.splitlines()]
    assert ["edge", "balance", "0", "-", "-"] in rows
    assert ["leaky", "balance", "7", "-", "-"] in rows
    rejects = next(row for row in rows if row[:3] == ["edge", "rejected", "syntax"])
    assert rejects[3] == "3"
    assert rejects[4].startswith("2026-03-01T10:00:00")


def test_the_fleet_is_shown_in_figures_that_a_person_reads(run: Run) -> None:
    """A clock's skew is rounded to a tenth of a millisecond, and one batch is one batch."""
    printed = run("agents").stdout
    assert "-2.6 " in printed
    assert "-2.62174" not in printed
    assert (
        json.loads(run("agents", "--filter", "skewed", "--json").stdout)["agents"][0]["skew_ms"] == -2.62174
    )


@pytest.mark.parametrize("command", ["agents", "series", "events", "alerts", "loss"])
def test_every_list_has_a_table_and_the_formats_of_programs(run: Run, command: str) -> None:
    """A table is for people; JSON is the API's answer."""
    assert isinstance(json.loads(run(command, "--json").stdout), dict)
    run(command)
    for line in run(command, "-f", "ndjson").stdout.splitlines():
        json.loads(line)
    run(command, "-f", "csv")


def test_rules_are_listed_in_sentences(run: Run) -> None:
    """The two default rules work out of the box."""
    rows = json.loads(run("rules", "list", "--json").stdout)["rules"]
    assert len(rows) == 2
    assert rows[0]["name"] in run("rules", "list").stdout


def test_escapes_of_the_field_never_reach_the_terminal(run: Run) -> None:
    """A device's name and an event's body are shown, not obeyed."""
    for arguments in (("series",), ("events",), ("query", "pressure", *RANGE)):
        printed = run(*arguments).stdout
        assert "\x1b" not in printed
        assert "\\x1b" in printed or "\\u001b" in printed
    exact = json.loads(run("series", "pressure", "--json").stdout)["series"][0]["labels"]["device"]
    assert exact == NASTY


def test_sql_sees_samples_of_a_running_collector(run: Run, collector: Collector) -> None:
    """On one snapshot, read-only."""
    where = ("--config", str(collector.config), *RANGE)
    statement = "SELECT name, device, count(*) AS n, avg(value) AS mean FROM samples WHERE name != 'torn' GROUP BY name, device ORDER BY name"
    rows = json.loads(run("sql", statement, *where, "--json").stdout)
    assert rows == [
        {"name": "pressure", "device": NASTY, "n": 1, "mean": 1.5},
        {"name": "temperature", "device": "pump7", "n": 10, "mean": 24.5},
    ]
    assert "samples has series, time" in run("sql", "SELECT nothing FROM samples", *where, status=2).stderr
    run("sql", "DROP TABLE samples; garbage", *where, status=2)
    assert "\x1b" not in run("sql", "SELECT device FROM series", *where).stdout


def test_the_store_is_verified_and_measured_while_it_is_used(run: Run, collector: Collector) -> None:
    """Without closing the sessions of the collector that runs on it."""
    where = ("--config", str(collector.config))
    assert "is sound" in run("store", "verify", *where).stdout
    listed = len(json.loads(run("series", "--json").stdout)["series"])
    assert json.loads(run("store", "stats", *where, "--json").stdout)["series"] == listed >= 2
    assert "samples" in run("store", "stats", *where).stdout


def test_a_second_collector_on_the_same_data_is_refused(run: Run, collector: Collector) -> None:
    """Each would believe to be alone."""
    assert "another collector runs" in run("collector", "--config", str(collector.config), status=1).stderr


def test_config_check_names_lines_and_reference_prints_all_keys(run: Run, tmp_path: Path) -> None:
    """Without starting anything."""
    bad = tmp_path / "bad.toml"
    bad.write_text("[api]\nlisen = 1\n")
    said = run("config", "check", str(bad), status=2).stderr
    assert f"{bad}:2: unknown key `api.lisen`; did you mean `listen`?" in said
    good = tmp_path / "good.toml"
    good.write_text(run("config", "reference").stdout)
    assert "good" in run("config", "check", str(good)).stdout
    good.write_text('[collector]\ndata_dir = "here"\n')
    assert "data_dir = 'here' is relative" in run("config", "check", str(good)).stderr
    assert len(json.loads(run("config", "check", str(good), "--json").stdout)["warnings"]) == 1
    assert json.loads(run("config", "check", str(good), "--json").stdout)["http"] == "127.0.0.1:8420"


def test_config_check_looks_into_the_files_that_are_named_unless_told_not_to(
    run: Run, tmp_path: Path
) -> None:
    """A reload by systemd is refused for them, with the key, while the collector goes on."""
    file = tmp_path / "collector.toml"
    file.write_text(f'[tracing]\nendpoint = "https://otel.example"\ntoken_file = "{tmp_path}/none"\n')
    line = f"{file}: [tracing] token_file: {tmp_path}/none can't be read: No such file or directory"
    assert line in run("config", "check", str(file), status=2).stderr
    assert json.loads(run("config", "check", str(file), "--json", status=2).stderr)["error"]["problems"] == [
        line
    ]
    run("config", "check", str(file), "--alone")


def test_rules_check_says_rules_in_sentences_and_problems_with_lines(run: Run, tmp_path: Path) -> None:
    """Exit code 1 when there are any."""
    path = tmp_path / "rules.yaml"
    path.write_text("rules:\n  - name: hot\n    select: temperature\n    window: 1m\n    when: '> 80'\n")
    assert "hot" in run("rules", "check", str(path)).stdout
    (rule,) = json.loads(run("rules", "check", str(path), "--json").stdout)["rules"]
    assert (rule["rule"], rule["file"]) == ("hot", str(path))
    path.write_text("rules:\n  - name: hot\n    selekt: temperature\n")
    assert f"{path}:3" in run("rules", "check", str(path), status=1).stderr
    said = json.loads(run("rules", "check", str(path), "--json", status=1).stderr)["error"]
    assert f"{path}:3" in said["problems"][0]
    path.write_text(f"rules: [{{name: a, kind: link, after: {5_000 * '1'}}}]\n")
    assert "a number of 5,000 digits (at line 1)" in run("rules", "check", str(path), status=1).stderr
    assert "can't be read" in run("rules", "check", str(tmp_path / "none"), status=2).stderr


def test_a_new_token_lands_in_a_file_that_only_its_owner_reads(run: Run, tmp_path: Path) -> None:
    """And the file is one that the collector takes."""
    path = tmp_path / "tokens"
    first = run("token", "new", "--out", str(path), "--note", "for Anna").stdout.strip()
    second = run("token", "new", "--out", str(path)).stdout.strip()
    assert first != second
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_text() == f"{first}  # for Anna\n{second}\n"
    run("token", "new", "--note", "a\nb", status=2)
    said = json.loads(run("token", "new", "--out", str(path), "--note", "c", "--json").stdout)
    assert (said["file"], said["note"]) == (str(path), "c")
    assert path.read_text().endswith(f"{said['token']}  # c\n")


def test_a_broken_pipe_is_no_error(collector: Collector) -> None:
    """`telemetryx … | head -1` ends quietly."""
    command = f"{sys.executable} -m telemetryx series -f ndjson --url {collector.url} | head -1"
    done = subprocess.run(
        ["/bin/bash", "-c", command],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2] / "src",
    )
    assert done.stderr == ""


def test_help_lists_every_command_and_the_exit_codes(run: Run) -> None:
    """What there is, on one screen."""
    printed = run("--help").stdout
    for command in (
        "collector",
        "demo",
        "query",
        "agents",
        "series",
        "events",
        "alerts",
        "loss",
        "sql",
        "store",
    ):
        assert command in printed
    assert "Exit codes" in printed
    assert run("--version").stdout.startswith("telemetryx ")


def test_batches_that_are_kept_apart_are_listed_shown_let_in_and_dropped(run: Run) -> None:
    """How far ahead they are and what is in them; one is stored at its arrival, the other is gone for good."""
    listed = run("quarantine", "ls").stdout
    assert "fast" in listed
    assert "3d" in listed
    rows = json.loads(run("quarantine", "ls", "--agent", "fast", "--json").stdout)["quarantine"]
    one, other = (str(row["id"]) for row in rows)
    shown = run("quarantine", "show", one).stdout
    assert 'level{device="tank"}' in shown
    assert "2026-03-04T10:00:00Z" in shown
    refused = run("quarantine", "release", one, status=2).stderr
    assert "ahead of now" in refused
    assert "shift" in refused
    run("quarantine", "release", one, "--shift=yesterday", status=2)
    run("quarantine", "release", one, "--shift=-3d", "--to-arrival", status=2)
    assert "2026-03-01T10:00:00Z" in run("quarantine", "release", one, "--to-arrival").stdout
    assert json.loads(run("query", "level", *RANGE, "--agg", "raw", "--json").stdout)["series"][0][
        "values"
    ] == [7.0]
    run("quarantine", "drop", other)
    run("quarantine", "drop", other, status=1)
    run("quarantine", "show", other, status=1)
    assert "no batch" in run("quarantine", "ls").stderr


@pytest.mark.parametrize("form", ["csv", "ndjson"])
def test_an_export_from_afar_is_the_one_of_the_machine_itself(
    run: Run, collector: Collector, form: str, tmp_path: Path
) -> None:
    """The collector reads and encodes; what arrives has the same bytes, and wrong words are its refusal."""
    asked = ("export", "samples", *RANGE, "--match", "temperature", "--format", form)
    there = run(*asked, "--url", collector.url).stdout
    assert there == run(*asked, "--config", str(collector.config)).stdout
    assert there.count("pump7") >= 10
    refused = run(
        "export", "samples", "--url", "http://127.0.0.1:1", "--to", str(tmp_path / "x.csv"), status=3
    )
    assert "no collector answers" in refused.stderr


def test_a_silence_is_begun_listed_and_ended(run: Run) -> None:
    """By a person with a reason; ending it twice is said."""
    said = run("silence", "add", 'hot{site="north"}', "--for", "2h", "--author", "ana", "--comment", "works")
    assert "active, until" in said.stdout
    (row,) = json.loads(run("silence", "ls", "--json").stdout)["silences"]
    assert (row["match"], row["author"], row["comment"]) == ('hot{site="north"}', "ana", "works")
    assert "works" in run("silence", "ls").stdout
    assert "ended" in run("silence", "end", str(row["id"])).stdout
    assert "nothing is silenced" in run("silence", "ls").stderr
    assert run("silence", "ls", "--ended", "-f", "csv").stdout.count("works") == 1


def test_a_silence_that_makes_no_sense_is_refused_in_the_commands_words(run: Run) -> None:
    """The selector first, then the end, then who: and nothing of fields and paths of the API."""
    author = ("--author", "ana")
    for arguments, status, words in (
        (("add", "hot", *author), 2, "it isn't said when the silence ends|give --for"),
        (("add", "hot", "--for", "1h", "--until", "2099-01-01", *author), 2, "both --for and --until"),
        (("add", "hot{", "--author", ""), 2, "MATCH: a label name is expected|rule"),
        (("add", 'hot{a=~"("}', "--for", "1h", *author), 2, "MATCH: |isn't a regular expression"),
        (("add", "{}", "--for", "1h", *author), 2, "everything"),
        (("add", "hot", "--for", "soon", *author), 2, "--for: 'soon' is not a duration"),
        (("add", "hot", "--for", "100000d", *author), 2, "--for: |the longest is"),
        (("add", "hot", "--until", "soon", *author), 2, "--until: 'soon' is not a time"),
        (("add", "hot", "--for", "1h", "--from", "soon", *author), 2, "--from: 'soon' is not a time"),
        (("add", "hot", "--until", "2020-01-01", *author), 2, "ended already|--for 2h"),
        (("add", "hot", "--for", "1h", "--author", ""), 2, "who silences|--author NAME"),
        (("add", "hot", "--for", "1h", "--author", "a" * 2_000), 2, "--author"),
        (("end", "999"), 1, "no silence 999|`telemetryx silence ls`"),
    ):
        said = run("silence", *arguments, status=status).stderr
        assert all(word in said for word in words.split("|")), (arguments, said)
        assert not any(word in said for word in ("/api/", "field", "temperature", "duration`")), said


def test_an_alert_that_is_not_there_cannot_be_taken_on(run: Run) -> None:
    """Nor by nobody, nor let go."""
    said = run("acknowledge", "7", "--author", "ana", status=1).stderr
    assert "no alert 7" in said
    assert "`telemetryx alerts --state all` lists them" in said
    run("acknowledge", "7", "--author", "", status=2)
    run("acknowledge", "7", "--withdraw", status=1)


def test_an_aggregate_that_is_unknown_is_named_with_all_that_are(run: Run) -> None:
    """Also quantile, which another path of the API answers."""
    assert set(query.AGGS) == set(get_args(Aggregate))
    said = run("query", "temperature", "--agg", "median", status=2).stderr
    assert "avg, min, max, sum, count, last, raw or quantile" in said
