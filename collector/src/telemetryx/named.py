"""The files that a configuration names: that each is there, can be read by whoever asks, and holds what is meant to be in it.

The collector finds most of that out when it starts, and some only when a file is first needed, as a webhook's token. `telemetryx
config check` looks beforehand, by what reads them then, and names all that is wrong at once.
"""

import ssl
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from telemetryx import doors
from telemetryx.certificate import Certificate, CertificateError
from telemetryx.config import Settings
from telemetryx.config.paths import paths
from telemetryx.errors import GatewayRefused, unread
from telemetryx.gateway import tokens
from telemetryx.standing import StartError, rules_of, tokens_of
from telemetryx.traces.export import Target, TargetError

_REFUSALS: Final = (StartError, GatewayRefused, CertificateError, TargetError, doors.DoorError)


def problems(settings: Settings) -> list[str]:
    """Say what is wrong with them, each with the table and key that names it."""
    found: list[str] = []
    unusable: set[Path] = set()
    for at, key, path in paths(settings):
        # What is wrong with the files of rules, they say themselves.
        if not key.endswith("_file"):
            continue
        where = f"[{at}] {key}"
        if (why := _unusable(path, where)) is not None:
            found.append(f"{where}: {path} {why}")
            unusable.add(path)
    for files, read in _contents(settings):
        if unusable.isdisjoint(files):
            try:
                read()
            except _REFUSALS as error:
                found.append(str(error))
    return found


def _unusable(path: Path, where: str) -> str | None:
    """Say why a file can't be used, whatever is in it; None when it can."""
    try:
        # Before it is opened: a pipe would wait for who writes to it.
        if not stat.S_ISREG(path.stat().st_mode):
            return "is no file"
        with path.open("rb") as file:
            empty = not file.read(1)
        if where.endswith(" ca_file"):
            ssl.create_default_context(cafile=path)
    except ssl.SSLError:
        return "holds no certificate in PEM"
    except OSError as error:
        return f"can't be read: {unread(error)}"
    return "is empty" if empty else None


def _contents(settings: Settings) -> Iterator[tuple[tuple[Path | None, ...], Callable[[], object]]]:
    """Return what reads files as the collector does, with these files."""
    api, gateway, tracing = settings.api, settings.gateway, settings.tracing
    yield (), lambda: rules_of(settings)
    yield (api.token_file,), lambda: tokens_of(api)
    if (agents := gateway.token_file) is not None:
        yield (agents,), lambda: tokens.read(agents)
    if (secret := api.oidc.client_secret_file) is not None:
        yield (secret,), lambda: doors.provider_secret(secret)
    target = Target("", tracing.token_file, tracing.headers_file)
    yield (tracing.token_file, tracing.headers_file), target.headers
    for table, cert_file, key_file in (
        ("api", api.tls_cert_file, api.tls_key_file),
        ("gateway", gateway.tls_cert_file, gateway.tls_key_file),
        ("gateway.mqtt", gateway.mqtt.cert_file, gateway.mqtt.key_file),
    ):
        if cert_file is not None and key_file is not None:
            yield (cert_file, key_file), _pair(table, cert_file, key_file)


def _pair(table: str, cert_file: Path, key_file: Path) -> Callable[[], object]:
    def read() -> None:
        try:
            Certificate(cert_file, key_file)
        except CertificateError as error:
            raise doors.DoorError(f"[{table}] {error}") from error

    return read
