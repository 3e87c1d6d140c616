"""Attempts that wait for a checkpoint from the platform before they are adopted."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from protos.scheduler.v1 import session_pb2
from runner_agent import inputs
from runner_agent.attempts import INPUTS, AttemptFolder

# Fetches a file into a folder; raises InputFailed and OSError.
Fetch = Callable[[inputs.Input, Path], Awaitable[Path]]


class Fetching:
    """`then` is called once for each attempt that was held up, with a sentence where its checkpoint cannot be had."""

    def __init__(self, attempts: Path, fetch: Fetch, then: Callable[[session_pb2.Assignment, str], None]) -> None:
        self._attempts, self._fetch, self._then = attempts, fetch, then
        self._tasks: dict[str, asyncio.Task[str]] = {}
        self._stopped: set[str] = set()

    def holds_up(self, folder: AttemptFolder, assignment: session_pb2.Assignment, group: asyncio.TaskGroup) -> bool:
        """Whether the attempt waits. One that is to be stopped waits no longer: it ends without having started."""
        attempt_id = folder.attempt_id
        if (task := self._tasks.get(attempt_id)) is not None:
            if assignment.stop_reason:
                self._stopped.add(attempt_id)
                task.cancel()
            return True
        wanted = inputs.missing(self._attempts, folder.path, assignment.spec)
        if wanted is None or assignment.stop_reason or folder.started():
            return False
        task = self._tasks[attempt_id] = group.create_task(self._get(wanted, folder.path / INPUTS))
        task.add_done_callback(partial(self._over, assignment))
        return True

    async def _get(self, wanted: inputs.Input, folder: Path) -> str:
        try:
            await self._fetch(wanted, folder)
        except inputs.InputFailed as error:
            return str(error)
        except OSError as error:
            return f"the checkpoint {wanted.name} cannot be written on the box: {error.strerror or error}"
        return ""

    def _over(self, assignment: session_pb2.Assignment, task: "asyncio.Task[str]") -> None:
        attempt_id = assignment.attempt_id
        del self._tasks[attempt_id]
        if not task.cancelled():
            self._then(assignment, task.result())
        elif attempt_id in self._stopped:
            self._stopped.discard(attempt_id)
            self._then(assignment, "")
