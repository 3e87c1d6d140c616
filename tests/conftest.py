"""Fixtures and hooks for all tests."""

from tests.support.needs import pytest_runtest_setup, pytest_terminal_summary
from tests.support.platform import database, nats, own_nats, own_platform, platform, postgres, shared_loop

__all__ = [
    "database",
    "nats",
    "own_nats",
    "own_platform",
    "platform",
    "postgres",
    "pytest_runtest_setup",
    "pytest_terminal_summary",
    "shared_loop",
]
