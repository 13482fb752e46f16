"""Exports over REST: every format gives back what was measured, of any name, and a broken one is never taken for a whole."""

import asyncio
import csv
import io
import json
import math
from typing import Any

import aiohttp
import polars as pl
import pytest
from aiohttp import web

from reference_agent import decoded, defined, window
from running import T0, Running, S, key
from telemetryx.api import export
from telemetryx.api.times import deleted
from telemetryx.api.world import Limits
from telemetryx.export import rows
from telemetryx.export.wanted import Wanted
from telemetryx.store.interface import Retention
from telemetryx.store.sqlite.engine import SqliteEngine
from telemetryx.types import BatchKey, Stored
from telemetryx.wire.payload import Payload

EVIL = "a\"b,c'\\\n<script>alert(1)</script>; DROP TABLE series --=1+1 é"
DAY = 86_400 * S
FORMATS = ("arrow", "parquet", "csv", "ndjson")
SPAN = {"start": str(T0 // S - 60), "end": str(T0 // S + 60)}


async def ask(
    api: Running, kind: str, form: str, status: int = 200, **more: str
) -> tuple[bytes, dict[str, str]]:
    """Export, and return the body and the headers."""
    asked = {"format": form, **SPAN, **more}
    async with api.client.get(f"/api/v1/export/{kind}", params=asked) as answer:
        body = await answer.read()
        assert answer.status == status, body
        return body, {name.lower(): value for name, value in answer.headers.items()}


def table(body: bytes, form: str) -> list[dict[str, Any]]:
    """Read a body as rows, with every value as a text, a number or None."""
    if form == "csv":
        return list(csv.DictReader(io.StringIO(body.decode(), newline="")))
    if form == "ndjson":
        return [json.loads(line) for line in body.decode().split("\n")[:-1]]
    frame = pl.read_ipc_stream(io.BytesIO(body)) if form == "arrow" else pl.read_parquet(io.BytesIO(body))
    return frame.to_dicts()


@pytest.mark.parametrize("form", FORMATS)
async def test_samples_of_any_name_come_back_as_they_are(api: Running, form: str) -> None:
    """Quotes, commas, line breaks, tags and SQL are data; values are bit-exact; times have their nanoseconds."""
    await api.field.send({key(EVIL, site=EVIL, device="d"): [(T0 + 1, 0.1), (T0 + 2, -5e-324)]}, unit="°C")
    await api.field.send({key("plain"): [(T0, math.nan)]})
    body, headers = await ask(api, "samples", form)
    assert headers["content-disposition"].startswith('attachment; filename="samples.')
    first, second, third = table(body, form)
    for row in (first, second):
        assert (row["agent"], row["name"], row["site"], row["device"], row["unit"]) == (
            "edge",
            EVIL,
            EVIL,
            "d",
            "°C",
        )
        labels = row["labels"] if isinstance(row["labels"], dict) else json.loads(row["labels"])
        assert labels == {"site": EVIL, "device": "d"}
    assert [float(row["value"]).hex() for row in (first, second)] == [(0.1).hex(), (-5e-324).hex()]
    assert math.isnan(float(third["value"]))
    assert not third["site"]
    if form in {"csv", "ndjson"}:
        assert first["time"] == "2026-03-01T10:00:00.000000001Z"
    else:
        frame = pl.read_ipc_stream(io.BytesIO(body)) if form == "arrow" else pl.read_parquet(io.BytesIO(body))
        assert frame["time"].to_physical().to_list() == [T0 + 1, T0 + 2, T0]


@pytest.mark.parametrize("form", FORMATS)
async def test_values_that_are_hard_to_write_are_the_same_in_every_format(api: Running, form: str) -> None:
    """To the bit, with their signs: a zero below nothing, what no float32 holds, the largest and the smallest."""
    values = [-0.0, 0.0, 2.0**53, -(2.0**63), 1.7976931348623157e308, 5e-324, 1e16, 1e-7, math.inf, -math.inf]
    await api.field.send({key("hard"): [(T0 - S + at, value) for at, value in enumerate(values)]})
    rows = table((await ask(api, "samples", form))[0], form)
    assert [float(row["value"]).hex() for row in rows] == [value.hex() for value in values]


@pytest.mark.parametrize("form", FORMATS)
async def test_windows_and_rollups_tell_what_they_hold(api: Running, form: str) -> None:
    """Start, length, count, sum and extremes; fresh readings are in the rollups too."""
    defs = defined("power", site="north", device="p7")
    payload = Payload(windows=window(1, T0, [1.0, 2.0, 6.0]))
    (outcome,) = await api.world.store.commit([decoded(BatchKey("edge", b"w" * 16, 1), payload, defs)])
    assert isinstance(outcome, Stored)
    (row,) = table((await ask(api, "windows", form))[0], form)
    assert [float(row[name]) for name in ("count", "sum", "min", "max", "last")] == [3, 9, 1, 6, 6]
    await api.field.send({key("temp"): [(T0, 1.0), (T0 + S, 3.0)]})
    (row,) = table((await ask(api, "rollups", form, match="temp"))[0], form)
    assert [float(row[name]) for name in ("count", "sum", "min", "max", "first", "last")] == [
        2,
        4,
        1,
        3,
        1,
        3,
    ]


@pytest.mark.parametrize("form", FORMATS)
async def test_events_come_newest_first_with_filters(api: Running, form: str) -> None:
    """Text of any kind, attributes as JSON."""
    await api.field.send(
        events=[(T0, 17, EVIL, EVIL, {"k": EVIL}), (T0 + S, 9, "app", "started", {})],
    )
    newest, oldest = table((await ask(api, "events", form))[0], form)
    assert (newest["body"], oldest["body"], oldest["source"]) == ("started", EVIL, EVIL)
    attributes = (
        oldest["attributes"] if isinstance(oldest["attributes"], dict) else json.loads(oldest["attributes"])
    )
    assert attributes == {"k": EVIL}
    (only,) = table((await ask(api, "events", form, severity="error"))[0], form)
    assert only["body"] == EVIL


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("kind", ["samples", "events"])
async def test_an_export_without_a_row_is_a_file_of_its_format(api: Running, kind: str, form: str) -> None:
    """With the columns, where the format has a place for them."""
    body, _ = await ask(api, kind, form)
    assert table(body, form) == []
    if form != "ndjson":
        assert b"time" in body


async def test_matchers_and_time_choose_the_rows(api: Running) -> None:
    """As everywhere: a selector, and [start, end)."""
    await api.field.send(
        {key("x", site="a"): [(T0, 1.0), (T0 + 90 * S, 2.0)], key("x", site="b"): [(T0, 3.0)]}
    )
    rows = table((await ask(api, "samples", "csv", match='x{site="a"}'))[0], "csv")
    assert [row["value"] for row in rows] == ["1"]


@pytest.mark.parametrize(
    ("kind", "more", "status", "words"),
    [
        ("nothing", {}, 400, "kind"),
        ("samples", {"format": "xlsx"}, 400, "format"),
        ("samples", {"match": "x{"}, 400, "match"),
        ("samples", {"start": "2"}, 200, ""),
        ("samples", {"end": "1"}, 400, "start is not before end"),
        ("events", {"match": "x"}, 400, "events have no"),
        ("samples", {"source": "x"}, 400, "neither"),
        ("samples", {"nothing": "x"}, 400, "nothing"),
        ("samples", {"level": "1m"}, 400, "samples have no `level`"),
        ("events", {"level": "1h"}, 400, "events have no `level`"),
        ("rollups", {"level": "1h"}, 200, ""),
        ("samples", {"start": "-100000d"}, 400, "longest is 36525d"),
        ("samples", {"start": "1970-01-01"}, 200, ""),
    ],
)
async def test_what_cannot_be_exported_is_refused(
    api: Running, kind: str, more: dict[str, str], status: int, words: str
) -> None:
    """Before a process is started."""
    body, _ = await ask(api, kind, **{"form": "csv", "status": status, **more})  # type: ignore[arg-type]
    assert words in body.decode()


async def test_without_polars_the_text_formats_remain(api: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """501 says what to install."""
    monkeypatch.setattr(export.importlib.util, "find_spec", lambda _: None)
    body, _ = await ask(api, "samples", "parquet", 501)
    assert json.loads(body)["error"]["code"] == "not_installed"
    assert "telemetryx[sql]" in body.decode()
    await ask(api, "samples", "csv")


async def test_more_exports_than_run_at_once_are_told_to_come_again(
    api: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """503 with Retry-After."""
    monkeypatch.setattr(export, "MAX_AT_ONCE", 0)
    body, headers = await ask(api, "samples", "csv", 503)
    assert (json.loads(body)["error"]["code"], "retry-after" in headers) == ("unavailable", True)


async def test_an_export_that_fails_is_no_file(api: Running) -> None:
    """Before the first byte it is an error with its cause."""
    api.world.store.engine = SqliteEngine(api.world.store.engine.path.with_name("gone.db"))  # type: ignore[attr-defined]
    body, _ = await ask(api, "samples", "csv", 503)
    assert "error" in json.loads(body)


async def test_a_large_export_is_read_in_pieces_that_together_are_the_whole(
    api: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Series are halved, then time; no row is missing or twice, and a piece is never larger than allowed."""
    for part in range(3):
        await api.field.send(
            {
                key("x", device=str(device)): [(T0 + S * (part * 100 + n), float(n)) for n in range(100)]
                for device in range(7)
            }
        )
    monkeypatch.setattr(rows, "MAX_ROWS", 64)
    database = api.world.store.engine.open_reader()  # type: ignore[attr-defined]
    try:
        database.begin_snapshot()
        for kind, expected in (("samples", 2_100), ("rollups", 7 * 5)):
            wanted = Wanted(kind, T0, T0 + 1_000 * S)  # type: ignore[arg-type]
            found = list(rows.pieces(database, wanted))
            assert max(map(len, found)) <= 64
            keys = [
                (piece.series[at].id, int(time))
                for piece in found
                for at, time in zip(
                    piece.index.tolist(), piece.columns["time" if kind == "samples" else "start"], strict=True
                )
            ]
            assert len(keys) == len(set(keys)) == expected
            assert keys == sorted(keys)
    finally:
        database.close()


async def test_a_client_that_leaves_takes_the_reading_process_with_it(api: Running) -> None:
    """Nothing is left running."""
    await api.field.send({key("x"): [(T0 + n, float(n)) for n in range(50_000)]})
    asked = asyncio.create_task(ask(api, "samples", "ndjson"))
    await asyncio.sleep(0)
    asked.cancel()
    await asyncio.gather(asked, return_exceptions=True)
    body, _ = await ask(api, "samples", "csv")
    assert body.count(b"\n") == 50_001


@pytest.mark.parametrize("form", FORMATS)
async def test_what_retention_took_is_said_before_the_file(api: Running, form: str) -> None:
    """In a header, in the command line's words: of raw data of the time that is asked for, and of nothing else."""
    await api.field.send({key("temp"): [(T0 - 3 * DAY, 1.0), (T0 - S, 2.0)]})
    while (done := await api.world.store.compact(everything=True)).more or done.batches:
        pass
    kept = Retention(raw_ns=2 * DAY, windows_ns=2 * DAY, rollup_1m_ns=9 * DAY, rollup_1h_ns=9 * DAY)
    await api.world.store.apply_retention(kept, T0)
    horizon = await api.world.store.raw_horizon()
    long = {"start": "2026-02-26", "end": "2026-03-02"}
    for kind in ("samples", "windows"):
        _, headers = await ask(api, kind, form, **long)
        assert headers["telemetryx-warning"] == deleted(horizon)
    for kind, span in (("samples", SPAN), ("rollups", long), ("events", long)):
        _, headers = await ask(api, kind, form, **span)
        assert "telemetryx-warning" not in headers


async def test_an_export_that_takes_too_long_is_given_up(start: Any) -> None:
    """Before the first byte with a reason; it gives its place to the next."""
    api = await start(limits=Limits(1_000, 100, 1_000, 30.0, 3, export_timeout_s=0.0))
    for _ in range(export.MAX_AT_ONCE + 1):
        body, headers = await ask(api, "samples", "csv", 503)
        assert "the export took longer than" in json.loads(body)["error"]["message"]
        assert "export_timeout" in json.loads(body)["error"]["message"]
        assert "retry-after" in headers


async def test_who_does_not_read_an_export_loses_it_when_its_time_is_over(
    start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would keep a place for ever. What was sent can't be taken for the whole, for the connection is broken off."""
    api = await start(limits=Limits(1_000, 100, 1_000, 30.0, 3, export_timeout_s=3.0))
    await api.field.send({key("x"): [(T0 + n, float(n)) for n in range(100)]})
    stuck = asyncio.Event()

    async def never(*_: object) -> None:
        stuck.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(web.StreamResponse, "write", never)
    with pytest.raises(aiohttp.ClientError):
        await ask(api, "samples", "csv")
    assert stuck.is_set()


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> asyncio.Semaphore:
    """Count the exports that gave their place back."""
    count, stream = asyncio.Semaphore(0), export._stream

    async def counted(*arguments: Any) -> web.StreamResponse:
        try:
            return await stream(*arguments)
        finally:
            count.release()

    monkeypatch.setattr(export, "_stream", counted)
    return count


async def much(api: Running) -> None:
    """Store what no pipe and no socket holds."""
    site = "s" * 500
    await api.field.send({key("x", site=site): [(T0 + n, float(n)) for n in range(30_000)]})
    await api.field.send({key("y"): [(T0, 1.0)]})


async def test_aborted_exports_give_their_places_back(api: Running, ended: asyncio.Semaphore) -> None:
    """Whatever the reading process had in its pipe when the client left."""
    await much(api)
    for _ in range(export.MAX_AT_ONCE + 1):
        answer = await api.client.get("/api/v1/export/samples", params={"format": "ndjson", **SPAN})
        assert answer.status == 200, await answer.read()
        await answer.content.readexactly(1)
        answer.close()
        async with asyncio.timeout(60):
            await ended.acquire()
    body, _ = await ask(api, "samples", "csv", match="y")
    assert body.count(b"\n") == 2


async def test_an_export_whose_time_is_over_gives_its_place_back_with_a_full_pipe(
    start: Any, ended: asyncio.Semaphore
) -> None:
    """The client is there, and reads nothing."""
    api = await start(limits=Limits(1_000, 100, 1_000, 30.0, 3, export_timeout_s=2.0))
    await much(api)
    for _ in range(export.MAX_AT_ONCE):
        answer = await api.client.get("/api/v1/export/samples", params={"format": "ndjson", **SPAN})
        async with asyncio.timeout(60):
            await ended.acquire()
        answer.close()
    async with api.client.get("/api/v1/export/samples", params={"match": "y", **SPAN}) as answer:
        assert b"exports run already" not in await answer.read()
