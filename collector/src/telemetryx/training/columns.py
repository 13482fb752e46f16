"""Samples as columns: what training takes, whichever store they came from."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from telemetryx import _native
from telemetryx.training.errors import TrainingError
from telemetryx.types import F64, I64


@dataclass(frozen=True, slots=True)
class Columns:
    """Samples of many series: `series` is an index into `names` and `labels`; in any order."""

    names: Sequence[str]
    labels: Sequence[Mapping[str, str]]
    series: I64
    times: I64
    values: F64

    def features(self) -> "_native.FeatureTable":
        """Return the features as the agent makes them, from the first sample on."""
        return _native.features(self.names, self.labels, self.series, self.times, self.values)

    def save(self, path: Path) -> None:
        """Write an .npz file, for a child process."""
        series = json.dumps(
            [[name, dict(labels)] for name, labels in zip(self.names, self.labels, strict=True)]
        )
        with path.open("wb") as file:
            np.savez_compressed(
                file,
                definitions=np.frombuffer(series.encode(), dtype=np.uint8),
                series=self.series,
                times=self.times,
                values=self.values,
            )

    @classmethod
    def load(cls, path: Path) -> "Columns":
        """Read what `save` wrote."""
        try:
            with np.load(path, allow_pickle=False) as file:
                definitions = json.loads(file["definitions"].tobytes())
                columns = {name: file[name] for name in ("series", "times", "values")}
        except (OSError, ValueError, KeyError) as error:
            raise TrainingError(f"{path} isn't a file of columns: {error}") from error
        return cls(
            names=[str(name) for name, _ in definitions],
            labels=[dict(labels) for _, labels in definitions],
            series=columns["series"].astype(np.int64),
            times=columns["times"].astype(np.int64),
            values=columns["values"].astype(np.float64),
        )
