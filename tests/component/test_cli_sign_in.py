"""Opening the page, lists of jobs and the newest events through `tether`."""

import asyncio
import json
import stat
import webbrowser
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from protos.events.v1.workspace_pb2 import TOKEN_KIND_SIGN_IN
from services.cli import open_page
from services.cli.__main__ import run
from tests.support.cli import Cli, Result, served
from tests.support.control import Control
from tests.support.platform import DatabaseUrls

Tether = Callable[..., Awaitable[Result]]


@pytest.fixture
def tether(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Tether:
    """The command in a thread of this process: a process each would take the time of the whole test."""
    for name in ("TETHER_SERVER", "TETHER_TOKEN", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TETHER_HOME", str(tmp_path))
    monkeypatch.setenv("NO_COLOR", "1")

    async def call(*arguments: str) -> Result:
        capsys.readouterr()
        code = await asyncio.to_thread(run, arguments)
        said = capsys.readouterr()
        # The servers of the test log into the same stdout.
        told = [line for line in said.out.splitlines() if "[info " not in line]
        return Result(code, "\n".join(told), said.err)

    return call


def with_gateway(home: Path, control: Control, known: Cli) -> None:
    Cli(home, control.token, {**known.endpoints, "gateway": "127.0.0.1:27700"})


async def test_the_printed_address_signs_in_once_and_the_list_of_tokens_shows_it(
    database: DatabaseUrls, tmp_path: Path, tether: Tether, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served(database, tmp_path) as (control, known):
        assert (await tether("open")).error == (
            "no page is known of this platform: it runs without a gateway; `tether status` says why"
        )
        with_gateway(tmp_path, control, known)
        opened = await tether("open", "--print")
        assert (opened.code, opened.err) == (0, "")
        page, _, code = opened.out.rstrip("\n").partition("/#code=")
        assert page == "http://localhost:27700"
        signed = await control.sign_in(code)
        made = (await tether("open", "--json")).json
        assert made["address"].startswith("http://localhost:27700/#code=tc_")
        # A machine without a display: nothing is started, and the way is told.
        plain = await tether("open")
        assert "#code=tc_" in plain.out
        assert "in a browser on this machine" in plain.err

        # A browser gets a file that leads it there, and no code in its command line.
        read: list[tuple[str, int, str]] = []

        def browser(address: str) -> bool:
            file = Path(unquote(urlsplit(address).path))
            read.append((address, stat.S_IMODE(file.stat().st_mode), file.read_text()))
            return True

        with monkeypatch.context() as there:
            there.setenv("DISPLAY", ":0")
            there.setenv("HOME", str(tmp_path))
            there.setattr(webbrowser, "open", browser)
            there.setattr(open_page, "_KEPT_S", 0.0)
            shown = await tether("open")
        assert "Your browser opens it." in shown.err
        ((address, mode, text),) = read
        assert address.startswith("file:///")
        assert "tc_" not in address
        assert mode == 0o600
        assert f"0;url={shown.out.strip()}" in text
        assert not list(tmp_path.glob("*.html")), "it is gone"

        listed = await tether("tokens", "list")
        row = next(line for line in listed.out.splitlines() if signed.token.token_id in line)
        assert "first admin (page)" in row
        assert "sign-in" in row
        assert len(listed.out.splitlines()) == 3, "heading, token, sign-in: codes are none"
        kinds = [one["kind"] for one in (await tether("tokens", "list", "--json")).json["tokens"]]
        assert kinds == ["TOKEN_KIND_UNSPECIFIED", "TOKEN_KIND_SIGN_IN"]
        assert signed.token.kind == TOKEN_KIND_SIGN_IN
        monkeypatch.setenv("TETHER_TOKEN", signed.secret)
        me = await tether("whoami")
        assert "first admin (page)" in me.out
        assert "valid until" in me.out


async def test_jobs_are_listed_by_what_they_are_made_of_and_who_made_them(
    database: DatabaseUrls, tmp_path: Path, tether: Tether
) -> None:
    async with served(database, tmp_path) as (control, _):
        await control.dataset()
        await control.dataset("scans")
        await control.create_runner()
        await control.submit(runner="", queue=True, name="Baseline")
        await control.submit(runner="", queue=True, name="other", dataset_id="scans")

        async def names(*options: str) -> list[str]:
            found: Any = json.loads((await tether("jobs", "list", "--json", *options)).out)
            return [job["name"] for job in found["jobs"]]

        assert await names("--by", "me") == ["other", "Baseline"]
        assert await names("--dataset", "scans", "--architecture", "resnet-tiny") == ["other"]
        assert await names("--search", "BASE", "--state", "queued") == ["Baseline"]
        assert "No job fits." in (await tether("jobs", "list", "--runner", "box")).out
        assert (await tether("jobs", "list", "--workflow", "w")).error == (
            "there is no workflow 'w' in this workspace; see `tether workflows list`"
        )
        assert (await tether("jobs", "list", "--by", "ann")).error == (
            "--by is 'ann', but it must be token:<id>, as in a job's submitted_by"
        )
        newest = (await tether("events", "--newest", "1", "--type", "JobSubmitted")).out
        assert "“other”" in newest
        assert len(newest.splitlines()) == 1
