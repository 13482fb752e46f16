"""Rows of table `sample` in the form that PostgreSQL's COPY takes: all of a piece at once, without a loop over samples.

head      a signature, u32 flags (0), u32 length of what else there is (0)
row       u16 columns, then each column as u32 length and bytes; big-endian
end       0xffff
"""

from typing import Final

import numpy as np

from telemetryx.types import F64, I64, U8

COLUMNS: Final = ("time", "series_id", "value", "time_ns", "flags")
_ROW: Final = np.dtype(
    [
        ("columns", ">u2"),
        ("time_length", ">u4"),
        ("time", ">i8"),
        ("series_length", ">u4"),
        ("series", ">i8"),
        ("value_length", ">u4"),
        ("value", ">f8"),
        ("ns_length", ">u4"),
        ("ns", ">i8"),
        ("flags_length", ">u4"),
        ("flags", ">i2"),
    ]
)
_HEAD: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_END: Final = b"\xff\xff"
_EPOCH_US: Final = 946_684_800_000_000
"""PostgreSQL counts microseconds from 2000 on."""


def binary(series: I64, times: I64, values: F64, flags: U8) -> bytes:
    """Return rows as one COPY takes them."""
    rows = np.empty(len(times), _ROW)
    rows["columns"] = len(COLUMNS)
    for name in ("time_length", "series_length", "value_length", "ns_length"):
        rows[name] = 8
    rows["flags_length"] = 2
    rows["time"] = times // 1_000 - _EPOCH_US
    rows["series"] = series
    rows["value"] = values
    rows["ns"] = times
    rows["flags"] = flags
    return _HEAD + rows.tobytes() + _END
