"""Hosts as they usually are, and faults: made up, but from how real ones behave. Deterministic by seed.

No recording of anyone's machines is behind this. Each host has a demand that wanders by the minute and by the hour and
has a daily swing; processor, load, memory, disk and network follow it with their own gains and noise; small jobs run every
few minutes. The kinds differ by orders of magnitude, because the features must make them alike.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from telemetryx.training import Columns

F64 = NDArray[np.float64]

#: Seconds between two samples of a host.
STEP = 10
#: 2026-03-02, a Monday.
START_NS = 1_772_409_600_000_000_000


@dataclass(frozen=True, slots=True)
class Kind:
    """What sort of host: its level of everything, and how restless it is."""

    name: str
    cores: int
    cpu: float
    wait: float
    memory: float
    disk_read: float
    disk_written: float
    network: float
    daily: float
    """Share of the demand that swings over the day."""
    restless: float
    """Standard deviation of the demand's logarithm."""
    job_every: int
    """Steps between small jobs of one step; 0 = none."""


KINDS = (
    Kind("idle", 2, 0.015, 0.001, 0.22, 300, 25_000, 2_500, 0.1, 0.15, 30),
    Kind("gateway", 4, 0.11, 0.004, 0.35, 500, 70_000, 45_000, 0.2, 0.12, 60),
    Kind("web", 8, 0.24, 0.004, 0.48, 9_000, 350_000, 1_800_000, 0.5, 0.22, 30),
    Kind("database", 16, 0.18, 0.025, 0.71, 2_500_000, 5_000_000, 900_000, 0.4, 0.25, 90),
    Kind("worker", 8, 0.55, 0.010, 0.60, 150_000, 900_000, 250_000, 0.1, 0.18, 0),
    Kind("desktop", 8, 0.06, 0.003, 0.41, 40_000, 120_000, 60_000, 0.3, 0.45, 45),
)

SERIES: tuple[tuple[str, Mapping[str, str]], ...] = (
    ("system.cpu.utilization", {"mode": "idle"}),
    ("system.cpu.utilization", {"mode": "iowait"}),
    ("system.cpu.load_average.1m", {}),
    ("system.memory.utilization", {"state": "used"}),
    ("system.disk.io", {"disk": "sda", "direction": "read"}),
    ("system.disk.io", {"disk": "sda", "direction": "write"}),
    ("system.network.io", {"interface": "eth0", "direction": "receive"}),
    ("system.network.io", {"interface": "eth0", "direction": "transmit"}),
)


@dataclass(frozen=True, slots=True)
class Levels:
    """What a host does in each step: shares of one, a load, and bytes per second."""

    busy: F64
    wait: F64
    running: F64
    memory: F64
    disk_read: F64
    disk_written: F64
    received: F64
    sent: F64


def wander(rng: np.random.Generator, steps: int, memory: float) -> F64:
    """Return a random walk that is pulled back: standard deviation 1, correlated over `memory` steps."""
    keep = float(np.exp(-1.0 / memory))
    noise = rng.normal(0.0, np.sqrt(1.0 - keep * keep), steps)
    out = np.empty(steps)
    now = rng.normal()
    for at in range(steps):
        now = keep * now + noise[at]
        out[at] = now
    return out


def calm(kind: Kind, steps: int, rng: np.random.Generator, hour: float = 0.0) -> Levels:
    """Return an ordinary stretch of a host, from this hour of the day on."""
    day = np.sin(2.0 * np.pi * (np.arange(steps) * STEP / 86_400 + (hour - 9.0) / 24.0))
    minutes, hours = wander(rng, steps, 9), wander(rng, steps, 240)
    demand = np.exp(kind.restless * (0.7 * minutes + 0.7 * hours)) * (1.0 + kind.daily * day)
    jobs = np.zeros(steps)
    if kind.job_every:
        jobs[int(rng.integers(kind.job_every)) :: kind.job_every] = 1.0

    def noisy(level: float | F64, share: float) -> F64:
        return np.asarray(level * np.exp(rng.normal(0.0, share, steps)))

    busy = np.clip(noisy(kind.cpu * demand, 0.12) + jobs * 0.08 + rng.exponential(0.004, steps), 0.0, 0.99)
    wait = np.clip(noisy(kind.wait * demand, 0.5), 0.0, 0.3)
    memory = np.clip(
        kind.memory + 0.01 * wander(rng, steps, 400) + 0.002 * rng.normal(size=steps), 0.05, 0.97
    )
    return Levels(
        busy=busy,
        wait=wait,
        running=busy * kind.cores * np.exp(rng.normal(0.0, 0.15, steps)),
        memory=memory,
        disk_read=noisy(kind.disk_read * demand, 0.6) + jobs * 60_000,
        disk_written=noisy(kind.disk_written * demand, 0.45) + jobs * 150_000,
        received=noisy(kind.network * demand, 0.3),
        sent=noisy(0.7 * kind.network * demand, 0.3),
    )


def with_fault(levels: Levels, kind: Kind, fault: str, start: int, stop: int) -> Levels:
    """Return the same stretch with a fault from step `start` to before `stop`."""
    span = slice(start, stop)
    copy = {name: np.array(getattr(levels, name)) for name in Levels.__slots__}
    if fault in {"cpu", "burst"}:
        copy["busy"][span] = 0.97
        copy["running"][span] += 2.5 * kind.cores
    if fault in {"disk", "burst"}:
        copy["disk_written"][span] += 40.0 * max(kind.disk_written, 500_000)
        copy["disk_read"][span] += 20.0 * max(kind.disk_read, 500_000)
        copy["wait"][span] += 0.3
        copy["running"][span] += 4.0
    if fault == "leak":
        copy["memory"][span] += np.linspace(0.0, 0.95 - float(np.max(levels.memory)), stop - start)
    if fault == "flood":
        copy["received"][span] += 60.0 * max(kind.network, 100_000)
        copy["busy"][span] = np.minimum(copy["busy"][span] + 0.3, 0.99)
    if fault == "silent":
        copy["busy"][span] = 0.004
        copy["running"][span] = 0.01
        for name in ("disk_read", "disk_written", "received", "sent"):
            copy[name][span] = 50.0
    return replace(levels, **copy)


FAULTS = ("burst", "cpu", "disk", "leak", "flood", "silent")


def samples(levels: Levels) -> list[F64]:
    """Return the values of `SERIES` in each step, counters as running totals of whole bytes."""
    share = 1.0 - float(np.exp(-STEP / 60.0))
    load = np.empty_like(levels.running)
    now = float(levels.running[0])
    for at, running in enumerate(levels.running):
        now += (running - now) * share
        load[at] = now

    def total(rate: F64) -> F64:
        return np.floor(np.cumsum(rate * STEP)) + 1e9

    return [
        1.0 - np.minimum(levels.busy + levels.wait, 1.0),
        levels.wait,
        load,
        levels.memory,
        total(levels.disk_read),
        total(levels.disk_written),
        total(levels.received),
        total(levels.sent),
    ]


def columns(hosts: Iterable[tuple[str, Levels]]) -> Columns:
    """Return all hosts' samples, one every ten seconds."""
    names: list[str] = []
    labels: list[Mapping[str, str]] = []
    series, times, values = [], [], []
    for host, levels in hosts:
        for (name, own), column in zip(SERIES, samples(levels), strict=True):
            series.append(np.full(len(column), len(names), dtype=np.int64))
            times.append(START_NS + np.arange(len(column), dtype=np.int64) * STEP * 1_000_000_000)
            values.append(column)
            names.append(name)
            labels.append({"device": host, **own})
    return Columns(names, labels, np.concatenate(series), np.concatenate(times), np.concatenate(values))


def fleet(seed: int, steps: int, each: int) -> list[tuple[str, Kind, Levels]]:
    """Return `each` calm hosts of every kind, each a little unlike its kind."""
    out = []
    for number, kind in enumerate(KINDS):
        for copy in range(each):
            rng = np.random.default_rng([seed, number, copy])
            gain = np.exp(rng.normal(0.0, 0.3, 6))
            own = replace(
                kind,
                cpu=min(kind.cpu * gain[0], 0.7),
                wait=kind.wait * gain[1],
                disk_read=kind.disk_read * gain[2],
                disk_written=kind.disk_written * gain[3],
                network=kind.network * gain[4],
                restless=kind.restless * gain[5] ** 0.5,
            )
            out.append((f"{kind.name}-{copy}", own, calm(own, steps, rng, hour=float(rng.uniform(0, 24)))))
    return out
