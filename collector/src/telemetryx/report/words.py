"""A report's words: what is measured, of what, and in which unit. Times are nanoseconds since the epoch, UTC."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class SeriesRow:
    """One series. Its interval is the median pause between two readings; it is down while a pause lasts over three of them."""

    agent: str
    site: str
    device: str
    name: str
    labels: dict[str, str]
    readings: int
    expected: int
    completeness: float | None
    """Share of the readings that its interval lets expect, at most 1; None when there are too few to tell an interval."""
    availability: float | None
    """Share of the time in which it was heard."""
    interval_s: float | None
    longest_pause_s: float


@dataclass(frozen=True, slots=True)
class SiteRow:
    """A site, over the whole time."""

    site: str
    devices: int
    series: int
    readings: int
    completeness: float | None
    availability: float | None
    """Share of the time in which anything of the site was heard."""
    anomalies: int
    """Stretches with a score above 1."""


@dataclass(frozen=True, slots=True)
class PeriodRow:
    """A site in one of the report's periods."""

    site: str
    start_ns: int
    end_ns: int
    readings: int
    completeness: float | None
    availability: float | None
    anomalies: int


@dataclass(frozen=True, slots=True)
class AnomalyRow:
    """A stretch in which a device's score was above 1."""

    site: str
    device: str
    agent: str
    start_ns: int
    end_ns: int
    peak: float
    peak_ns: int


@dataclass(frozen=True, slots=True)
class NoteRow:
    """A sentence about the report itself."""

    note: str


@dataclass(frozen=True, slots=True)
class Report:
    """Everything, ready to be written. `start_ns` is where what is kept begins, if that is later than was asked."""

    start_ns: int
    end_ns: int
    period_ns: int
    sites: list[SiteRow] = field(default_factory=list)
    periods: list[PeriodRow] = field(default_factory=list)
    series: list[SeriesRow] = field(default_factory=list)
    """Least complete first."""
    anomalies: list[AnomalyRow] = field(default_factory=list)
    """Highest first."""
    left_out: list[str] = field(default_factory=list)
    """What isn't in it, in sentences."""
    notes: list[str] = field(default_factory=list)
    """What it rests on where that isn't raw data, in sentences."""
