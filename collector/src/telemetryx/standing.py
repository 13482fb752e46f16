"""Which configuration is in force, and what must be right about one or the collector doesn't start: checked before anything ends for it."""

import asyncio
import contextlib
import signal
from collections.abc import Callable

import structlog

from telemetryx.api import auth
from telemetryx.config import ConfigError, Listen, Settings
from telemetryx.rules.load import RulesError, RuleSet, load_rules
from telemetryx.service import Service

log = structlog.get_logger(__name__)


class StartError(Exception):
    """The collector can't start; the message says why and what to do."""

    hint: str = "`telemetryx config check` and `telemetryx config reference` help"


class Standing:
    """Which configuration is in force, and what came of the last SIGHUP.

    A SIGHUP may come at any moment, also while the collector begins anew for the one before it: `settings` is what it shall have,
    `_before` what it had when that was read first, where it doesn't have it yet.
    """

    def __init__(self, settings: Settings, again: Callable[[], Settings] | None, service: Service) -> None:
        """Begin with these settings; `again` reads others."""
        self.settings = settings
        self.service = service
        self.changed = asyncio.Event()
        self._again = again
        self._before: Settings | None = None
        self._refused = ""

    def listen(self) -> None:
        """Read anew at SIGHUP, from here on. Without this the signal would end the process."""
        with contextlib.suppress(ValueError, RuntimeError, NotImplementedError):
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self.reload)

    def reload(self) -> None:
        """Read the file, and what it names that must be right; take it, or say why not."""
        if self._again is None:
            log.warning("config_not_read", reason="this process takes no new configuration: restart it")
            return
        self.service.reloading()
        try:
            settings = self._again()
            usable(settings)
        except (ConfigError, StartError) as error:
            self._refuse(str(error))
            self.service.ready(self.trouble())
        else:
            if self._before is None:
                self._before = self.settings
            self.settings = settings
            self.changed.set()

    def started(self, settings: Settings) -> bool:
        """Hear that these settings are in force. False when others came meanwhile, which are next."""
        if self.settings is not settings:
            self._before = settings
            return False
        if self._before is not None:
            log.info("config_taken")
            self._refused = ""
        self._before = None
        self.changed.clear()
        return True

    def back(self, tried: Settings, why: str) -> bool:
        """Return to the settings of before, as those tried can't be started with. False when there are none.

        Where others came meanwhile, those are next.
        """
        if self._before is None:
            return False
        if self.settings is tried:
            self.settings, self._before = self._before, None
        self._refuse(why)
        return True

    def trouble(self) -> str:
        """Say what was refused, as the beginning of a line; "" when nothing was."""
        return f"CONFIG NOT TAKEN, the one before stays in force: {self._refused}, " if self._refused else ""

    def _refuse(self, why: str) -> None:
        self._refused = why
        log.error("config_refused", reason=why, hint="the one before stays in force")


def usable(settings: Settings) -> None:
    """Check, before anything ends for it, what a configuration names. Raises StartError."""
    rules_of(settings)
    tokens_of(settings.api)


def rules_of(settings: Settings) -> RuleSet:
    """Load the rules. Raises StartError."""
    try:
        return load_rules(
            [settings.within(path) for path in settings.rules.files], defaults=settings.rules.defaults
        )
    except RulesError as error:
        raise StartError(f"the rules can't be used:\n{error}") from error


def tokens_of(listen: Listen) -> tuple[bytes, ...]:
    """Read the API's tokens. Raises StartError."""
    if listen.token_file is None:
        return ()
    try:
        return auth.read_tokens(listen.token_file)
    except auth.TokenFileError as error:
        raise StartError(f"[api] {error}") from error
