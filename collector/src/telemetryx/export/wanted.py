"""What to export and how: the words that the API and the command line hand to the reading process."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, get_args

from telemetryx.types import Matcher

Kind = Literal["samples", "windows", "rollups", "events"]
Form = Literal["arrow", "parquet", "csv", "ndjson"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
FORMS: Final[tuple[Form, ...]] = get_args(Form)
#: Forms that Polars writes.
NEED_POLARS: Final[frozenset[Form]] = frozenset({"arrow", "parquet"})
CONTENT_TYPES: Final[Mapping[Form, str]] = {
    "arrow": "application/vnd.apache.arrow.stream",
    "parquet": "application/vnd.apache.parquet",
    "csv": "text/csv",
    "ndjson": "application/x-ndjson",
}
ENDINGS: Final[Mapping[Form, str]] = {
    "arrow": "arrows",
    "parquet": "parquet",
    "csv": "csv",
    "ndjson": "ndjson",
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """Rows of one kind in [start, end): of series that meet the matchers; events by agent, source and severity."""

    kind: Kind
    start_ns: int
    end_ns: int
    matchers: tuple[Matcher, ...] = ()
    agent: str | None = None
    source: str | None = None
    min_severity: int = 0
    level: Literal["1m", "1h"] = "1m"

    def misses(self, horizon_ns: int) -> bool:
        """Whether raw data of its time is deleted, where that from before the horizon is."""
        return self.kind in {"samples", "windows"} and self.start_ns < horizon_ns
