"""The whole platform with its real services."""

import asyncio
import http.client
import json
import re
import signal
import tomllib
from pathlib import Path

import grpc
import pytest

from deploy.local.home import Home
from deploy.local.process import ProcessIdentity
from deploy.local.state import running
from protos.scheduler.v1.access_pb2 import SignInRequest, SignInResponse, WhoAmIRequest, WhoAmIResponse
from protos.scheduler.v1.access_pb2_grpc import AccessServiceStub
from tests.component.test_local_cli import run, run_on_a_terminal
from tests.support import grpc_web
from tests.support.eventually import eventually

pytestmark = pytest.mark.needs_stack


async def who_am_i(home: Home, token: str) -> WhoAmIResponse:
    """What the scheduler that client.toml names says of the token in it."""
    client = tomllib.loads(home.client.read_text())
    async with grpc.aio.insecure_channel(client["endpoints"]["scheduler"]) as channel:
        metadata = [("authorization", f"Bearer {client[token]}")]
        answer = await AccessServiceStub(channel).WhoAmI(WhoAmIRequest(), metadata=metadata, timeout=5)
    answer.ClearField("now_ms")
    return answer


def processes(home: Home) -> dict[str, ProcessIdentity]:
    state = running(home.state)
    assert state is not None
    return {process.name: process.identity for process in state.processes if process.identity is not None}


async def page_opens(home: Home, shown: str) -> None:
    """The last line has an address that answers, and a code that signs in; the code is written nowhere."""
    found = re.search(r"^Page: (http://localhost:(\d+)/)#code=(\S+)  ", shown.splitlines()[-1])
    assert found is not None, shown
    address, port, code = found.groups()
    assert json.loads(home.ports.read_text())["gateway"] == int(port)

    def look() -> tuple[int, str]:
        # A page that has not been built says so, with 503.
        connection = http.client.HTTPConnection("localhost", int(port), timeout=10)
        connection.request("GET", "/")
        response = connection.getresponse()
        try:
            return response.status, response.read().decode()
        finally:
            connection.close()

    status, text = await asyncio.to_thread(look)
    assert status in (200, 503), address
    assert "Tether" in text
    request = SignInRequest(code=code)
    signed_in = await asyncio.to_thread(
        grpc_web.call, f"localhost:{port}", "/tether.scheduler.v1.AccessService/SignIn", request
    )
    assert SignInResponse.FromString(*signed_in.messages).secret
    written = [file for file in home.root.rglob("*") if file.is_file() and file.stat().st_size < 32 << 20]
    assert not [file for file in written if code.encode() in file.read_bytes()]


async def all_healthy(home: Home) -> bool:
    code, out, _ = await run("status", "--json", "--data-dir", str(home.root))
    return code == 0 and all(process["healthy"] for process in json.loads(out)["processes"])


async def test_the_first_admin_outlives_every_process_and_a_down_and_up(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    flag = ("--data-dir", str(home.root))
    code, out = await run_on_a_terminal("up", "--detach", *flag)
    assert code == 0, out
    assert "Tether is up." in out
    try:
        await page_opens(home, out)
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
        code, out, err = await run("up", "--detach", *flag)
        assert (code, err) == (0, "")
        assert "`tether open` signs you in" in out
        assert "#code=" not in out, "what is no terminal may be a log"
        assert await who_am_i(home, "token") == first
    finally:
        left = list(processes(home).values()) if running(home.state) else []
        await run("down", *flag)
    assert left
    assert not [identity for identity in left if identity.alive()]
