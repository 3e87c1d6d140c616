"""The whole platform with its real services."""

import json
import signal
import tomllib
from pathlib import Path

import grpc
import pytest

from deploy.local.home import Home
from deploy.local.process import ProcessIdentity
from deploy.local.state import running
from protos.scheduler.v1.access_pb2 import WhoAmIRequest, WhoAmIResponse
from protos.scheduler.v1.access_pb2_grpc import AccessServiceStub
from tests.component.test_local_cli import run
from tests.support.eventually import eventually

pytestmark = pytest.mark.needs_stack


async def who_am_i(home: Home, token: str) -> WhoAmIResponse:
    """What the scheduler that client.toml names says of the token in it."""
    client = tomllib.loads(home.client.read_text())
    async with grpc.aio.insecure_channel(client["endpoints"]["scheduler"]) as channel:
        metadata = [("authorization", f"Bearer {client[token]}")]
        return await AccessServiceStub(channel).WhoAmI(WhoAmIRequest(), metadata=metadata, timeout=5)


def processes(home: Home) -> dict[str, ProcessIdentity]:
    state = running(home.state)
    assert state is not None
    return {process.name: process.identity for process in state.processes if process.identity is not None}


async def all_healthy(home: Home) -> bool:
    code, out, _ = await run("status", "--json", "--data-dir", str(home.root))
    return code == 0 and all(process["healthy"] for process in json.loads(out)["processes"])


async def test_the_first_admin_outlives_every_process_and_a_down_and_up(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    flag = ("--data-dir", str(home.root))
    code, out, err = await run("up", "--detach", *flag)
    assert (code, err) == (0, "")
    assert "Tether is up." in out
    try:
        first = await who_am_i(home, "token")
        assert (first.kind, first.workspace_name) == ("token", "default")
        assert (await who_am_i(home, "operator_token")).kind == "operator"

        before = processes(home)
        for identity in before.values():
            identity.signal(signal.SIGKILL)
        await eventually(lambda: all(processes(home)[name] != before[name] for name in before), 20, "new processes")
        await eventually(lambda: all_healthy(home), 60, "a healthy platform")
        assert await who_am_i(home, "token") == first

        assert (await run("down", *flag))[0] == 0
        assert (await run("up", "--detach", *flag))[0] == 0
        assert await who_am_i(home, "token") == first
    finally:
        left = list(processes(home).values()) if running(home.state) else []
        await run("down", *flag)
    assert left
    assert not [identity for identity in left if identity.alive()]
