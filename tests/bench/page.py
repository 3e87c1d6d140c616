"""How soon the page is there with a thousand runners and ten thousand trainings, and how soon it shows an event."""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Set
from pathlib import Path
from typing import Any

import grpc

from deploy.local.home import Home
from deploy.local.page import page_address
from deploy.local.platform import Platform
from protos.eventlog.v1 import eventlog_pb2
from protos.eventlog.v1.eventlog_pb2_grpc import EventLogServiceStub
from protos.scheduler.v1 import runner_pb2
from protos.scheduler.v1.runner_pb2_grpc import RunnerServiceStub
from services.gateway.files import INDEX
from tests.support import chromium
from tests.support.browser import browser
from tests.support.eventually import eventually
from tests.support.gateway import gateway_before
from tests.support.grpc_web import WebCall
from tests.support.loop_thread import LoopThread
from tests.support.page_scale import fill
from tests.support.servers import bearer

_LOADS = 9
_EVENTS = 100
_PAUSE_S = 0.1
_TIMEOUT_S = 60

_EMPTY = "<!doctype html><title>empty</title><ol><li>here</li></ol>"
# When the first row was on the screen, in milliseconds since the navigation began.
_FIRST_ROW = """
    window.firstRow = new Promise((seen) => {
        const look = () => document.querySelector("li") ? seen(performance.now()) : requestAnimationFrame(look);
        look();
    });
"""
# When each new row came onto the screen, by name, in Unix milliseconds. New ones are sorted before all others.
_SEEN = """
    window.seen = {};
    new MutationObserver(() => {
        const row = document.querySelector("li a");
        const name = row?.textContent ?? "";
        if (name in window.seen) return;
        window.seen[name] = 0;
        requestAnimationFrame(() => { window.seen[name] = performance.timeOrigin + performance.now(); });
    }).observe(document, {subtree: true, childList: true, characterData: true});
"""

Report = Callable[[str, float], None]


def run(report: Report, folder: Path) -> None:
    """page_load_ms and watch_to_pixel_ms; beside them an empty page, and the same events on a bare stream."""
    if chromium.find() is None:
        print("there is no Chromium, so the page is not measured; on Debian, as root: apt-get install chromium")
        return
    _measure_empty(report, folder)
    asyncio.run(_measure(report, folder))


def _measure_empty(report: Report, folder: Path) -> None:
    """raw_page_load_ms: a page of one line, from the same gateway into the same browser."""
    page = folder / "empty"
    page.mkdir()
    (page / INDEX).write_text(_EMPTY)
    loop = LoopThread()
    try:
        with gateway_before(loop, folder, page) as gateway:
            took_ms = asyncio.run(_loads(page_address(gateway.address), ""))
    finally:
        loop.close()
    report("raw_page_load_ms", _percentile(took_ms, 50))


async def _measure(report: Report, folder: Path) -> None:
    async with Platform(Home(folder / "platform")) as platform:
        await fill(platform.endpoints["scheduler"], platform.token)
        took_ms = await _loads(page_address(platform.endpoints["gateway"]) + "runners", platform.token)
        report("page_load_ms", _percentile(took_ms, 50))
        await _watch(report, platform)


async def _loads(address: str, token: str) -> list[float]:
    """Milliseconds from each navigation to the first row; each with an empty cache."""
    took_ms = []
    async with browser() as new_context:
        for _ in range(_LOADS):
            context = await new_context()
            page = await _opened(context, address, token, _FIRST_ROW)
            took_ms.append(float(await page.evaluate("window.firstRow")))
            await context.close()
    return took_ms


async def _opened(context: Any, address: str, token: str, script: str) -> Any:
    signed_in = f"if (location.protocol === 'http:') sessionStorage.setItem('tether.token', {json.dumps(token)});"
    await context.add_init_script((signed_in if token else "") + script)
    page = await context.new_page()
    await page.goto(address)
    return page


async def _watch(report: Report, platform: Platform) -> None:
    """watch_to_pixel_p50_ms and watch_to_pixel_ms (p99): from the append of an event to the row that it makes."""
    names = [f"00-{number:03}" for number in range(_EVENTS)]
    told: dict[str, float] = {}
    listening = threading.Thread(target=_listen, args=(platform, frozenset(names), told), daemon=True)
    listening.start()
    async with browser() as new_context:
        page = await _opened(
            await new_context(), page_address(platform.endpoints["gateway"]) + "runners", platform.token, _SEEN
        )
        await page.locator("li").first.wait_for()
        appended = await _append(platform, list(reversed(names)))

        async def all_seen() -> dict[str, float]:
            seen: dict[str, float] = await page.evaluate("window.seen")
            return seen if all(seen.get(name) for name in names) else {}

        seen = await eventually(all_seen, _TIMEOUT_S, "the last row")
    listening.join(_TIMEOUT_S)
    for name, at_ms in (("watch_to_pixel", seen), ("raw_watch_stream", told)):
        took_ms = [at_ms[one] - appended[one] for one in names]
        report(f"{name}_p50_ms", _percentile(took_ms, 50))
        report(f"{name}_ms", _percentile(took_ms, 99))


async def _append(platform: Platform, names: list[str]) -> dict[str, float]:
    """Makes runners one after the other; when the log has recorded each, Unix milliseconds."""
    auth = bearer(platform.token)
    ids: dict[str, str] = {}
    async with (
        grpc.aio.insecure_channel(platform.endpoints["scheduler"]) as scheduler,
        grpc.aio.insecure_channel(platform.endpoints["eventlog"]) as log,
    ):
        stub = RunnerServiceStub(scheduler)
        for name in names:
            request = runner_pb2.CreateRunnerRequest(name=name)
            made = await stub.CreateRunner(request, metadata=auth, timeout=_TIMEOUT_S)
            ids[made.runner.runner_id] = name
            await asyncio.sleep(_PAUSE_S)
        wanted = eventlog_pb2.ReadEventsRequest(filter=eventlog_pb2.EventFilter(types=["RunnerRegistered"]))
        return {
            ids[record.stream_id]: record.recorded_at_us / 1000
            async for page in EventLogServiceStub(log).ReadEvents(wanted, metadata=auth, timeout=_TIMEOUT_S)
            for record in page.events
            if record.stream_id in ids
        }


def _listen(platform: Platform, names: Set[str], told: dict[str, float]) -> None:
    """When a bare gRPC-Web stream through the gateway has told of each of these runners, Unix milliseconds."""
    call = WebCall(
        platform.endpoints["gateway"],
        "/tether.scheduler.v1.RunnerService/WatchRunners",
        runner_pb2.WatchRunnersRequest(),
        platform.token,
    )
    for message in call.frames():
        now_ms = time.time_ns() / 1e6
        for runner in runner_pb2.WatchRunnersResponse.FromString(message).runners:
            told.setdefault(runner.name, now_ms)
        if names <= told.keys():
            call.close()
            return


def _percentile(values: list[float], percent: int) -> float:
    return sorted(values)[min(len(values) * percent // 100, len(values) - 1)]
