"""`telemetryx health`: asks the collector of a configuration, on its own machine, how it is; for a container's health check.

The answer carries no secret and the question none, so neither a token nor the name in its certificate is needed: the port of
this machine that the configuration names is whom we mean.
"""

import http.client
import json
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Final

from telemetryx.cli import output
from telemetryx.cli.errors import CliError, Exit
from telemetryx.cli.run import settings_of
from telemetryx.cli.text import printable

if TYPE_CHECKING:
    from telemetryx.config.tables import Api

TIMEOUT_S: Final = 5.0
MAX_ANSWER: Final = 64 << 10
#: Who listens on every address is met on the loopback one.
_ANY: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared with, not bound to


def show(path: Path | None, *, ready: bool, as_json: bool) -> None:
    """Print a sentence and return when all is well; raise CliError when it isn't."""
    api = settings_of(path).api
    where = "/readyz" if ready else "/healthz"
    status, answer = _ask(api, where)
    if status != http.HTTPStatus.OK:
        said = answer.get("error", {})
        reason = str(said.get("message", "")) if isinstance(said, dict) else ""
        raise CliError(printable(reason) or f"{where} answers {status}", "the collector's log says more")
    said = "ready" if ready else "healthy"
    output.said({"state": said, **answer}, said, as_json=as_json)


def _ask(api: "Api", where: str) -> tuple[int, dict[str, object]]:
    host = _ANY.get(api.host, api.host)
    connection: http.client.HTTPConnection
    if not api.secure:
        connection = http.client.HTTPConnection(host, api.port, timeout=TIMEOUT_S)
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        connection = http.client.HTTPSConnection(host, api.port, timeout=TIMEOUT_S, context=context)
    try:
        connection.request("GET", where, headers={"Accept": "application/json"})
        answer = connection.getresponse()
        content = json.loads(answer.read(MAX_ANSWER))
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise CliError(
            f"no collector answers at {api.listen}: {getattr(error, 'strerror', None) or str(error) or type(error).__name__}",
            "is it running with this configuration?",
            Exit.UNREACHABLE,
        ) from error
    finally:
        connection.close()
    return answer.status, content if isinstance(content, dict) else {}
