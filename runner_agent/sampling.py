"""Samples the box while it trains, into the spool of what it trains."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping

import structlog

from runner_agent import clock
from runner_agent.attempts import AttemptFolder
from runner_agent.losses import Loss
from runner_agent.samples import Sampler, SystemSpool
from runner_agent.single_call import SingleCall

INTERVAL_NS = 5_000_000_000
LOOK_INTERVAL_S = 0.25
TIMEOUT_S = 10.0

log = structlog.get_logger()


class Sampling:
    """A sample each 5 s of every attempt that runs, the first one soon after its start.

    A driver that hangs holds one thread, and costs the samples of that time.
    """

    def __init__(
        self,
        sampler: Sampler,
        running: Callable[[], Mapping[str, str]],
        folder_of: Callable[[str], AttemptFolder],
        lost: Callable[[str, Loss], None],
    ) -> None:
        """`running` gives the attempts that run, each with its pair; `lost` takes a pair and what had no room."""
        self._sampler = sampler
        self._running = running
        self._folder_of = folder_of
        self._lost = lost
        self._calls = SingleCall()
        self._due_ns: dict[str, int] = {}
        self._spools: dict[str, SystemSpool] = {}

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            running = self._running()
            self._due_ns = {attempt_id: self._due_ns.get(attempt_id, 0) for attempt_id in running}
            for attempt_id in [attempt_id for attempt_id in self._spools if attempt_id not in running]:
                self._spools.pop(attempt_id).close()
            for attempt_id, pair in running.items():
                now_ns, due_ns = clock.boottime_ns(), self._due_ns[attempt_id]
                if now_ns >= due_ns:
                    # In step with the last one, unless that was long ago.
                    in_step_ns = due_ns + INTERVAL_NS
                    self._due_ns[attempt_id] = in_step_ns if in_step_ns > now_ns else now_ns + INTERVAL_NS
                    await self._sample(attempt_id, pair)
            await asyncio.sleep(LOOK_INTERVAL_S)

    async def _sample(self, attempt_id: str, pair: str) -> None:
        folder = self._folder_of(attempt_id)
        trainer_pid = int(folder.phase().get("trainer_pid", 0))
        try:
            values = await self._calls.run(lambda: self._sampler.sample(folder.path, trainer_pid), TIMEOUT_S)
        except TimeoutError as error:
            log.error("the GPU driver did not answer", reason=str(error))
            return
        if attempt_id not in self._running():
            return
        now_ns = clock.boottime_ns()
        with contextlib.suppress(OSError):
            # Where the disk has no room for the file itself, the next sample tries again.
            if attempt_id not in self._spools:
                self._spools[attempt_id] = SystemSpool(folder.spool, now_ns)
            lost = self._spools[attempt_id].append(values, clock.wall_ms(), now_ns)
            if lost is not None:
                self._lost(pair, lost)
