"""SIGHUPs that meet each other: the configuration that was read last is the one in force at the end, or why not is said."""

from collections.abc import Iterator

from telemetryx import config
from telemetryx.config import Settings
from telemetryx.service import Service
from telemetryx.standing import Standing


def made(name: str) -> Settings:
    """Make a configuration that can be told from others."""
    return config.parse(f'[collector]\ndata_dir = "/tmp/{name}"\n', name)


def standing(first: Settings, *others: Settings) -> Standing:
    """Begin with one configuration; each reload reads the next."""
    read: Iterator[Settings] = iter(others)
    return Standing(first, lambda: next(read), Service({}))


def test_one_that_comes_while_another_is_started_with_is_next() -> None:
    """What is started with isn't told as the one that was asked for last."""
    one, two, three = made("one"), made("two"), made("three")
    held = standing(one, two, three)
    assert held.started(one)
    held.reload()
    held.reload()
    assert not held.started(two)
    assert held.changed.is_set()
    assert held.settings is three
    assert held.started(three)
    assert not held.changed.is_set()
    assert held.trouble() == ""


def test_where_the_one_between_cannot_be_started_with_the_last_is_tried_and_else_the_first_goes_on() -> None:
    """Of those that fail none is returned to."""
    one, two, three = made("one"), made("two"), made("three")
    held = standing(one, two, three)
    held.started(one)
    held.reload()
    held.reload()
    assert held.back(two, "its port is taken")
    assert held.settings is three
    assert held.back(three, "its port is taken too")
    assert held.settings is one
    assert held.started(one)
    assert "taken too" in held.trouble()
    assert not held.back(one, "nothing is left")


def test_one_that_comes_during_the_first_start_is_next() -> None:
    """The signal doesn't end the process then, and nothing that it asked for is lost."""
    one, two = made("one"), made("two")
    held = standing(one, two)
    held.reload()
    assert not held.started(one)
    assert held.settings is two
    assert held.started(two)
