"""What can go wrong in training.

TrainingError
├── TooLittleData   not enough calm rows to say what is normal
└── CheckFailed     a model that the agent wouldn't take, or would score differently
"""

from telemetryx.errors import TelemetryXError


class TrainingError(TelemetryXError):
    """A model can't be made, or can't be published."""


class TooLittleData(TrainingError):  # noqa: N818 - named after what happened, as the collector's other errors are
    """Not enough calm rows to say what is normal."""

    def __init__(self, have: int, need: int) -> None:
        """Say how much is missing."""
        super().__init__(
            f"{have} rows of features are too few to learn what is normal; {need} are needed: train on a longer time"
        )


class CheckFailed(TrainingError):  # noqa: N818
    """A model that the agent wouldn't take, or would score differently."""
