"""Events over REST: newest first, filtered and paged."""

from running import T0, Running, S
from telemetryx.types import Severity


async def _some(api: Running) -> None:
    await api.field.send(
        events=[
            (T0 + number * S, severity, source, body, {"n": number, "ok": True})
            for number, (severity, source, body) in enumerate(
                [
                    (Severity.INFO, "door", "opened by badge"),
                    (Severity.ERROR, "plc", "watchdog expired"),
                    (Severity.WARN, "door", "left open <b>30 s</b>"),
                ]
            )
        ]
    )


async def test_events_come_newest_first_with_all_their_fields(api: Running) -> None:
    """Attributes keep their types."""
    await _some(api)
    rows = (await api.get("/events"))["events"]
    assert [row["source"] for row in rows] == ["door", "plc", "door"]
    assert rows[0]["body"] == "left open <b>30 s</b>"
    assert rows[0]["attributes"] == {"n": 2, "ok": True}
    assert (rows[1]["severity"], rows[1]["severity_number"], rows[1]["time_ns"]) == ("error", 17, T0 + S)


async def test_events_are_filtered_by_severity_source_words_and_time(api: Running) -> None:
    """Filters combine."""
    await _some(api)
    assert len((await api.get("/events", severity="warn"))["events"]) == 2
    assert len((await api.get("/events", source="door", severity="warn"))["events"]) == 1
    assert [row["source"] for row in (await api.get("/events", q="watchdog"))["events"]] == ["plc"]
    assert len((await api.get("/events", start=str(T0 // S + 1)))["events"]) == 2
    assert len((await api.get("/events", end=str(T0 // S + 1)))["events"]) == 1
    assert (await api.get("/events", agent="nobody"))["events"] == []


async def test_pages_follow_each_other_without_overlap_or_gap(api: Running) -> None:
    """`next` leads on, and is null at the end."""
    await _some(api)
    seen: list[int] = []
    before = None
    for _ in range(5):
        page = await api.get("/events", limit=1, **({} if before is None else {"before": before}))
        seen += [row["id"] for row in page["events"]]
        before = page["next"]
        if before is None:
            break
    assert len(seen) == len(set(seen)) == 3
    assert seen == sorted(seen, reverse=True)


async def test_any_search_text_is_words_and_never_syntax(api: Running) -> None:
    """FTS operators and quotes don't break the query."""
    await _some(api)
    for text in (
        "AND",
        "a OR b NOT",
        "col:x",
        "^x",
        'a"b',
        "NEAR(a b)",
        "-a",
        "a'",
        "%a",
        "ü",
        "{a",
        "a\\",
    ):
        await api.get("/events", q=text)


async def test_a_text_without_a_word_is_refused(api: Running) -> None:
    """It isn't read as none at all, which would list every event; a blank one is none."""
    await _some(api)
    for text in ("!!!", '"', "(((", "*", "-", "'", "%", "{", "\\"):
        answer = await api.client.get("/api/v1/events", params={"q": text})
        assert (answer.status, "holds no letter or digit" in await answer.text()) == (400, True)
    assert len((await api.get("/events", q=" "))["events"]) == len((await api.get("/events"))["events"])
