"""zstd with a known content size: what it would unpack to is checked before a byte is allocated."""

import threading

import zstandard

from telemetryx.errors import WireError


class _Local(threading.local):
    """A decompressor a thread: its C state isn't shared."""

    def __init__(self) -> None:
        self.decompressor = zstandard.ZstdDecompressor()


_LOCAL = _Local()


def unpack(data: bytes, what: str, max_compressed: int, max_decompressed: int) -> bytes:
    """Decompress one zstd frame that states its size and uses no dictionary, or raise WireError."""
    if len(data) > max_compressed:
        raise WireError(f"{what} has {len(data)} bytes; at most {max_compressed} are taken", "too_large")
    try:
        header = zstandard.get_frame_parameters(data)
    except zstandard.ZstdError as error:
        raise WireError(f"{what} isn't a zstd frame: {error}") from error
    size = header.content_size
    if size in {zstandard.CONTENTSIZE_UNKNOWN, zstandard.CONTENTSIZE_ERROR}:
        raise WireError(f"{what}'s zstd frame doesn't state its content size")
    if size > max_decompressed:
        raise WireError(
            f"{what} would unpack to {size} bytes; at most {max_decompressed} are taken", "too_large"
        )
    if header.dict_id:
        raise WireError(f"{what} needs zstd dictionary {header.dict_id}; none is used here")
    try:
        out = _LOCAL.decompressor.decompress(data, max_output_size=size, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise WireError(f"{what} can't be decompressed: {error}") from error
    if len(out) != size:
        raise WireError(f"{what} unpacked to {len(out)} bytes where its frame states {size}")
    return out


def stated_size(data: bytes) -> int:
    """Bytes that a frame says it unpacks to; 0 where it isn't a frame or doesn't say, which `unpack` refuses."""
    try:
        return max(0, zstandard.frame_content_size(data))
    except zstandard.ZstdError:
        return 0


def pack(data: bytes, level: int = 3) -> bytes:
    """Compress into one frame that states its size."""
    return zstandard.ZstdCompressor(level=level, write_content_size=True, write_checksum=False).compress(data)
