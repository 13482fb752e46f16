"""Agents that joined, and the tokens for it, straight in the store: for who may read and write its files.

A running collector, or several, see within a second or two what was changed here, and cut the links of who was shut out.
"""

from pathlib import Path
from typing import Any

from telemetryx.cli import direct
from telemetryx.cli.errors import CliError, Exit
from telemetryx.cli.text import printable


def tokens(config: Path, limit: int) -> dict[str, Any]:
    """Return tokens, newest first, as the API does."""
    from telemetryx.api.rest.enroll import tokens_page
    from telemetryx.clock import SystemClock

    with direct.enrolment(config) as door:
        rows = direct.done(door.tokens(limit + 1))
    return tokens_page(rows, limit, SystemClock().now_ns())


def revoke_token(config: Path, number: int) -> dict[str, Any]:
    """Let nobody use a token any more."""
    from telemetryx.api.rest.enroll import token_shown
    from telemetryx.clock import SystemClock

    with direct.enrolment(config) as door:
        row = direct.done(door.revoke_token(number, direct.actor()))
    if row is None:
        raise CliError(f"there is no enrolment token {number}", "`telemetryx enroll ls` lists them", Exit.NO)
    return token_shown(row, SystemClock().now_ns())


def agents(config: Path, limit: int, state: str | None, part: str) -> dict[str, Any]:
    """Return enrolled agents, by name, as the API does."""
    from telemetryx.api.rest.enroll import agents_page
    from telemetryx.store.enrolment import EnrolledQuery

    with direct.enrolment(config) as door:
        rows = direct.done(door.agents(EnrolledQuery(limit + 1, state, None, part)))
    return agents_page(rows, limit)


def decide(config: Path, name: str, verb: str) -> dict[str, Any]:
    """Let an agent in that waits (`approve`) or shut it out (`reject`), or shut any out for good (`revoke`)."""
    from telemetryx.api.rest.enroll import agent_shown
    from telemetryx.store.enrolment import EnrolmentRefused

    with direct.enrolment(config) as door:
        work = {"approve": door.approve, "reject": door.reject, "revoke": door.revoke}[verb]
        try:
            found = direct.done(work(name, direct.actor()))
        except EnrolmentRefused as error:
            raise CliError(str(error), error.hint, Exit.REFUSED) from error
    if found is None:
        raise CliError(
            f"no enrolled agent is called {printable(name)!r}", "`telemetryx agents ls` lists them", Exit.NO
        )
    if verb == "approve" and found.state.value != "active":
        why, way_out = found.shut_out()
        raise CliError(f"{why}, and stays so", way_out, Exit.REFUSED)
    return agent_shown(found)
