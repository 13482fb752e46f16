"""The ports of demos that start together."""

import socket

from free_ports import free_port
from telemetryx.cli.ports import reserved


def test_two_demos_that_choose_before_either_listens_get_different_ports() -> None:
    """The first gets what it wants, the second another, and the next one may have it again."""
    wanted = {"http": free_port()}
    with reserved(wanted) as first, reserved(wanted) as second:
        assert first == wanted
        assert second["http"] != first["http"]
    with reserved(wanted) as third:
        assert third == wanted


def test_a_port_that_another_program_listens_on_is_not_given() -> None:
    """Another free one is."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        with reserved({"http": taken}) as ports:
            assert ports["http"] != taken
