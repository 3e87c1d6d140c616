"""The platform's side of the box's protocols on a real socket: sessions and records, kept in memory."""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator

import grpc.aio

from protos.events.v1 import runner_pb2
from protos.metrics.v1 import ingest_pb2, ingest_pb2_grpc
from protos.scheduler.v1 import session_pb2, session_pb2_grpc
from protos.training.v1 import training_pb2

Frame = session_pb2.ConnectResponse


class FakeScheduler(session_pb2_grpc.RunnerSessionServiceServicer, ingest_pb2_grpc.IngestServiceServicer):
    """Say what should be with `directive`; look at what came in the attributes. One runner."""

    def __init__(self, heartbeat_interval_ms: int = 200) -> None:
        self.heartbeat_interval_ms = heartbeat_interval_ms
        self.directive = session_pb2.Directive()
        self.hellos: list[session_pb2.Hello] = []
        self.keys: set[str] = set()
        self.heartbeats = 0
        self.reports: list[session_pb2.Report] = []
        self.checked: list[session_pb2.DatasetChecked] = []
        # The box's suspensions by name of the owner, as Hello and every later message told them.
        self.suspensions: list[dict[str, str]] = []
        # Spool name → records by sequence; `doubled` counts the ones that came again after they were acknowledged.
        self.records: dict[str, dict[int, ingest_pb2.Record]] = defaultdict(dict)
        self.doubled = 0
        self.holes = 0
        self.reject: str = ""
        self.refuse: grpc.StatusCode | None = None
        # Hello is answered, nothing else.
        self.mute = False
        self.withhold_reports = False
        self.platform_at_ms = 1_700_000_000_000
        # Where records and artifacts go; empty: here.
        self.ingest_address = ""
        self._streams: set[asyncio.Queue[Frame]] = set()
        self._server: grpc.aio.Server | None = None
        self.port = 0

    async def start(self) -> "FakeScheduler":
        """Listen; again on the same port after a stop."""
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        session_pb2_grpc.add_RunnerSessionServiceServicer_to_server(self, self._server)
        ingest_pb2_grpc.add_IngestServiceServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        await self._server.start()
        return self

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(None)
            self._server = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def direct(
        self,
        attempt_id: str = "",
        *,
        stop_reason: int = 0,
        window_ms: int = 60_000,
        spec: training_pb2.TrainingSpec | None = None,
    ) -> None:
        """State which attempt should run, now and at every later connect."""
        self.directive = session_pb2.Directive()
        if attempt_id:
            assignment = session_pb2.Assignment(attempt_id=attempt_id, job_id=f"job-of-{attempt_id}")
            assignment.window_ms = window_ms
            assignment.spec.CopyFrom(spec or training_pb2.TrainingSpec())
            assignment.stop_reason = training_pb2.EndReason.ValueType(stop_reason)
            assignment.stop_message = "stopped" if stop_reason else ""
            self.directive.attempt.CopyFrom(assignment)
        self.say(Frame(directive=self.directive))

    def say(self, frame: Frame) -> None:
        for stream in self._streams:
            stream.put_nowait(frame)

    def facts(self, attempt_id: str) -> list[str]:
        """Kinds of the reports in the order of their first arrival."""
        seen: dict[int, str] = {}
        for report in self.reports:
            if report.attempt_id == attempt_id:
                seen.setdefault(report.sequence, report.WhichOneof("fact") or "")
        assert list(seen) == sorted(seen), "reports came out of order"
        return list(seen.values())

    def ended(self, attempt_id: str) -> session_pb2.Ended | None:
        found = [one for one in self.reports if one.attempt_id == attempt_id and one.HasField("ended")]
        return found[-1].ended if found else None

    async def Connect(
        self, requests: AsyncIterator[session_pb2.ConnectRequest], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[Frame]:
        self.keys.add(dict(context.invocation_metadata() or ())["authorization"])
        if self.refuse is not None:
            await context.abort(self.refuse, "this key was regenerated on Monday; use the new one")
        out: asyncio.Queue[Frame] = asyncio.Queue()
        reading = asyncio.create_task(self._read(requests, out))
        self._streams.add(out)
        try:
            while True:
                yield await out.get()
        finally:
            self._streams.discard(out)
            reading.cancel()

    async def _read(self, requests: AsyncIterator[session_pb2.ConnectRequest], out: asyncio.Queue[Frame]) -> None:
        with contextlib.suppress(grpc.aio.AioRpcError):
            async for request in requests:
                if not self.mute or request.HasField("hello"):
                    self._take(request, out)

    def _take(self, request: session_pb2.ConnectRequest, out: asyncio.Queue[Frame]) -> None:
        self.platform_at_ms += 1
        match request.WhichOneof("message"):
            case "hello":
                self.hellos.append(request.hello)
                self.suspensions.append(_reasons(request.hello.suspension))
                welcome = session_pb2.Welcome(runner_id="r1", runner_name="box", epoch=len(self.hellos))
                welcome.heartbeat_interval_ms = self.heartbeat_interval_ms
                welcome.platform_at_ms = self.platform_at_ms
                welcome.ingest_address = self.ingest_address
                out.put_nowait(Frame(welcome=welcome))
                out.put_nowait(Frame(directive=self.directive))
            case "heartbeat":
                self.heartbeats += 1
                ack = session_pb2.HeartbeatAck(sequence=request.heartbeat.sequence, platform_at_ms=self.platform_at_ms)
                out.put_nowait(Frame(heartbeat_ack=ack))
            case "report" if not self.withhold_reports:
                report = request.report
                self.reports.append(report)
                ack = session_pb2.ReportAck(attempt_id=report.attempt_id, sequence=report.sequence)
                ack.rejected = self.reject
                out.put_nowait(Frame(report_ack=ack))
                if report.HasField("ended") and self.directive.attempt.attempt_id == report.attempt_id:
                    self.direct()
            case "dataset_checked":
                self.checked.append(request.dataset_checked)
            case "suspension":
                self.suspensions.append(_reasons(request.suspension))

    async def Report(
        self, requests: AsyncIterator[ingest_pb2.ReportRequest], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[ingest_pb2.ReportResponse]:
        async for request in requests:
            spool = self.records[f"{request.attempt_id}/{request.spool}"]
            for sequence, record in enumerate(request.records, request.first_sequence):
                self.doubled += sequence in spool
                self.holes += sequence > len(spool) + 1
                spool.setdefault(sequence, record)
            yield ingest_pb2.ReportResponse(
                attempt_id=request.attempt_id, spool=request.spool, acknowledged_sequence=len(spool)
            )


def _reasons(state: session_pb2.SuspensionState) -> dict[str, str]:
    return {runner_pb2.SuspensionOwner.Name(one.owner): one.reason for one in state.suspensions}
