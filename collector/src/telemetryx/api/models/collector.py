"""The collector itself: status, losses, models, health."""

from typing import Any

from telemetryx.api.models.agents import Loss
from telemetryx.api.models.fields import Text
from telemetryx.api.openapi import ErrorBody
from telemetryx.api.route import Model, Nanoseconds


class LossParams(Model):
    """Whose losses."""

    agent: Text | None = None
    """Only this agent's."""


class LossAnswer(Model):
    """The loss ledger."""

    loss: list[Loss]
    """One row an agent and cause."""
    balance: dict[str, int]
    """By agent, received + derived - rejected - deduplicated - reduced - shipped: 0 when its books balance."""


class ModelRow(Model):
    """One version of a model."""

    name: str
    """The model."""
    version: int
    """Its version."""
    state: str
    """Where it stands."""
    created_ns: Nanoseconds | None
    """When it was trained."""
    checksum: str
    """SHA-256 of the ONNX file."""
    card: dict[str, Any]
    """What is known about it."""


class ModelsAnswer(Model):
    """The model registry."""

    models: list[ModelRow]
    """All versions."""


class Part(Model):
    """One part of the collector."""

    name: str
    """Which."""
    ready: bool
    """Whether it works."""
    reason: str
    """Why not; empty when it works, or a note: what it goes on without."""
    owner: str | None = None
    """Which collector process does this, where several share a store and one at a time does it; empty while none does."""


class StatusAnswer(Model):
    """How the collector is."""

    version: str
    """Version of its software."""
    started_ns: Nanoseconds
    """When it started."""
    now_ns: Nanoseconds
    """Its clock."""
    ready: bool
    """Whether all parts work."""
    parts: list[Part]
    """The parts."""
    cursor: int
    """Number of the newest commit."""
    processes: int
    """Collector processes on this store that share a hot view; this one alone where they share none."""
    readings_per_second: float
    """Readings that all of them stored lately."""
    totals: dict[str, float]
    """Its own metrics, summed over labels."""


class HealthAnswer(Model):
    """The process answers."""

    ok: bool
    """Always true."""


class ReadyAnswer(Model):
    """Whether the collector can do its work."""

    ready: bool
    """Whether all parts work."""
    parts: list[Part]
    """Each part, with the reason where it doesn't."""


class NotReadyAnswer(ReadyAnswer):
    """A part doesn't work: the same, and the refusal as everywhere."""

    error: ErrorBody
    """The reasons of the parts that don't work, in one sentence."""
