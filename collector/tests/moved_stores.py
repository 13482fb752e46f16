"""A store with something of everything, before and after it moves."""

from pathlib import Path

from reference_agent import SECOND, T0, decoded, defined, events, samples, window
from telemetryx.store.alerts import AlertChange, AlertState, ChangeKind, RulesCommit
from telemetryx.store.interface import EventQuery
from telemetryx.store.tables.rules import StoredRules
from telemetryx.store.tables.store import TableStore
from telemetryx.types import BatchKey, Decoded, Duplicate, Stored
from telemetryx.wire.payload import Payload

EPOCH = bytes(range(16))
FOREVER = 1 << 62
DEFS = defined("temp", "power", site="north", device="p7")


def content(seq: int) -> Decoded:
    """A batch with samples (one is no number), a window and an event."""
    start = T0 + seq * SECOND
    payload = Payload(
        samples({1: [(start, float(seq)), (start + 1, float("nan"))]}),
        window(2, start, [1.0, 2.0]),
        events((start, 17, "pump", f"bearing {seq} hot", {"zone": "NUL \x00 and ü"})),
    )
    return decoded(BatchKey("agent-7", EPOCH, seq), payload, DEFS)


async def seen(opened: TableStore) -> dict[str, object]:
    """What people and rules read of a store."""
    raw = await opened.samples([1], -FOREVER, FOREVER)
    found = await opened.events(EventQuery(q="bearing"))
    return {
        "series": [(one.id, one.name, dict(one.labels)) for one in await opened.series()],
        "samples": [(int(t), repr(float(v))) for t, v in zip(raw.times, raw.values, strict=True)],
        "events": [(event.time_ns, event.body) for event in found],
        "held": (await opened.holdings("agent-7", [EPOCH]))[EPOCH],
        "sound": await opened.verify(),
        "silences": await opened.silences(),
        "acknowledged": await opened.acknowledged([1]),
    }


async def filled(opened: TableStore) -> dict[str, object]:
    """Fill a store: batches as shipped, and chunks."""
    for seq in range(1, 9):
        assert isinstance((await opened.commit([content(seq)]))[0], Stored)
        if seq == 5:
            await opened.compact(everything=True)
    change = AlertChange(ChangeKind.STANDS, "hot", "g", T0, T0, AlertState.FIRING, fired_ns=T0)
    (alert,) = await StoredRules(opened).rules_commit(RulesCommit("rules", changes=[change]))
    await opened.acknowledge(alert.id, "ana", "on my way")
    await opened.add_silence("hot", T0, 1 << 62, "ana", "works")
    before = await seen(opened)
    await opened.close()
    return before


async def goes_on(opened: TableStore, before: dict[str, object]) -> None:
    """A copy reads as its original, knows its duplicates, and stores what is new behind them."""
    assert await seen(opened) == before
    assert await opened.commit([content(3)]) == [Duplicate()]
    cursor = (await opened.usage()).cursor
    (outcome,) = await opened.commit([content(9)])
    assert isinstance(outcome, Stored)
    assert outcome.cursor > cursor
    assert await opened.verify() == []
    await opened.close()


def configuration(folder: Path, url: str = "", password: Path | None = None) -> Path:
    """A collector's configuration."""
    folder.mkdir(parents=True, exist_ok=True)
    where = f'url = "{url}"\npassword_file = "{password}"\n' if url else ""
    path = folder / "collector.toml"
    path.write_text(f'[collector]\ndata_dir = "{folder / "data"}"\n[store]\n{where}')
    (folder / "data").mkdir(exist_ok=True)
    return path


def sqlite_at(config: Path) -> Path:
    """Where the default store of a configuration is."""
    return config.parent / "data/telemetry.db"
