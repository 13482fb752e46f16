"""The demo's books: what the agent's inputs took, against what the agent cut into batches and what the store holds.

    inputs ──1──▶ batches ──2──▶ ledger ──4──▶ stored ──5──▶ rows
                     └3┘

Each arrow compares two parties that count for themselves, so a batch that never arrives, or is acknowledged and not stored,
shows: the agent counts what it took (1) and what it cut (2, 3), the collector what batches told it (2, 4), and the rows of
the store's file are counted one by one (5). Counts of batches go on over restarts; those of the inputs begin with the agent.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

#: What becomes of readings on their way from the spool to the store; loss frames say so, not batches.
LOST: Final = ("expired", "overflowed", "damaged", "refused", "refused_series_limit")
#: What leaves the flow before it is shipped.
LEAVES: Final = ("rejected", "deduplicated", "reduced")


@dataclass(frozen=True, slots=True)
class Intake:
    """The agent's side, out of its status."""

    agent: str
    """Its name."""
    received: int
    """By the inputs, since the agent's start."""
    cut: Mapping[str, int]
    """By cause, in all batches since the spool was made."""
    idle: bool
    """Everything taken is in batches, and every batch is acknowledged."""

    @classmethod
    def read(cls, status: Mapping[str, Any]) -> "Intake":
        """Read the agent's status."""
        fold, spool = status["fold"], status["spool"]
        return cls(
            str(status["agent"]),
            sum(one["received"] for one in status["inputs"]),
            {cause: int(count) for cause, count in spool["counts"].items()},
            not (
                fold["recovering"]
                or fold["behind"]
                or spool["pending"]
                or spool["batches"]
                or spool["losses"]
            ),
        )


@dataclass(frozen=True, slots=True)
class Kept:
    """The collector's side."""

    ledgers: Mapping[str, Mapping[str, int]]
    """By agent and cause."""
    stored: int
    """Rows that commits say they stored, of all agents."""
    rows: int
    """Rows that are there, of all agents."""


def total(counts: Mapping[str, int], kind: str) -> int:
    """Add up the causes of a kind, such as `rejected`."""
    return sum(count for cause, count in counts.items() if cause == kind or cause.startswith(kind + "_"))


@dataclass(frozen=True, slots=True)
class Books:
    """Everything of one run: where it began, where it ended."""

    start: Kept
    intake: Intake
    end: Kept
    carried: int | None = 0
    """Readings that an earlier run had left in the agent; None: nobody knows."""

    # --- terms; readings of this run

    @property
    def received(self) -> int:
        """Taken by the inputs, and left by an earlier run."""
        return self.intake.received + (max(0, -self.uncut) if self.carried is None else self.carried)

    def cut(self, kind: str) -> int:
        """Of a kind, in the batches of this run."""
        return total(self.intake.cut, kind) - sum(total(ledger, kind) for ledger in self._earlier())

    def arrived(self, kind: str) -> int:
        """Of a kind, that the collector was told of in this run."""
        return total(self._ledger(self.end), kind) - total(self._ledger(self.start), kind)

    @property
    def told(self) -> dict[str, int]:
        """The collector's ledger of this run, by cause."""
        return {cause: count for cause in sorted(self._ledger(self.end)) if (count := self.arrived(cause))}

    @property
    def stored(self) -> int:
        """Rows that are there, and were not at the start; those of other agents left out."""
        others = (self.end.stored - self.start.stored) - self.arrived("stored")
        return self.end.rows - self.start.rows - others

    @property
    def uncut(self) -> int:
        """Taken by the inputs, and in no batch; less than 0: in batches, and not taken by the inputs."""
        return self.intake.received + (self.carried or 0) - self.cut("received")

    @property
    def waiting(self) -> int:
        """Taken and still in the agent; 0 when it says that it has nothing left."""
        if self.intake.idle:
            return 0
        return max(0, self.uncut) + max(0, self._on_the_way("shipped"))

    @property
    def lost_by_cause(self) -> dict[str, int]:
        """What the ledger itself calls lost."""
        return {cause: count for cause in LOST if (count := self.arrived(cause))}

    @property
    def lost(self) -> int:
        """With a cause, and without any."""
        return sum(self.lost_by_cause.values()) + sum(max(0, count) for _, count in self._steps())

    @property
    def duplicated(self) -> int:
        """More at the end of a step than went into it."""
        return sum(max(0, -count) for _, count in self._steps())

    # --- checks

    def faults(self) -> list[str]:
        """Say what doesn't add up, a sentence each."""
        found = [
            f"{abs(count):,} {what.format('missing' if count > 0 else 'too many')}"
            for what, count in self._steps()
            if count
        ]
        left = sum(self.cut(kind) for kind in LEAVES)
        beside = self.cut("received") + self.cut("derived") - left - self.cut("shipped")
        if beside:
            found.append(
                f"the agent's own counts differ by {beside:,}: received + derived = rejected + deduplicated + reduced + shipped"
            )
        # What is lost with a batch is told once, by its rows.
        if self.intake.idle and not self._on_the_way("shipped"):
            found += [
                f"the collector's count of {kind} differs from the agent's by {-missing:,}"
                for kind in ("received", "derived", *LEAVES)
                if (missing := self._on_the_way(kind))
            ]
        if not self.received:
            found.append("nothing was received")
        return found

    def _steps(self) -> Iterator[tuple[str, int]]:
        """Give each step's readings that went in and didn't come out; less than 0: came out and hadn't gone in."""
        uncut, sent = self.uncut, self._on_the_way("shipped")
        if self.carried is None:
            uncut = max(0, uncut)
        if not self.intake.idle:
            # Both may be on their way; only what came from nowhere is wrong.
            uncut, sent = 0, min(0, sent)
        yield "readings {} between the agent's inputs and its batches", uncut
        yield "readings {} between the agent's batches and the collector's ledger", sent
        lost = sum(self.arrived(cause) for cause in LOST)
        yield (
            "readings {} between the ledger and what commits stored",
            self.arrived("shipped") - lost - self.arrived("stored"),
        )
        yield (
            "rows {} in the store",
            (self.end.stored - self.start.stored) - (self.end.rows - self.start.rows),
        )

    def _on_the_way(self, kind: str) -> int:
        return self.cut(kind) - self.arrived(kind)

    def _ledger(self, kept: Kept) -> Mapping[str, int]:
        return kept.ledgers.get(self.intake.agent, {})

    def _earlier(self) -> list[Mapping[str, int]]:
        """List what earlier runs had cut: under this name, or under others before the agent was called so."""
        own = self.start.ledgers.get(self.intake.agent)
        return [own] if own is not None else list(self.start.ledgers.values())
