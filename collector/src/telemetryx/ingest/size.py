"""What a decoded batch takes in memory, about: columns are what they are, but definitions and events are objects of Python's.

A batch of ten thousand definitions is 40 kB on the wire and 5 MB here: counted by readings alone a group of them was all the memory there is.
"""

from typing import Final

from telemetryx.types import Decoded

SAMPLE: Final = 24
WINDOW: Final = 96
BIN: Final = 12
EVENT: Final = 800
DEFINITION: Final = 500


def size_of(batch: Decoded) -> int:
    """Return bytes."""
    size = SAMPLE * len(batch.samples) + DEFINITION * len(batch.definitions)
    if batch.windows is not None:
        size += WINDOW * len(batch.windows)
        if batch.windows.sketch is not None:
            size += BIN * len(batch.windows.sketch.keys)
    if batch.events is not None:
        size += EVENT * len(batch.events)
    return size
