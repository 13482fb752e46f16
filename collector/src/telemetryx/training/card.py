"""A model's card: what a person should know before trusting its scores."""

from dataclasses import dataclass, field
from datetime import UTC, datetime

from telemetryx import _native


@dataclass(frozen=True, slots=True)
class Card:
    """Facts of one training run."""

    model_id: str
    version: int
    created_ns: int
    devices: int
    rows: int
    components: int
    variance: float
    threshold: float
    above: float
    """Share of the calm rows that score above 1."""
    parity: float
    size: int
    about: dict[str, str] = field(default_factory=dict)
    """Sections by heading: where the data is from, what was measured, what it can't do."""

    def text(self) -> str:
        """Write the card as Markdown."""
        created = datetime.fromtimestamp(self.created_ns / 1e9, UTC).strftime("%Y-%m-%d")
        per_day = self.above * 86_400e9 / _native.GRID_NS
        lines = [
            f"# Model {self.model_id}, version {self.version}",
            "",
            f"PCA (T² and Q) over the features `{_native.FEATURE_SET}`: {', '.join(_native.FEATURE_NAMES)}.",
            "A score above 1 means: this host now behaves unlike itself in the last hour, for half a minute or so.",
            "",
            "| | |",
            "|---|---|",
            f"| trained | {created} |",
            f"| devices, rows of 10 s | {self.devices}, {self.rows:,} |",
            f"| components | {self.components} of {len(_native.FEATURE_NAMES)} ({self.variance:.0%} of the variance) |",
            f"| threshold of the distance | {self.threshold:.4f} |",
            f"| calm rows above 1 | {self.above:.4%} ({per_day:.1f} of 8,640 a day) |",
            f"| largest difference from onnxruntime | {self.parity:.1e} (allowed 1e-5) |",
            f"| size | {self.size:,} bytes |",
        ]
        for heading, text in self.about.items():
            lines += ["", f"## {heading}", text.strip()]
        return "\n".join(lines) + "\n"
