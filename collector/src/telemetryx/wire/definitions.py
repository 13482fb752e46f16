"""Series definitions beside a payload: `zstd(msgpack([[number, name, unit, {label: value}], ...]))`."""

from collections.abc import Sequence

import msgpack

from telemetryx.errors import WireError
from telemetryx.types import Definition
from telemetryx.wire.compression import pack, unpack
from telemetryx.wire.limits import (
    MAX_DEFINITIONS,
    MAX_DEFINITIONS_COMPRESSED,
    MAX_DEFINITIONS_DECOMPRESSED,
    MAX_LABEL_VALUE,
    MAX_LABELS,
    MAX_NAME,
    MAX_UNIT,
)
from telemetryx.wire.reader import Reader

_FIELDS = 4
_SHARED = 1_000


def decode(data: bytes) -> list[Definition]:
    """Decode definitions or raise WireError; no bytes are no definitions."""
    if not data:
        return []
    what = "the definitions"
    reader = Reader(
        unpack(data, what, MAX_DEFINITIONS_COMPRESSED, MAX_DEFINITIONS_DECOMPRESSED), what, MAX_LABELS
    )
    out: list[Definition] = []
    texts: dict[str, str] = {}

    def one(text: str) -> str:
        """Keep texts that come again once: names of labels, sites. Many of a batch's texts come once only."""
        return texts.setdefault(text, text) if len(texts) < _SHARED else texts.get(text, text)

    for _ in range(reader.array(0, MAX_DEFINITIONS)):
        reader.array(_FIELDS, _FIELDS)
        number = reader.integer()
        if not 0 <= number < 1 << 32:
            raise WireError(f"series number {number} doesn't fit into 32 bits")
        name, unit = reader.text(MAX_NAME), reader.text(MAX_UNIT)
        if not name:
            raise WireError(f"series {number} has an empty name")
        labels = reader.map_of_text()
        for label, value in labels.items():
            if not label or len(label.encode()) > MAX_NAME:
                raise WireError(f"series {number} has a label name of {len(label)} characters")
            if type(value) is not str or len(value.encode()) > MAX_LABEL_VALUE:
                raise WireError(
                    f"label {label!r} of series {number} isn't a text of at most {MAX_LABEL_VALUE} bytes"
                )
        shared = {one(label): one(value) for label, value in sorted(labels.items())}
        out.append(Definition(number, one(name), shared, one(unit)))
    reader.end()
    return out


def encode(definitions: Sequence[Definition]) -> bytes:
    """Encode definitions; none are no bytes."""
    if not definitions:
        return b""
    return pack(
        msgpack.packb([[entry.number, entry.name, entry.unit, dict(entry.labels)] for entry in definitions])
    )
