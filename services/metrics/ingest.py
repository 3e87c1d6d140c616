"""IngestService: what a training reports while it runs."""

import asyncio
from collections.abc import AsyncIterator

import grpc
from google.protobuf.message import DecodeError

from protos.metrics.v1 import ingest_pb2 as pb
from protos.metrics.v1 import ingest_pb2_grpc as pb_grpc
from services.metrics.attempts import Register
from services.metrics.chunks import read_batch
from services.metrics.limits import SPOOLS, Limits
from services.metrics.plan import Stored
from services.metrics.writer import Writer
from services.rpc.credentials import Principal
from services.rpc.errors import InvalidField
from services.rpc.kernel import Kernel
from services.rpc.shell import RECHECK_S, caller, settle

# Batches of one stream that may wait for their commit; then the stream is read no further.
_MAX_PENDING = 32

_Pending = tuple[str, str, "asyncio.Future[Stored]"]


class IngestApi(pb_grpc.IngestServiceServicer):
    def __init__(self, kernel: Kernel, register: Register, writer: Writer, limits: Limits) -> None:
        self._kernel, self._register, self._writer, self._limits = kernel, register, writer, limits

    async def Report(
        self,
        request_iterator: AsyncIterator[pb.ReportRequest],
        context: grpc.aio.ServicerContext[pb.ReportRequest, pb.ReportResponse],
    ) -> AsyncIterator[pb.ReportResponse]:
        principal = caller()
        pending: asyncio.Queue[_Pending] = asyncio.Queue(_MAX_PENDING)
        reader = asyncio.create_task(self._read(request_iterator, principal, pending))
        taking = asyncio.create_task(pending.get())
        try:
            while not (reader.done() and pending.empty() and not taking.done()):
                self._kernel.shell.check_still_valid(principal)
                await asyncio.wait({taking, reader}, timeout=RECHECK_S, return_when=asyncio.FIRST_COMPLETED)
                if not taking.done():
                    continue
                attempt_id, spool, done = taking.result()
                taking = asyncio.create_task(pending.get())
                while not done.done():
                    self._kernel.shell.check_still_valid(principal)
                    await asyncio.wait({done}, timeout=RECHECK_S)
                stored = done.result()
                yield pb.ReportResponse(
                    attempt_id=attempt_id,
                    spool=spool,
                    acknowledged_sequence=stored.acknowledged_sequence,
                    refused=stored.refused,
                )
            reader.result()
        finally:
            await settle(taking)
            await settle(reader)

    async def _read(
        self,
        requests: AsyncIterator[pb.ReportRequest],
        principal: Principal,
        pending: "asyncio.Queue[_Pending]",
    ) -> None:
        try:
            async for request in requests:
                await pending.put((request.attempt_id, request.spool, await self._take(request, principal)))
        except DecodeError:
            raise InvalidField("request", "", "it is not a tether.metrics.v1.ReportRequest") from None

    async def _take(self, request: pb.ReportRequest, principal: Principal) -> "asyncio.Future[Stored]":
        if request.first_sequence < 1:
            raise InvalidField("first_sequence", request.first_sequence, "records are counted from 1")
        if request.spool not in SPOOLS:
            return _refused(request, f"the spool is {request.spool[:30]!r}, but it must be one of: {', '.join(SPOOLS)}")
        attempt = await self._register.attempt(request.attempt_id)
        if attempt is None or attempt.runner_id != principal.subject_id or attempt.job_id != request.job_id:
            shown = request.attempt_id[:60]
            return _refused(request, f"the attempt {shown!r} of job {request.job_id[:60]!r} is not this runner's")
        return await self._writer.submit(attempt, read_batch(request, 0, self._limits), request.ByteSize())


def _refused(request: pb.ReportRequest, reason: str) -> "asyncio.Future[Stored]":
    """All of it is acknowledged, so that the box does not keep what will never be taken."""
    done: asyncio.Future[Stored] = asyncio.get_running_loop().create_future()
    done.set_result(Stored(request.first_sequence + len(request.records) - 1, reason))
    return done
