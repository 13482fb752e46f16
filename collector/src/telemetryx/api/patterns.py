"""What texts of requests must be like, as a pattern for programs and in words for people: who gets one wrong reads the words."""

from collections.abc import Mapping
from typing import Final

from telemetryx.enrolment.name import MARKS
from telemetryx.enrolment.name import PATTERN as AGENT
from telemetryx.store.accounts import NAME, TOKEN_NAME

CANARY: Final = r"^(|[1-9][0-9]{0,4}%?)$"
LEVEL: Final = r"^[A-Za-z0-9_,=:\-. ]*$"

WORDS: Final[Mapping[str, str]] = {
    AGENT: f"it is no agent's name: {MARKS}",
    NAME: "it is no account's name: small letters, digits and . _ - @ only, a letter or digit first, at most 64",
    TOKEN_NAME: "it is no token's name: letters, digits, spaces and . _ - @ only, a letter or digit first, at most 64",
    CANARY: "it is a number of agents like `3`, or a share of them like `10%`",
    LEVEL: "it is a log level like `debug`, or one for each part like `info,uplink=trace`",
}
