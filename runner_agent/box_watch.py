"""Watches what suspends the runner on the box itself: its owner's file, its disk, its GPUs, torch, leftovers."""

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

import structlog

from protos.events.v1 import runner_pb2
from runner_agent import clock, suspension
from runner_agent.health import NVML_TIMEOUT_S, DiskSeen, DriverSeen, Health, LeftoverSeen, Seen, TorchSeen, judge
from runner_agent.session_messages import Input, Suspension
from runner_agent.single_call import SingleCall
from runner_agent.threads import in_daemon_thread
from runner_agent.view import owner_name

OWNER_INTERVAL_S = 0.5
DISK_INTERVAL_S = 5.0
DRIVER_INTERVAL_S = 15.0
# torch is looked at again: while it cannot use the GPUs or a training is in the way, and while all is well.
TORCH_RETRY_S = 60.0
TORCH_INTERVAL_S = 3600.0
# Longer than its own limit: what then still has not returned hangs in the driver.
TORCH_TIMEOUT_S = 180.0

BOX_OWNER = runner_pb2.SUSPENSION_OWNER_BOX_OWNER
HEALTH = runner_pb2.SUSPENSION_OWNER_HEALTH

log = structlog.get_logger()


class BoxWatch:
    """Feeds a `Suspension` on every change.

    `ask_driver` and `ask_torch` are absent where the GPUs are simulated; they may hang, and hold one thread then.
    """

    def __init__(
        self,
        path: Path,
        boot_id: str,
        look_at_disk: Callable[[], DiskSeen],
        ask_driver: Callable[[], DriverSeen] | None,
        feed: Callable[[Input], None],
        *,
        ask_torch: Callable[[], TorchSeen | None] | None = None,
        driver_timeout_s: float = NVML_TIMEOUT_S,
        driver_interval_s: float = DRIVER_INTERVAL_S,
        torch_retry_s: float = TORCH_RETRY_S,
    ) -> None:
        self._path = path
        self._boot_id = boot_id
        self._look_at_disk = look_at_disk
        self._ask_driver = ask_driver
        self._feed = feed
        self._driver_timeout_s = driver_timeout_s
        self._driver_interval_s = driver_interval_s
        self._ask_torch = ask_torch
        self._torch_retry_s = torch_retry_s
        # A call to the driver that is under way and over its limit.
        self._late: asyncio.Future[DriverSeen] | None = None
        self._health = Health()
        self._told: dict[int, str | None] = {BOX_OWNER: None, HEALTH: None}

    async def look(self) -> None:
        """Look once at everything, so that the first Hello has it; takes as long as the driver, up to its limit."""
        self._look_at_owner()
        self._look_at_free_disk()
        if self._ask_driver is not None:
            await self._look_at_driver(self._ask_driver)

    def start(self, group: asyncio.TaskGroup) -> None:
        """After a look, go on looking, in the group, until it is cancelled."""
        group.create_task(_each(OWNER_INTERVAL_S, self._look_at_owner))
        group.create_task(_each(DISK_INTERVAL_S, self._look_at_free_disk))
        if self._ask_driver is not None:
            group.create_task(self._watch_driver(self._ask_driver))
        if self._ask_torch is not None:
            group.create_task(self._watch_torch(self._ask_torch))

    def left_over(self, attempt_id: str, processes: str) -> None:
        """Processes of an ended attempt do not die (as words for people), or are gone at last (empty)."""
        self._see(LeftoverSeen(attempt_id, processes))

    def _look_at_owner(self) -> None:
        now = suspension.Now(self._boot_id, clock.boottime_ns(), clock.wall_ms())
        found = suspension.current(self._path, now)
        self._tell(Suspension(BOX_OWNER, found.reason if found is not None else None))

    def _look_at_free_disk(self) -> None:
        try:
            seen = self._look_at_disk()
        except OSError as error:
            log.warning("the disk cannot be looked at", error=error.strerror)
            return
        self._see(seen)

    async def _watch_driver(self, ask: Callable[[], DriverSeen]) -> None:
        """One call at a time: a driver that hangs holds one thread, and no more of them pile up behind it."""
        while True:
            if self._late is not None:
                # An answer this late does not make it fit again; the next one in time does.
                await asyncio.wait([self._late])
                self._late.exception()
                self._late = None
            await asyncio.sleep(self._driver_interval_s)
            await self._look_at_driver(ask)

    async def _look_at_driver(self, ask: Callable[[], DriverSeen]) -> None:
        call = asyncio.ensure_future(in_daemon_thread(ask))
        done, _ = await asyncio.wait([call], timeout=self._driver_timeout_s)
        if not done:
            self._late = call
            self._see(DriverSeen(in_time=False))
        elif (error := call.exception()) is not None:
            self._see(DriverSeen(error=str(error)))
        else:
            self._see(call.result())

    async def _watch_torch(self, ask: Callable[[], TorchSeen | None]) -> None:
        """At once, but not before the first Hello: it takes seconds."""
        calls = SingleCall()
        while True:
            try:
                seen = await calls.run(ask, TORCH_TIMEOUT_S)
            except TimeoutError:
                seen = TorchSeen("torch hangs while it looks at the GPUs; see whether `nvidia-smi` works")
            if seen is not None:
                self._see(seen)
            fit = seen is not None and not seen.problem
            await asyncio.sleep(TORCH_INTERVAL_S if fit else self._torch_retry_s)

    def _see(self, seen: Seen) -> None:
        self._health = judge(self._health, seen)
        self._tell(Suspension(HEALTH, self._health.reason))

    def _tell(self, item: Suspension) -> None:
        if self._told[item.owner] == item.reason:
            return
        self._told[item.owner] = item.reason
        owner = owner_name(item.owner)
        if item.reason is None:
            log.info("suspension lifted", owner=owner)
        else:
            log.warning("suspended", owner=owner, reason=item.reason)
        self._feed(item)


async def _each(interval_s: float, look: Callable[[], None]) -> None:
    while True:
        await asyncio.sleep(interval_s)
        look()


def look_at_disk(folder: Path) -> DiskSeen:
    """Raises OSError."""
    usage = shutil.disk_usage(folder)
    return DiskSeen(usage.total, usage.free)
