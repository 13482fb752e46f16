"""Where a page of a list is: behind a row, in front of one, or so many rows on; one of the three."""

from typing import Protocol

from telemetryx.api.errors import BadRequest


class Placed(Protocol):
    """Parameters of a list that is read by places."""

    @property
    def after(self) -> object:
        """Behind which row it begins."""
        ...

    @property
    def before(self) -> object:
        """In front of which row it ends."""
        ...

    @property
    def offset(self) -> int:
        """How many rows are skipped."""
        ...


def one_way(params: Placed) -> None:
    """Refuse parameters that say it twice. Raises BadRequest."""
    named = {"after": params.after, "before": params.before, "offset": params.offset or None}
    given = [name for name, value in named.items() if value is not None]
    if len(given) > 1:
        raise BadRequest(f"`{given[0]}` and `{given[1]}` both say where the page is", "give one of them")
