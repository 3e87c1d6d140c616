"""RunnerSessionService: the scheduler's end of the tether."""

import asyncio
from typing import TypeAlias

import grpc

from protos.scheduler.v1 import session_pb2 as pb
from protos.scheduler.v1 import session_pb2_grpc as pb_grpc
from services.rpc.shell import caller, next_request, settle
from services.rpc.through import came_through_gateway
from services.scheduler.domain import stream
from services.scheduler.session_driver import SessionDriver
from services.scheduler.sessions import Session, Sessions

# Between the end of a broken stream's messages and its cancellation.
_CANCELLATION_S = 0.5

Context: TypeAlias = "grpc.aio.ServicerContext[pb.ConnectRequest, pb.ConnectResponse]"


class RunnerSessionApi(pb_grpc.RunnerSessionServiceServicer):
    def __init__(self, sessions: Sessions, driver: SessionDriver) -> None:
        self._sessions, self._driver = sessions, driver

    async def Connect(self, requests: object, context: Context) -> None:  # type: ignore[override]
        session = self._sessions.open(caller(), came_through_gateway(context))
        session.served_by = asyncio.current_task()
        reader = asyncio.create_task(self._read(session, context))
        try:
            await session.serve(context.write)
        finally:
            self._sessions.feed(session, stream.Broken())
            await settle(reader)
        if session.refusal is not None:
            raise session.refusal

    async def _read(self, session: Session, context: Context) -> None:
        try:
            while (request := await next_request(context)) is not None:
                rest = self._driver.hear(session, request)
                await session.flush(context.write)
                if rest:
                    await self._driver.carry_out(session, rest)
            # A broken stream ends like this as well, and is cancelled a moment later.
            await asyncio.sleep(_CANCELLATION_S)
            await self._driver.half_closed(session)
        except Exception as error:
            session.refusal = error
            session.hang_up()
