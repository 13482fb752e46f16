"""What a payload may hold at most. proto/README.md states the limits; they are checked before anything is allocated."""

from typing import Final

CODEC: Final = 1
"""zstd over msgpack."""
PAYLOAD_VERSION: Final = 1
WIRE: Final = 1
"""Version of the frames."""

MAX_COMPRESSED: Final = 4 << 20
MAX_DECOMPRESSED: Final = 64 << 20
MAX_ROWS: Final = 4_000_000
"""Samples; windows and events likewise, and the bins of all windows in one batch."""
MAX_DEFINITIONS_COMPRESSED: Final = 1 << 20
MAX_DEFINITIONS_DECOMPRESSED: Final = 16 << 20
MAX_DEFINITIONS: Final = 250_000
"""Of one batch: each is an object of half a kilobyte, and takes as little as ten bytes in these."""

MAX_NAME: Final = 512
MAX_LABEL_VALUE: Final = 1024
MAX_LABELS: Final = 40
MAX_UNIT: Final = 512
MAX_ATTRIBUTES: Final = 1024
"""Of one event."""
MAX_CAUSES: Final = 256

MAX_TIME: Final = 9_200_000_000_000_000_000
"""Event times beyond this (the year 2261) leave no room for bucket arithmetic in 64 bits; the store refuses them."""
