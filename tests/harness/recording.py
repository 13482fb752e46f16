"""A recorded fault: what a host's metrics say for twenty minutes of calm, then while a job takes it over.

The series are those of the host input (docs/how-to/host-metrics.md), one tick every ten seconds, as line protocol with the
times of the recording: fed over HTTP, minutes of event time pass in a second, and the agent's fold and model see what
they would have seen live. Values depend on nothing but the seed, so that two plays differ in their times only.
"""

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

SECOND = 1_000_000_000
#: Between two ticks: the host input's default, and the grid of scores and of rules.
TICK = 10 * SECOND
MEMORY = 4 << 30


@dataclass(frozen=True)
class Recording:
    """Calm, a fault, and calm again, in ticks."""

    calm: int = 120
    fault: int = 7
    after: int = 0
    seed: int = 7
    device: str = "gw-1"

    @property
    def ticks(self) -> int:
        """How many there are."""
        return self.calm + self.fault + self.after

    def start(self, end: int) -> int:
        """Return the first tick's time when the last is at `end` or up to ten seconds before."""
        return (end // TICK - self.ticks + 1) * TICK

    def fault_begins(self, start: int) -> int:
        """Return the time of the fault's first tick."""
        return start + self.calm * TICK

    def play(self, start: int) -> Iterator[str]:
        """Give each tick as the lines of one request."""
        for at, values in enumerate(self.values()):
            yield "\n".join(
                f"{name},device={self.device} value={value!r}{'i' * isinstance(value, int)} {start + at * TICK}"
                for name, value in values.items()
            )

    def values(self) -> Iterator[dict[str, float]]:
        """Give what each tick reads, by series."""
        noise = random.Random(self.seed)
        totals = dict.fromkeys(("read", "write", "receive", "transmit"), 10**9)
        load = 0.5
        for at in range(self.ticks):
            faulty = self.calm <= at < self.calm + self.fault

            def near(value: float, spread: float) -> float:
                return value * (1 + spread * max(-3.0, min(3.0, noise.gauss())))

            busy, wait = (0.96, 0.03) if faulty else (near(0.12, 0.2), near(0.004, 0.3))
            load += ((9.0 if faulty else near(0.5, 0.2)) - load) * (1 - math.exp(-1 / 6))
            used = near(0.35, 0.005) + (0.05 if faulty else 0.0)
            disk = 300 if faulty else 1
            rates = {"read": 2_000 * disk, "write": 90_000 * disk, "receive": 45_000, "transmit": 30_000}
            for key, rate in rates.items():
                totals[key] += round(near(rate, 0.2) * 10)
            yield {
                "system.cpu.utilization,mode=user": busy * 0.7,
                "system.cpu.utilization,mode=system": busy * 0.3,
                "system.cpu.utilization,mode=iowait": wait,
                "system.cpu.utilization,mode=idle": 1 - busy - wait,
                "system.cpu.load_average.1m": load,
                "system.memory.utilization,state=used": used,
                "system.memory.usage,state=used": float(round(used * MEMORY)),
                "system.disk.io,disk=sda,direction=read": totals["read"],
                "system.disk.io,disk=sda,direction=write": totals["write"],
                "system.network.io,interface=eth0,direction=receive": totals["receive"],
                "system.network.io,interface=eth0,direction=transmit": totals["transmit"],
            }
