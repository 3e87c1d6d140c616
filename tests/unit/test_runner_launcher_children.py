"""A launcher that has begun anew collects the keepers of the launcher before it."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner_agent.launcher import _collected
from tests.support.eventually import eventually


@pytest.fixture
def keeper() -> Iterator["subprocess.Popen[bytes]"]:
    keeper = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    yield keeper
    keeper.kill()
    keeper.wait()


async def test_an_inherited_keeper_is_collected_once_it_has_ended_and_not_before(
    keeper: "subprocess.Popen[bytes]",
) -> None:
    assert not _collected(keeper.pid)
    assert keeper.stdin is not None
    keeper.stdin.close()
    await eventually(lambda: _collected(keeper.pid))
    assert not Path(f"/proc/{keeper.pid}").exists()
    assert _collected(keeper.pid), "a pid that is no child is nothing to wait for"
