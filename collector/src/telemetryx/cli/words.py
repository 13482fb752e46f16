"""Says a collector's refusals in the words of the command line: options for its parameters, commands for its endpoints."""

import re
from collections.abc import Mapping
from typing import Final

#: Parameters and fields that aren't called as the option is.
_OPTIONS: Final[Mapping[str, str]] = {
    "start": "--since",
    "end": "--until",
    "starts": "--from",
    "ends": "--until",
    "duration": "--for",
    "max_points": "--points",
    "shift_ns": "--shift",
    "order": "--desc",
    "id": "ID",
    "match": "the selector",
    "format": "--format",
}
#: Where an endpoint's command has its own word.
_OF_PATH: Final[Mapping[str, Mapping[str, str]]] = {
    "/export": {"match": "--match"},
    "/events": {"q": "the text"},
    "/silences": {"match": "MATCH"},
    "/configs": {"toml": "the configuration", "match": "--match"},
}
_KNOWN: Final = frozenset(
    {*_OPTIONS, "agg", "agent", "author", "comment", "filter", "level", "limit", "severity", "site", "sort"}
    | {"source", "state", "step"}
)
_LISTS: Final[Mapping[str, str]] = {
    "GET /api/v1/silences": "`telemetryx silence ls`",
    "GET /api/v1/alerts?state=all": "`telemetryx alerts --state all`",
    "GET /api/v1/alerts": "`telemetryx alerts`",
    "GET /api/v1/configs lists": "`telemetryx agents config list` lists",
    "GET /api/v1/agents": "`telemetryx agents`",
    "GET /api/v1/enroll/agents": "`telemetryx agents ls`",
    "GET /api/v1/enroll/tokens": "`telemetryx enroll ls`",
    "GET /api/v1/quarantine": "`telemetryx quarantine ls`",
    "GET /api/v1/users and /api/v1/tokens list": "`telemetryx user ls` and `telemetryx token ls` list",
    "GET /api/v1/users": "`telemetryx user ls`",
    "GET /openapi.json lists every endpoint": "is this a TelemetryX collector of this version?",
}
_SENTENCES: Final[Mapping[str, str]] = {
    "start is not before end": "--since is not before --until",
    "give a start that lies before the end": "give a --since that lies before",
    "step=auto": "--step auto",
    "agg=raw": "--agg raw",
}
_NAMED = re.compile(r"(?:parameter|field) '(\w+)'")
_TICKED = re.compile(r"`(\w+)`")
#: What a body looks like.
_BODY = re.compile(r'^e\.g\. \{"match".*')
_SILENCE: Final = "e.g. telemetryx silence add 'hot{site=\"north\"}' --for 2h"


def told(path: str, text: str) -> str:
    """Translate a message or a hint about a path under /api/v1."""
    own = next((words for prefix, words in _OF_PATH.items() if path.startswith(prefix)), {})

    def option(name: str) -> str:
        return own.get(name) or _OPTIONS.get(name) or f"--{name.replace('_', '-')}"

    for theirs, ours in (*_LISTS.items(), *_SENTENCES.items()):
        text = text.replace(theirs, ours)
    text = _BODY.sub(_SILENCE, text)
    text = _NAMED.sub(lambda found: option(found[1]), text)
    return _TICKED.sub(lambda found: option(found[1]) if found[1] in _KNOWN else found[0], text)
