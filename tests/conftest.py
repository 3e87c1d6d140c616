"""Fixtures and hooks for all tests."""

from tests.support.needs import pytest_runtest_setup, pytest_terminal_summary
from tests.support.open_folder import open_folder
from tests.support.page_platform import page_platform
from tests.support.page_scene import scene
from tests.support.platform import database, nats, own_nats, own_platform, platform, postgres, shared_loop
from tests.support.side_by_side import pytest_collection_modifyitems, pytest_configure, pytest_xdist_make_scheduler

__all__ = [
    "database",
    "nats",
    "open_folder",
    "own_nats",
    "own_platform",
    "page_platform",
    "platform",
    "postgres",
    "pytest_collection_modifyitems",
    "pytest_configure",
    "pytest_runtest_setup",
    "pytest_terminal_summary",
    "pytest_xdist_make_scheduler",
    "scene",
    "shared_loop",
]
