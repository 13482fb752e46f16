"""A trace's context: W3C Trace Context, version 00, of sampled traces only."""

import re
from dataclasses import dataclass
from typing import Final

_FORM: Final = re.compile(
    r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII | re.DOTALL
)


@dataclass(frozen=True, slots=True)
class Context:
    """A span of a sampled trace, by name: 16 and 8 bytes."""

    trace: bytes
    span: bytes

    def __str__(self) -> str:
        """Write it as `traceparent`."""
        return f"00-{self.trace.hex()}-{self.span.hex()}-01"


def parse(text: str) -> Context | None:
    """Read a `traceparent`; None where there is none, it is malformed, or its trace isn't sampled."""
    found = _FORM.fullmatch(text) if text else None
    if found is None:
        return None
    version, trace, span, flags, more = found.groups()
    if version == "ff" or (version == "00" and more is not None) or not int(flags, 16) & 1:
        return None
    context = Context(bytes.fromhex(trace), bytes.fromhex(span))
    return context if any(context.trace) and any(context.span) else None


def trace_id(text: str) -> str | None:
    """Return the trace's id of a `traceparent`, as people look it up."""
    context = parse(text)
    return None if context is None else context.trace.hex()
