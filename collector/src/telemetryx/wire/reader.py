"""A msgpack reader for known shapes: containers are opened by hand, so nothing unexpected can nest or allocate.

`msgpack.unpackb` allocates what a header claims, one level inside the other; with the streaming reader each container
is a decision of ours, and a leaf that turns out to be an array or a deep map is refused by its length limit (0).
"""

from collections.abc import Callable, Iterator
from typing import Any, Final

import msgpack

from telemetryx.errors import WireError

NIL: Final = 0xC0
_BROKEN = (ValueError, TypeError, OverflowError, msgpack.exceptions.UnpackException)


class Reader:
    """Reads one msgpack document of a known shape."""

    def __init__(self, data: bytes, what: str, max_map: int = 0) -> None:
        """Read from these bytes; `max_map` is the size of maps that `map_of_text` may meet."""
        self._what = what
        self._data = data
        self._size = len(data)
        self._unpacker = msgpack.Unpacker(
            raw=False,
            strict_map_key=True,
            max_buffer_size=max(len(data), 1),
            max_str_len=len(data),
            max_bin_len=len(data),
            max_array_len=0,
            max_map_len=max_map,
            max_ext_len=0,
        )
        self._unpacker.feed(data)

    def _call(self, read: Callable[[], Any]) -> Any:  # noqa: ANN401 - msgpack's values are checked by the caller
        try:
            return read()
        except RecursionError as error:
            raise WireError(f"{self._what} nests too deep") from error
        except _BROKEN as error:
            raise WireError(
                f"{self._what} isn't the msgpack that was expected: {error or type(error).__name__}"
            ) from error

    def array(self, at_least: int = 0, at_most: int | None = None) -> int:
        """Open an array and return its length. A length that the bytes left can't hold is refused."""
        return self._opened(self._call(self._unpacker.read_array_header), at_least, at_most)

    def map(self, at_most: int) -> int:
        """Open a map and return its length."""
        return self._opened(self._call(self._unpacker.read_map_header), 0, at_most)

    def _opened(self, length: int, at_least: int, at_most: int | None) -> int:
        left = self._size - self._unpacker.tell()
        if length < at_least or length > left or (at_most is not None and length > at_most):
            raise WireError(f"{self._what} holds a container of {length} items where that can't be")
        return length

    def value(self) -> Any:  # noqa: ANN401
        """Read a leaf of any type."""
        return self._call(self._unpacker.unpack)

    def integer(self) -> int:
        """Read a whole number."""
        value = self.value()
        if type(value) is not int:
            raise WireError(f"{self._what} has {type(value).__name__} where a whole number is expected")
        return value

    def text(self, max_bytes: int | None = None) -> str:
        """Read a text."""
        value = self.value()
        if type(value) is not str:
            raise WireError(f"{self._what} has {type(value).__name__} where text is expected")
        if max_bytes is not None and len(value) * 4 > max_bytes and len(value.encode()) > max_bytes:
            raise WireError(
                f"{self._what} has a text of {len(value)} characters; at most {max_bytes} bytes are taken"
            )
        return value

    def binary(self) -> bytes:
        """Read a byte string."""
        value = self.value()
        if type(value) is not bytes:
            raise WireError(f"{self._what} has {type(value).__name__} where bytes are expected")
        return value

    def map_of_text(self) -> dict[str, Any]:
        """Read a whole map with text keys."""
        value = self.value()
        if type(value) is not dict or not all(type(key) is str for key in value):
            raise WireError(f"{self._what} has {type(value).__name__} where a map with text keys is expected")
        return value

    def keys(self, at_most: int) -> Iterator[str]:
        """Walk a map with text keys that each may stand once: the caller reads the value after each key."""
        seen: set[str] = set()
        for _ in range(self.map(at_most)):
            key = self.text()
            if key in seen:
                raise WireError(f"{self._what} has key {key!r} twice")
            seen.add(key)
            yield key

    def nil(self) -> bool:
        """Read a nil if one is next, and say so."""
        at = self._unpacker.tell()
        if at < self._size and self._data[at] == NIL:
            self._unpacker.skip()
            return True
        return False

    def skip(self) -> None:
        """Pass over the next value, whatever it is."""
        self._call(self._unpacker.skip)

    def end(self) -> None:
        """Refuse what stands behind the document."""
        if self._unpacker.tell() != self._size:
            raise WireError(f"{self._what} has {self._size - self._unpacker.tell()} bytes behind its end")
