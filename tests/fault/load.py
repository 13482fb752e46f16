"""All kinds of publisher at once against one agent, and the comparison of what is stored with what was acknowledged."""

import sys
from collections import Counter

from tests.fault.publishers import LINES, CompletesAll, Groups, NeverResends, Posts
from tests.harness import Agent, Collector

#: Readings a second of each MQTT publisher and of the HTTP one; a fifth of it over TCP, where each waits for the last.
RATE = 500.0


class Load:
    """All of them at once against one agent."""

    def __init__(self, agent: Agent) -> None:
        """Make them; nothing is sent before `start`."""
        self.once = NeverResends(agent.mqtt, "load/once/n", RATE)
        self.twice = CompletesAll(agent.mqtt, "load/all/n", RATE)
        self.posts = Posts(agent.http, "http", RATE / LINES)
        self.groups = Groups(agent.tcp, "tcp", RATE / 5)
        self._all: tuple[NeverResends | CompletesAll | Posts | Groups, ...] = (
            self.once,
            self.twice,
            self.posts,
            self.groups,
        )

    def start(self) -> None:
        """Begin."""
        for publisher in self._all:
            publisher.start()

    def stop(self) -> None:
        """End, once what can be completed is complete."""
        for publisher in self._all:
            publisher.stop()

    @property
    def sent(self) -> int:
        """Readings sent."""
        return sum(publisher.sent for publisher in self._all)

    @property
    def asked(self) -> int:
        """Readings asked for."""
        return sum(publisher.asked * (LINES if publisher is self.posts else 1) for publisher in self._all)

    @property
    def acknowledged(self) -> int:
        """Readings acknowledged."""
        return sum(len(publisher.acked) for publisher in self._all)

    def judge(self, collector: Collector) -> tuple[int, int]:
        """Return how many were acknowledged and lost, and how many are stored more than once; name the first of them."""
        lost = double = 0
        for publisher in self._all:
            found = collector.values(f'n{{site="load",device="{publisher.device}"}}')
            missing, twice = judge(found[0] if found else [], publisher.acked, publisher.sent)
            for what, numbers in (("lost", missing), ("twice", twice)):
                if numbers:
                    print(f"{what}, sent to {publisher.topic}: {sorted(numbers)[:10]} …", file=sys.stderr)
            lost, double = lost + len(missing), double + len(twice)
        return lost, double


def judge(stored: list[float], must: set[int], may: int) -> tuple[set[int], set[int]]:
    """Return what was acknowledged and lost, and what is stored more than once; `may` is how many numbers were sent at all."""
    counted = Counter(int(value) for value in stored)
    assert all(0 <= number < may for number in counted), "a value that nobody sent"
    return must - counted.keys(), {number for number, count in counted.items() if count > 1}
