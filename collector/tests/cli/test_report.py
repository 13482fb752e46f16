"""`telemetryx report`: what it says of outages, missing readings and scores, worked out by hand, in every format."""

import asyncio
import csv
import errno
import io
import json
import os
import threading
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from reference_agent import decoded, merged, samples, window
from telemetryx import _native
from telemetryx.cli import report
from telemetryx.cli.errors import CliError, Exit
from telemetryx.report import tables
from telemetryx.report.gather import SCORE
from telemetryx.report.page import write
from telemetryx.report.words import Report
from telemetryx.store.interface import Retention
from telemetryx.store.sqlite.store import SqliteStore
from telemetryx.types import BatchKey, Definition, Stored
from telemetryx.wire.payload import Payload

S = 1_000_000_000
#: 2026-03-01T00:00:00Z
BEGIN = 1_772_323_200 * S
HOUR = 3_600 * S
EVIL = "</td><script>alert('1')</script>\n\"; DROP TABLE series; --,=1+1"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Ten hours of a reading a minute of three sites: a whole one, one down for two hours, one of odd name with scores."""
    definitions = [
        Definition(1, "temp", {"site": "whole", "device": "a"}),
        Definition(2, "temp", {"site": "torn", "device": "b"}),
        Definition(3, SCORE, {"site": EVIL, "device": EVIL}),
        Definition(4, "power", {"site": "windows", "device": "c"}),
        Definition(5, "once", {"site": "whole", "device": "a"}),
    ]
    minutes = range(600)
    payload = Payload(
        samples(
            {
                1: [(BEGIN + 60 * S * n, 1.0) for n in minutes],
                2: [(BEGIN + 60 * S * n, 1.0) for n in minutes if not 120 <= n < 240],
                3: [
                    (BEGIN + 60 * S * n, 3.5 if n == 100 else 2.0 if 99 <= n < 105 or n == 300 else 0.5)
                    for n in minutes
                ],
                5: [(BEGIN, 1.0)],
            }
        ),
    )

    async def fill() -> None:
        store = await SqliteStore.open(tmp_path / "telemetry.db")
        (outcome,) = await store.commit([decoded(BatchKey("edge", b"e" * 16, 1), payload, definitions)])
        assert isinstance(outcome, Stored)
        for n in range(60):
            block = Payload(windows=window(4, BEGIN + n * 600 * S, [1.0, 2.0], 600 * S))
            key = BatchKey("edge", b"e" * 16, 2 + n)
            (outcome,) = await store.commit([decoded(key, block, definitions)])
            assert isinstance(outcome, Stored)
        await store.close()

    asyncio.run(fill())
    path = tmp_path / "collector.toml"
    path.write_text(f'[collector]\ndata_dir = "{tmp_path}"\n')
    return path


def question(**more: Any) -> report.Question:
    """Ask for the ten hours."""
    given = {
        "match": None, "since": "2026-03-01T00:00:00Z", "until": "2026-03-01T10:00:00Z", "html": None, "csv": None,
        "top": 50, "force": False, **more,
    }  # fmt: skip
    return report.Question(**given)


def told(config: Path, capsys: pytest.CaptureFixture[str], **more: Any) -> dict[str, Any]:
    """Return the report as JSON."""
    report.run(config, question(**more), as_json=True)
    return dict(json.loads(capsys.readouterr().out))


def test_the_score_series_is_the_agents() -> None:
    """The name that the agent's own code gives it."""
    assert _native.SCORE_SERIES == SCORE


def test_an_outage_costs_availability_and_completeness(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two of ten hours: 80 % of the readings; the last reading before it speaks for one more minute."""
    sites = {row["site"]: row for row in told(config, capsys)["sites"]}
    assert (sites["whole"]["completeness"], sites["whole"]["availability"]) == (1.0, 1.0)
    assert sites["torn"]["completeness"] == pytest.approx(480 / 600)
    assert sites["torn"]["availability"] == pytest.approx(480 / 600)
    assert (sites["torn"]["readings"], sites["torn"]["series"], sites["torn"]["devices"]) == (480, 1, 1)
    windows = sites["windows"]
    assert (windows["completeness"], windows["readings"]) == (1.0, 120)
    # Two readings in ten minutes: each speaks for five, and the last one was nine minutes and 59 seconds before the end.
    assert windows["availability"] == pytest.approx((36_000 - 599 + 300) / 36_000)


def test_a_report_is_cut_into_periods(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Hours here: the two of the outage have nothing, the others everything."""
    found = told(config, capsys)
    assert found["period_ns"] == HOUR
    torn = [row for row in found["periods"] if row["site"] == "torn"]
    assert [row["start_ns"] for row in torn] == [BEGIN + n * HOUR for n in range(10)]
    assert [row["completeness"] for row in torn] == pytest.approx([1, 1, 0, 0, 1, 1, 1, 1, 1, 1])
    assert [row["availability"] for row in torn] == pytest.approx([1, 1, 0, 0, 1, 1, 1, 1, 1, 1])
    assert [row["readings"] for row in torn] == [60, 60, 0, 0, 60, 60, 60, 60, 60, 60]


def test_the_least_complete_series_come_first_and_untold_ones_last(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With interval and longest pause; one reading tells no interval."""
    found = told(config, capsys)
    first, last = found["series"][0], found["series"][-1]
    assert (first["name"], first["site"], first["interval_s"], first["expected"]) == (
        "temp",
        "torn",
        60.0,
        600,
    )
    assert first["longest_pause_s"] == 121 * 60
    assert (last["name"], last["completeness"], last["interval_s"]) == ("once", None, None)
    assert found["left_out"] == ["1 series have too few readings to tell how many are to be expected"]


def test_scores_above_one_are_stretches_with_their_peak(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Six readings in a row are one; the highest comes first; --top leaves the others out and says so."""
    first, second = told(config, capsys)["anomalies"]
    assert (first["peak"], first["peak_ns"]) == (3.5, BEGIN + 100 * 60 * S)
    assert (first["start_ns"], first["end_ns"]) == (BEGIN + 99 * 60 * S, BEGIN + 104 * 60 * S)
    assert (second["peak"], second["start_ns"]) == (2.0, BEGIN + 300 * 60 * S)
    assert (first["site"], first["device"]) == (EVIL, EVIL)
    found = told(config, capsys, top=1)
    assert len(found["anomalies"]) == 1
    assert found["left_out"][0].startswith("1 more stretches")


class Page(HTMLParser):
    """Reads a page as a browser would: which elements there are, and which texts."""

    def __init__(self) -> None:
        """Begin with nothing."""
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        """Note a text."""
        self.texts.append(data)


def test_the_page_has_plots_and_no_way_out(config: Path, tmp_path: Path) -> None:
    """Names are texts in it, whatever they hold: no script, no link, nothing fetched; every open element is closed."""
    path = tmp_path / "report.html"
    report.run(config, question(html=path), as_json=False)
    page = Page()
    page.feed(path.read_text("utf-8"))
    assert page.tags.count("svg") == 3
    assert not {"script", "link", "img", "iframe", "a", "object", "form"} & set(page.tags)
    assert not [
        name for name, _ in page.attributes if name.startswith("on") or name in {"src", "href", "style"}
    ]
    assert EVIL in page.texts
    assert ("content", "default-src 'none'; style-src 'unsafe-inline'") in page.attributes
    assert "80 %" in page.texts or "80.00 %" in page.texts


def test_controls_in_a_name_are_signs_on_the_page() -> None:
    """A NUL made the file a binary one to grep and mail programs, an escape would colour a terminal, a bidi mark turn the line around."""
    made = write(Report(0, 1, 1, notes=["a\0b\x1b[1m\x9b2J\u202ec\r\n\td"]))
    assert "a\u2400b\u241b[1m\ufffd2J\ufffdc\u240d\n\td" in made


def test_a_page_on_standard_output_is_the_page_alone(
    config: Path, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`-` is no file's name; JSON can't stand beside it."""
    monkeypatch.chdir(tmp_path)
    report.run(config, question(html=Path("-")), as_json=False)
    said = capfdbinary.readouterr().out
    assert said.startswith(b"<!doctype html>")
    assert said.rstrip().endswith(b"</html>")
    assert not (tmp_path / "-").exists()
    with pytest.raises(CliError, match="both --json and --html -"):
        report.run(config, question(html=Path("-")), as_json=True)
    with pytest.raises(CliError, match="can't be written to standard output"):
        report.run(config, question(csv=Path("-")), as_json=False)


def test_tables_that_cannot_be_written_leave_what_was_there(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full at the last one: no table is new, none is half."""
    folder = tmp_path / "tables"
    report.run(config, question(csv=folder), as_json=False)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full(_: object, __: object) -> list[list[object]]:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tables, "_cells", full)
    with pytest.raises(CliError, match=r"tables can't be written: No space left") as caught:
        report.run(config, question(csv=folder, force=True), as_json=False)
    assert "free some space" in caught.value.hint
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_the_tables_are_csv_that_gives_names_back(config: Path, tmp_path: Path) -> None:
    """Four files with the rows of the report."""
    folder = tmp_path / "tables"
    report.run(config, question(csv=folder), as_json=False)
    read = {
        path.stem: list(csv.DictReader(io.StringIO(path.read_text("utf-8"), newline="")))
        for path in folder.iterdir()
    }
    assert {row["site"] for row in read["sites"]} == {"whole", "torn", "windows", EVIL}
    assert (read["anomalies"][0]["device"], read["anomalies"][0]["start"]) == (EVIL, "2026-03-01T01:39:00Z")
    assert json.loads(read["series"][0]["labels"]) == {"site": "torn", "device": "b"}
    assert len(read["periods"]) == 40
    assert [row["note"] for row in read["notes"]] == [
        "1 series have too few readings to tell how many are to be expected"
    ]


def test_without_a_file_it_prints_a_table(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Site by site; control characters of names are shown, not obeyed."""
    report.run(config, question(), as_json=False)
    out = capsys.readouterr().out
    assert "torn" in out
    assert "80.00 %" in out
    assert "highest scores" in out


def test_nothing_is_overwritten_and_no_reading_is_said(config: Path, tmp_path: Path) -> None:
    """With the exit codes of every command."""
    path = tmp_path / "report.html"
    path.write_text("mine")
    with pytest.raises(CliError, match="would be overwritten") as caught:
        report.run(config, question(html=path), as_json=False)
    assert (caught.value.code, path.read_text()) == (Exit.USAGE, "mine")
    with pytest.raises(CliError, match="no readings") as caught:
        report.run(config, question(match="nothing"), as_json=False)
    assert caught.value.code == Exit.NO
    for more in ({"html": tmp_path / "no/page.html"}, {"csv": tmp_path / "no/tables"}):
        with pytest.raises(CliError, match=r"folder .*no isn't there") as caught:
            report.run(config, question(**more), as_json=False)
        assert caught.value.code == Exit.USAGE
    assert not (tmp_path / "no").exists()
    with pytest.raises(CliError, match="not before"):
        report.run(config, question(since="2026-03-02T00:00:00Z"), as_json=False)


DAY = 24 * HOUR
KEPT = Retention(raw_ns=30 * DAY, windows_ns=30 * DAY, rollup_1m_ns=730 * DAY, rollup_1h_ns=730 * DAY)
MONTH = {"since": "2026-03-01", "until": "2026-04-01"}


def stored(folder: Path, payloads: Sequence[Payload], now_ns: int, retention: Retention = KEPT) -> Path:
    """Keep this of series 1, compact it, apply retention as it is at a time; return the configuration."""
    definitions = [Definition(1, "temp", {"site": "plant1"}), Definition(2, "speed", {"site": "plant2"})]

    async def fill() -> None:
        store = await SqliteStore.open(folder / "telemetry.db")
        for seq, payload in enumerate(payloads, 1):
            key = BatchKey("edge", b"e" * 16, seq)
            (outcome,) = await store.commit([decoded(key, payload, definitions)])
            assert isinstance(outcome, Stored)
        while (done := await store.compact(everything=True)).more or done.batches:
            pass
        await store.apply_retention(retention, now_ns)
        await store.close()

    asyncio.run(fill())
    path = folder / "collector.toml"
    path.write_text(f'[collector]\ndata_dir = "{folder}"\n')
    return path


def march(*, windows: bool = False) -> list[Payload]:
    """A reading a minute in all of March, but for two hours of its first day; as five-minute windows, too."""
    minutes = [n for n in range(31 * 1_440) if not 300 <= n < 420]
    if not windows:
        return [Payload(samples({1: [(BEGIN + 60 * S * n, 1.0) for n in minutes]}))]
    starts = [n for n in minutes if n % 5 == 0]
    step = 60 * S
    blocks = [window(2, BEGIN + n * step, [1.0] * 5, 5 * step, step=step) for n in starts]
    return [Payload(windows=merged(blocks))]


@pytest.mark.parametrize("now", [BEGIN + 20 * DAY, BEGIN + 32 * DAY, BEGIN + 65 * DAY])
@pytest.mark.parametrize("windows", [False, True])
def test_a_month_is_told_the_same_before_and_after_its_raw_data_is_deleted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], now: int, *, windows: bool
) -> None:
    """On its 20th, on 2 April, when 1 and 2 March are minutes alone, and in May: two hours of the first day are missing, and no more."""
    config = stored(tmp_path, march(windows=windows), now)
    found = told(config, capsys, **MONTH)
    (site,) = found["sites"]
    there = 31 * 1_440 - 120
    assert site["readings"] == there
    assert site["completeness"] == there / (there + 120)
    assert site["availability"] == there / (there + 120)
    assert [row["readings"] for row in found["periods"]] == [1_320] + [1_440] * 30
    assert [row["availability"] for row in found["periods"]] == [1_320 / 1_440] + [1.0] * 30
    assert [row["completeness"] for row in found["periods"]] == [1_320 / 1_440] + [1.0] * 30
    (series,) = found["series"]
    assert (series["interval_s"], series["longest_pause_s"]) == (60.0, 121 * 60.0)
    assert (found["start_ns"], found["left_out"]) == (BEGIN, [])
    if now == BEGIN + 20 * DAY:
        assert found["notes"] == []
    else:
        raw = "2026-03-03T01:00:00Z" if now == BEGIN + 32 * DAY else "2026-04-01T00:00:00Z"
        (note,) = found["notes"]
        assert note == (
            f"raw data is past its retention: up to {raw} rollups by minutes stand for it, in which an outage within a minute "
            "doesn't show, and the readings of a window stand from its start on"
        )


def test_a_report_begins_where_anything_is_kept_and_says_so_in_every_format(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two years on, the rollups of half of March are gone: not an outage. Of a time that is wholly gone it says that, too."""
    config = stored(tmp_path, march(), BEGIN + (730 + 15) * DAY)
    page, folder = tmp_path / "report.html", tmp_path / "tables"
    found = told(config, capsys, **MONTH, html=page, csv=folder)
    gone = (
        "nothing is kept any more of the time before 2026-03-16T00:00:00Z: "
        "the report begins there, not at 2026-03-01T00:00:00Z"
    )
    assert found["notes"][0] == gone
    assert found["start_ns"] == BEGIN + 15 * DAY
    (site,) = found["sites"]
    assert (site["readings"], site["completeness"], site["availability"]) == (16 * 1_440, 1.0, 1.0)
    assert f"<li>{gone}</li>" in page.read_text()
    assert gone in (folder / "notes.csv").read_text()
    with pytest.raises(CliError, match="no readings"):
        report.run(config, question(since="2026-03-01", until="2026-03-10"), as_json=False)
    assert "nothing is kept any more of the time before 2026-03-16T00:00:00Z\n" in capsys.readouterr().err


def test_windows_count_beside_raw_readings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Twelve hours of a reading each 10 s, four of them thinned to windows of a minute: nothing is missing, in none of the hours."""
    raw = [n for n in range(12 * 360) if not 4 * 360 <= n < 8 * 360]
    thin = [window(1, BEGIN + n * 60 * S, [1.0] * 6, 60 * S, step=10 * S) for n in range(240, 480)]
    payloads = [Payload(samples({1: [(BEGIN + 10 * S * n, 1.0) for n in raw]}), merged(thin))]
    config = stored(tmp_path, payloads, BEGIN + DAY)
    found = told(config, capsys, until="2026-03-01T12:00:00Z")
    (site,) = found["sites"]
    assert (site["readings"], site["completeness"], site["availability"]) == (4_320, 1.0, 1.0)
    assert [row["readings"] for row in found["periods"]] == [360] * 12
    assert [row["availability"] for row in found["periods"]] == [1.0] * 12
    assert found["series"][0]["longest_pause_s"] == 10.0


def test_a_window_counts_with_what_of_it_lies_in_the_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Windows of four hours over a report's begin, end and each hour in between."""
    blocks = [window(1, BEGIN + n * HOUR, [1.0] * 240, 4 * HOUR, step=60 * S) for n in (0, 4, 8)]
    config = stored(tmp_path, [Payload(windows=merged(blocks))], BEGIN + DAY)
    found = told(config, capsys, since="2026-03-01T01:30:00Z", until="2026-03-01T09:30:00Z")
    (site,) = found["sites"]
    assert (site["readings"], site["completeness"], site["availability"]) == (480, 1.0, 1.0)
    assert [row["readings"] for row in found["periods"]] == [60] * 8


def test_two_readings_of_one_time_are_two(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As in the rollups, PromQL and SQL."""
    points = [(BEGIN + 60 * S * n, 1.0) for n in range(60) for _ in range(1 + (n == 7))]
    config = stored(tmp_path, [Payload(samples({1: points}))], BEGIN + DAY)
    found = told(config, capsys, until="2026-03-01T01:00:00Z")
    assert (found["sites"][0]["readings"], found["series"][0]["interval_s"]) == (61, 60.0)
    assert found["sites"][0]["availability"] == 1.0


def test_a_report_that_takes_too_long_or_too_much_is_ended(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a statement of `telemetryx sql` is; no file is left."""

    def endless(*_: object) -> None:
        threading.Event().wait()

    monkeypatch.setattr("telemetryx.report.gather.gather", endless)
    page = tmp_path / "report.html"
    with pytest.raises(CliError, match="the report takes longer than 10ms") as caught:
        report.run(config, question(html=page, timeout="10ms"), as_json=False)
    assert "--timeout" in caught.value.hint
    with pytest.raises(CliError, match=r"the report takes more than 1\.0 MiB of memory"):
        report.run(config, question(html=page, memory=1), as_json=False)
    assert not page.exists()
