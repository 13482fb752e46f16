"""The compiled module, loaded when it is needed: without it the collector takes and keeps everything, and says what it can't do."""

from types import ModuleType

from telemetryx.errors import NotCompiled


def native() -> ModuleType:
    """Return `telemetryx._native`. Raises NotCompiled, with how to get it."""
    try:
        from telemetryx import _native  # noqa: PLC0415
    except ImportError as error:
        raise NotCompiled(
            f"this needs the compiled module telemetryx._native, which can't be loaded ({error}): install the collector "
            "from its package or wheel for this machine, or run `just native` in a checkout"
        ) from error
    return _native
