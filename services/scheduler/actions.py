"""What the scheduler does by itself or for a box: load, let the domain decide, append to job and runner together."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from google.protobuf.message import Message

from protos.eventlog.v1.eventlog_pb2 import EventRecord
from protos.scheduler.v1.job_pb2 import JobState
from protos.scheduler.v1.session_pb2 import Hello, Report, SuspensionState
from protos.training.v1.training_pb2 import EndReason
from services.clock import Clock
from services.eventlog.append import StreamAppend
from services.ids import new_id
from services.rpc.errors import NotFound
from services.scheduler.artifacts import Artifacts
from services.scheduler.commands import Commands, Decision
from services.scheduler.domain import attempt, placement, session
from services.scheduler.domain import runner as runners
from services.scheduler.domain.job import OVER, Job
from services.scheduler.domain.placement import Rates
from services.scheduler.domain.refusals import StaleReport
from services.scheduler.domain.runner import Runner
from services.scheduler.domain.workspace import Workspace
from services.scheduler.store import Store

ACTOR = "service:scheduler"
_QUEUED = JobState.JOB_STATE_QUEUED

Both = tuple[Sequence[Message], Sequence[Message]]


def still(workspace: Workspace) -> StreamAppend:
    """The workspace must not have changed: without it, a training could start or stop on minutes of a moment ago."""
    return StreamAppend("workspace", workspace.workspace_id, workspace.version, [])


class Actions:
    def __init__(
        self,
        store: Store,
        artifacts: Artifacts,
        commands: Commands,
        clock: Clock,
        rates: Rates,
        replica: str,
        window_ms: int,
    ) -> None:
        self._store, self._artifacts, self._commands, self._clock = store, artifacts, commands, clock
        self._rates, self._replica, self._window_ms = rates, replica, window_ms

    async def connect(self, runner_id: str, hello: Hello) -> int:
        """Open a session; returns its epoch. Raises HeldByAnotherInstallation."""
        done = await self._on_runner(
            runner_id,
            f"runner:{runner_id}",
            lambda runner, job: session.connect(runner, job, hello, self._replica, self._clock.now_ms()),
        )
        return next(record.stream_version for record in done if record.type == "RunnerConnected")

    async def disconnect(self, runner_id: str, epoch: int, last_contact_ms: int, reason: str) -> None:
        """End the session of `epoch`, unless a newer one has replaced it."""
        await self._on_runner(
            runner_id,
            ACTOR,
            lambda runner, job: session.disconnect(runner, job, epoch, last_contact_ms, reason, self._clock.now_ms()),
        )

    async def box_suspensions(self, runner_id: str, epoch: int, state: SuspensionState) -> None:
        """Commit what the session of `epoch` says of the box's own suspensions."""
        await self._on_runner(
            runner_id,
            f"runner:{runner_id}",
            lambda runner, _job: (session.box_suspensions(runner, epoch, state, self._clock.now_ms()), []),
        )

    async def lift_expired(self, runner_id: str) -> None:
        """End the suspensions whose time is over."""
        await self._on_runner(
            runner_id, ACTOR, lambda runner, _job: (runners.lift_expired(runner, self._clock.now_ms()), [])
        )

    async def report(self, runner_id: str, told: Report) -> None:
        """Commit what a box reports. Raises StaleReport where it will never be accepted."""

        async def decide() -> Decision:
            runner = await self._store.runner(runner_id)
            held = runner is not None and runner.attempt_id == told.attempt_id
            job = await self._store.job(runner.job_id if runner is not None and held else told.job_id)
            if runner is None:
                raise StaleReport(told.attempt_id)
            try:
                if job is None:
                    raise StaleReport(told.attempt_id)
                job_events, runner_events = attempt.report(job, runner, told, self._clock.now_ms())
            except StaleReport:
                # A restored log may not know the attempt; its end frees the box all the same.
                if told.WhichOneof("fact") != "ended" or told.attempt_id not in runner.live_attempts:
                    raise
                job_events, runner_events = [], runners.ended_on_box(runner, told.attempt_id)
            return self._decision(runner, runner_events, job, job_events)

        await self._commands.run(f"runner:{runner_id}", decide)

    async def place(self, job_id: str, runner_id: str, period: str) -> bool:
        """Assign a waiting job to a runner, if both are still free for it. Raises QuotaUsedUp."""

        async def decide() -> Decision:
            job, runner = await self._store.job(job_id), await self._store.runner(runner_id)
            if job is None or runner is None or job.state != _QUEUED:
                return Decision("", [])
            begins = await self._artifacts.before(job)
            if not placement.matches(runner, job, begins.lacks):
                return Decision("", [])
            workspace = await self._store.workspace(job.workspace_id)
            if workspace is None:
                return Decision("", [])
            placement.refuse_exhausted(workspace, period)
            placed = placement.assign(job, runner, new_id("at"), self._rates, self._window_ms)
            unchanged = [still(workspace), *begins.unchanged]
            return replace(self._decision(runner, placed.runner_events, job, placed.job_events), unchanged=unchanged)

        return await self._commands.run(ACTOR, decide) is not None

    async def stop_exhausted(self, job_id: str, period: str) -> None:
        """Ask for the end of a job whose workspace has used up its minutes of `period`; nothing where it has not."""

        async def decide() -> Decision:
            job = await self._store.job(job_id)
            workspace = await self._store.workspace(job.workspace_id) if job is not None else None
            gone = workspace.used_up(period) if workspace is not None else None
            if job is None or workspace is None or gone is None or job.state in OVER:
                return Decision("", [])
            message = f"the {gone.quota_milliminutes / 1000:.2f} compute minutes of {gone.period} are used up"
            events = attempt.stop(job, EndReason.END_REASON_QUOTA_EXHAUSTED, message)
            return replace(self._decision(None, [], job, events), unchanged=[still(workspace)])

        await self._commands.run(ACTOR, decide)

    async def expire(self, job_id: str) -> None:
        await self._on_job(job_id, lambda job, runner: (attempt.expire(job, runner, self._clock.now_ms()), []))

    async def declare_lost(self, job_id: str) -> None:
        """Say that a training which was cut off must have ended, once rule 3 allows it."""

        def decide(job: Job, runner: Runner | None) -> Both:
            return attempt.lost(job, runner, self._clock.now_ms()) if runner is not None else ([], [])

        await self._on_job(job_id, decide)

    async def _on_runner(
        self, runner_id: str, actor: str, decide: Callable[[Runner, Job | None], Both]
    ) -> Sequence[EventRecord]:
        async def load_and_decide() -> Decision:
            runner = await self._store.runner(runner_id)
            if runner is None:
                raise NotFound("runner", runner_id)
            job = await self._store.job(runner.job_id) if runner.job_id else None
            runner_events, job_events = decide(runner, job)
            return self._decision(runner, runner_events, job, job_events)

        done = await self._commands.run(actor, load_and_decide)
        return done.records if done is not None else ()

    async def _on_job(self, job_id: str, decide: Callable[[Job, Runner | None], Both]) -> None:
        async def load_and_decide() -> Decision:
            job = await self._store.job(job_id)
            if job is None:
                return Decision("", [])
            runner_id = job.runner_id or job.requested_runner_id
            runner = await self._store.runner(runner_id) if runner_id else None
            job_events, runner_events = decide(job, runner)
            return self._decision(runner, runner_events, job, job_events)

        await self._commands.run(ACTOR, load_and_decide)

    def _decision(
        self, runner: Runner | None, runner_events: Sequence[Message], job: Job | None, job_events: Sequence[Message]
    ) -> Decision:
        streams = []
        if job is not None and job_events:
            streams.append(StreamAppend("job", job.job_id, job.version, job_events))
        if runner is not None and runner_events:
            streams.append(StreamAppend("runner", runner.runner_id, runner.version, runner_events))
        workspace_id = runner.workspace_id if runner is not None else job.workspace_id if job is not None else ""
        return Decision(workspace_id, streams, job.correlation_id if job is not None and job_events else "")
