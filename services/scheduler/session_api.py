"""RunnerSessionService: the scheduler's end of the tether."""

import asyncio
from collections.abc import AsyncIterator
from typing import TypeAlias

import grpc
import structlog

from protos.scheduler.v1 import session_pb2 as pb
from protos.scheduler.v1 import session_pb2_grpc as pb_grpc
from services.clock import Clock
from services.rpc.errors import InvalidField
from services.rpc.shell import caller, settle
from services.scheduler.actions import Actions
from services.scheduler.directives import Directives
from services.scheduler.domain.refusals import StaleReport
from services.scheduler.lease import Lease
from services.scheduler.sessions import Session, Sessions
from services.scheduler.store import Store

_log = structlog.get_logger()

HEARTBEAT_INTERVAL_MS = 5_000
_HELLO_TIMEOUT_S = 10
_FLUSH_S = 1.0
_MAX_INSTALLATION_ID = 100

Context: TypeAlias = "grpc.aio.ServicerContext[pb.ConnectRequest, pb.ConnectResponse]"


class RunnerSessionApi(pb_grpc.RunnerSessionServiceServicer):
    def __init__(
        self,
        actions: Actions,
        store: Store,
        sessions: Sessions,
        directives: Directives,
        clock: Clock,
        lease: Lease,
        ingest_address: str,
    ) -> None:
        self._actions, self._store, self._sessions = actions, store, sessions
        self._directives, self._clock, self._lease = directives, clock, lease
        self._ingest_address = ingest_address

    async def Connect(self, requests: AsyncIterator[pb.ConnectRequest], context: Context) -> None:  # type: ignore[override]
        runner_id = caller().subject_id
        hello = await self._hello(requests)
        epoch = await self._actions.connect(runner_id, hello)
        session = Session(runner_id, caller(), epoch, self._clock.now_ms())
        await self._welcome(session)
        self._sessions.add(session)
        await self._directives.state(session)
        _log.info("a runner connected", runner_id=runner_id, epoch=epoch)
        reader = asyncio.create_task(self._read(session, requests))
        writer = asyncio.create_task(self._write(session, context))
        closed = asyncio.create_task(session.closed.wait())
        try:
            await asyncio.wait([reader, writer, closed], return_when=asyncio.FIRST_COMPLETED)
            session.end()
            # The goodbye, if there is one, still gets out to a box that reads.
            await asyncio.wait([writer], timeout=_FLUSH_S)
        finally:
            session.end()
            for task in (reader, writer, closed):
                await settle(task)
        if reader.done() and not reader.cancelled():
            reader.result()

    async def _hello(self, requests: AsyncIterator[pb.ConnectRequest]) -> pb.Hello:
        try:
            async with asyncio.timeout(_HELLO_TIMEOUT_S):
                first = await anext(requests, None)
        except TimeoutError:
            first = None
        if first is None or first.WhichOneof("message") != "hello":
            told = first.WhichOneof("message") if first is not None else "nothing"
            raise InvalidField("message", told or "nothing", "the first message of a session is Hello, within 10 s")
        hello = first.hello
        if not 0 < len(hello.installation_id) <= _MAX_INSTALLATION_ID:
            raise InvalidField("hello.installation_id", hello.installation_id, "it has 1 to 100 characters")
        if not hello.inventory.gpus:
            raise InvalidField(
                "hello.inventory.gpus", "none", "a runner has at least one GPU; see `tether-runner install`"
            )
        return hello

    async def _welcome(self, session: Session) -> None:
        runner = await self._store.runner(session.runner_id)
        assert runner is not None  # it has just connected
        session.send(
            pb.ConnectResponse(
                welcome=pb.Welcome(
                    runner_id=runner.runner_id,
                    runner_name=runner.name,
                    workspace_id=runner.workspace_id,
                    epoch=session.epoch,
                    heartbeat_interval_ms=HEARTBEAT_INTERVAL_MS,
                    platform_at_ms=self._clock.now_ms(),
                    ingest_address=self._ingest_address,
                )
            )
        )

    async def _write(self, session: Session, context: Context) -> None:
        while (message := await session.outgoing.get()) is not None:
            await context.write(message)

    async def _read(self, session: Session, requests: AsyncIterator[pb.ConnectRequest]) -> None:
        async for request in requests:
            if session.closed.is_set():
                # An older session has nothing to say any more: its reports come again through the newer one.
                return
            if self._lease.valid:
                session.heard_at_ms = self._clock.now_ms()
            match request.WhichOneof("message"):
                case "heartbeat" if not self._lease.valid:
                    # Another process may call this session lost by now: what it does not hear must not be promised.
                    continue
                case "heartbeat":
                    ack = pb.HeartbeatAck(sequence=request.heartbeat.sequence, platform_at_ms=session.heard_at_ms)
                    session.send(pb.ConnectResponse(heartbeat_ack=ack))
                case "report":
                    await self._report(session, request.report)
                case "suspension":
                    await self._actions.box_suspensions(session.runner_id, request.suspension)
                case "dataset_checked":
                    waiting = session.checks.pop(request.dataset_checked.check_id, None)
                    if waiting is not None and not waiting.done():
                        waiting.set_result(request.dataset_checked)
                case other:
                    raise InvalidField("message", other or "unknown", "after Hello a session carries no such message")
        await self._half_closed(session)

    async def _report(self, session: Session, report: pb.Report) -> None:
        ack = pb.ReportAck(attempt_id=report.attempt_id, sequence=report.sequence)
        try:
            await self._actions.report(session.runner_id, report)
        except StaleReport as stale:
            _log.warning("a report is rejected", runner_id=session.runner_id, attempt_id=report.attempt_id[:100])
            ack.rejected = str(stale)
        session.send(pb.ConnectResponse(report_ack=ack))

    async def _half_closed(self, session: Session) -> None:
        """An agent that closes its stream goes on purpose: without a training there is nothing to wait for."""
        runner = await self._store.runner(session.runner_id)
        if runner is not None and not runner.attempt_id and self._sessions.of(session.runner_id) is session:
            self._sessions.remove(session)
            reason = "the agent closed the session"
            await self._actions.disconnect(session.runner_id, session.epoch, session.heard_at_ms, reason)
