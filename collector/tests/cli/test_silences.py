"""`telemetryx silence end`: what a collector answers about a silence that had ended."""

from typing import Any, cast

import pytest

from telemetryx.cli import listing, silences
from telemetryx.cli.client import Client
from telemetryx.cli.errors import CliError


class _Far:
    """A collector elsewhere."""

    def __init__(self, *, before: bool) -> None:
        self._before = before

    def send(self, method: str, path: str) -> dict[str, Any]:
        """Answer as the API does."""
        assert (method, path) == ("DELETE", "/silences/3")
        row = {"id": 3, "match": "hot", "state": "ended", "ends_ns": 1_772_359_200_000_000_000}
        return {**row, "ended_before": self._before}


@pytest.mark.parametrize(
    ("before", "words"),
    [
        (False, "silence 3: hot, ended, until 2026-03-01T10:00:00Z"),
        (True, "silence 3 had ended already, at 2026-03-01T10:00:00Z: nothing changes"),
    ],
)
def test_ending_a_silence_twice_is_said(
    *, before: bool, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second time nothing changes."""
    monkeypatch.setattr(silences, "client", lambda *_: _Far(before=before))
    silences.end(3)
    assert capsys.readouterr().out.strip() == words


@pytest.mark.parametrize(
    ("met", "state", "words"),
    [
        (0, "active", "no open alert meets it now"),
        (1, "active", "1 open alert meets it now: notifications are held back"),
        (2, "pending", "2 open alerts meet it now"),
    ],
)
def test_how_many_alerts_a_new_silence_is_about_is_said(
    met: int, state: str, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A mistyped rule holds nothing back, and nobody would notice."""

    class Far:
        def send(self, method: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
            assert (method, path) == ("POST", "/silences")
            row = {"id": 3, "match": body["match"], "state": state, "ends_ns": 1_772_359_200_000_000_000}
            return {**row, "alerts": met}

    monkeypatch.setattr(silences, "client", lambda *_: Far())
    silences.add('{alertname="pump hot"}', "2h", None, "now", "ana", "")
    assert capsys.readouterr().out.splitlines()[1].startswith(words)


def test_a_rule_of_several_words_is_refused_with_the_form_that_works() -> None:
    """Before anybody is asked."""
    with pytest.raises(CliError) as refused:
        silences.add("pump hot", "2h", None, "now", "ana", "")
    assert '{__name__="pump hot"}' in refused.value.message
    assert '{alertname="pump hot"' in refused.value.hint


@pytest.mark.parametrize(
    ("now", "before", "words"),
    [
        ("bob", None, "alert 7 is taken on by bob"),
        ("bob", "bob", "alert 7 is taken on by bob"),
        ("bob", "ana", "alert 7 is taken on by bob; it was acknowledged by ana before"),
        (None, "ana", "nobody has taken alert 7 on any more; it was acknowledged by ana before"),
    ],
)
def test_whose_alert_is_taken_over_is_said(
    now: str | None, before: str | None, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody's acknowledgement is replaced in silence."""

    class Far:
        def send(self, *_: object) -> dict[str, Any]:
            said = {"acknowledged": now, "before": before}
            return {"id": 7, **{key: name and {"author": name} for key, name in said.items()}}

    listing.acknowledge(cast("Client", Far()), 7, None if now is None else (now, ""), as_json=False)
    assert capsys.readouterr().out.strip() == words
