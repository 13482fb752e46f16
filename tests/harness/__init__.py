"""Starts real collectors and agents on free ports for the tests that look at the whole."""

from tests.harness.processes import Process, free_port, until
from tests.harness.stack import KEEPS_ALL, Agent, Collector, Stack

__all__ = ["KEEPS_ALL", "Agent", "Collector", "Process", "Stack", "free_port", "until"]
