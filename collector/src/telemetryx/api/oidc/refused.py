"""Why somebody couldn't sign in at a provider. `why` is a word that the console turns into a sentence; the message is for the log."""

from typing import Literal

Why = Literal["unreachable", "refused", "expired", "token", "role", "name", "wait"]


class SignInRefused(Exception):  # noqa: N818 - a refusal is named after its cause
    """Somebody isn't let in."""

    def __init__(self, why: Why, message: str) -> None:
        """Keep the cause, and what only we are told."""
        super().__init__(message)
        self.why: Why = why
