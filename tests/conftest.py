"""Fixtures for all tests."""

from tests.support.platform import database, nats, own_nats, own_platform, platform, postgres, shared_loop

__all__ = ["database", "nats", "own_nats", "own_platform", "platform", "postgres", "shared_loop"]
