"""WatchUsage: who watches which workspace's minutes, and when they change."""

import asyncio
from collections.abc import AsyncIterator, Sequence

from protos.eventlog.v1.eventlog_pb2 import EventRecord
from protos.events.v1.workspace_pb2 import QuotaSet
from protos.quota.v1 import quota_pb2 as pb
from services.quota.domain.ledger import MINUTES_EVENTS
from services.quota.usage import UsageAnswers
from services.rpc.credentials import Principal
from services.rpc.errors import InvalidField
from services.rpc.shell import KEEP_ALIVE_S, Shell
from services.rpc.watch import Hub

_DEFAULT_INTERVAL_MS = 1000
_MIN_INTERVAL_MS = 200
# Changes of one moment are told together; a busy workspace has hundreds a second.
_GATHER_S = 0.1

_CHANGING = frozenset((*MINUTES_EVENTS, QuotaSet.DESCRIPTOR.name))
_USAGE = "usage"


class UsageWatches:
    """Tell it of every event with `told`."""

    def __init__(self, answers: UsageAnswers, shell: Shell) -> None:
        self._answers, self._shell, self._hub = answers, shell, Hub()
        # What is answered after a change knows everything up to here.
        self._position = 0

    async def told(self, records: Sequence[EventRecord]) -> None:
        """A listener of the kernel."""
        self._position = records[-1].position
        for workspace_id in {record.workspace_id for record in records if record.type in _CHANGING}:
            self._hub.touch(workspace_id, _USAGE)

    async def watch(
        self, workspace_id: str, principal: Principal, request: pb.WatchUsageRequest
    ) -> AsyncIterator[pb.WatchUsageResponse]:
        """The usage of the current month: at once, after every change, and each interval while trainings run.

        Level-triggered: what changes while one answer is being made is told by the next one.
        """
        interval_s = _interval_ms(request.interval_ms) / 1000
        with self._hub.watch(workspace_id) as watcher:
            usage = await self._answers.answer(workspace_id, pb.GetUsageRequest())
            yield pb.WatchUsageResponse(usage=usage)
            while True:
                within_s = min(interval_s, KEEP_ALIVE_S) if usage.burn_milliminutes_per_hour else KEEP_ALIVE_S
                changed = await watcher.changed(self._shell, principal, within_s)
                if changed:
                    await asyncio.sleep(_GATHER_S)
                elif not usage.running_jobs and usage.period == self._answers.month():
                    yield pb.WatchUsageResponse()
                    continue
                # A change that is told has been told to everyone, and so the read model is about to hold it.
                usage = await self._answers.answer(workspace_id, pb.GetUsageRequest(min_position=self._position))
                yield pb.WatchUsageResponse(usage=usage)


def _interval_ms(interval_ms: int) -> int:
    if interval_ms and interval_ms < _MIN_INTERVAL_MS:
        rule = f"it must be at least {_MIN_INTERVAL_MS} ms; 0 means {_DEFAULT_INTERVAL_MS}"
        raise InvalidField("interval_ms", interval_ms, rule)
    return interval_ms or _DEFAULT_INTERVAL_MS
