"""JobService: submit, resume, watch and stop trainings."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TypeAlias

import grpc

from protos.eventlog.v1.eventlog_pb2 import EventRecord
from protos.events.v1.job_pb2 import JobSubmitted
from protos.scheduler.v1 import job_pb2 as pb
from protos.scheduler.v1 import job_pb2_grpc as pb_grpc
from protos.training.v1.training_pb2 import Architecture, CheckpointReference, EndReason
from services.eventlog.append import StreamAppend
from services.eventlog.catalogue import payload_of
from services.ids import new_id
from services.rpc.errors import InvalidField, NotFound
from services.rpc.kernel import Kernel
from services.rpc.shell import caller
from services.rpc.watch import Hub, Told
from services.scheduler import job_filter
from services.scheduler.actions import still
from services.scheduler.artifacts import Artifacts, Found, OfJobs, Stored
from services.scheduler.commands import Commands, Decision
from services.scheduler.domain import attempt, placement
from services.scheduler.domain.job import Job, evolve
from services.scheduler.domain.placement import Rates
from services.scheduler.domain.refusals import JobNotOver
from services.scheduler.domain.runner import Runner
from services.scheduler.domain.workspace import Exhaustion, Workspace
from services.scheduler.job_lists import Wanted
from services.scheduler.making import architecture_of, dataset_of, job_of, made_of, weights_of, workspace_of
from services.scheduler.past import Past
from services.scheduler.queries import Queries
from services.scheduler.store import Store, envelope_of
from services.scheduler.submission import MAX_TEXT, first_state, resumed, submitted
from services.scheduler.views import job_view

_DEFAULT_PAGE, _MAX_PAGE = 100, 1000
_POSITION = re.compile("[0-9]{1,18}")
_NOT_OVER = (
    pb.JobState.JOB_STATE_QUEUED,
    pb.JobState.JOB_STATE_ASSIGNED,
    pb.JobState.JOB_STATE_RUNNING,
    pb.JobState.JOB_STATE_STOPPING,
)


# A new job's event, the runner that it is for (None: any), and the checkpoint that it begins with.
Proposal: TypeAlias = tuple[JobSubmitted, Runner | None, Found | None]


def period_of(now_ms: int) -> str:
    """The calendar month in UTC, for example `2026-11`."""
    return datetime.fromtimestamp(now_ms / 1000, UTC).strftime("%Y-%m")


class JobApi(pb_grpc.JobServiceServicer):
    def __init__(
        self,
        kernel: Kernel,
        commands: Commands,
        store: Store,
        artifacts: Artifacts,
        queries: Queries,
        hub: Hub,
        architectures: Mapping[str, Architecture],
        rates: Rates,
        window_ms: int,
        past: Past,
    ) -> None:
        self._kernel, self._commands, self._store = kernel, commands, store
        self._artifacts, self._queries = artifacts, queries
        self._hub, self._architectures, self._rates, self._window_ms = hub, architectures, rates, window_ms
        self._past = past

    async def SubmitJob(
        self,
        request: pb.SubmitJobRequest,
        context: "grpc.aio.ServicerContext[pb.SubmitJobRequest, pb.SubmitJobResponse]",
    ) -> pb.SubmitJobResponse:
        async def propose(workspace: Workspace, now_ms: int) -> Proposal:
            workflow = made_of(request, workspace)
            architecture = architecture_of(self._architectures, workflow.architecture_id)
            dataset = dataset_of(workspace, workflow.dataset_id)
            chosen = await self._runner(request.runner_id) if request.runner_id else None
            found, reference = None, None
            if (earlier := await weights_of(self._store, workflow.weights, architecture)) is not None:
                found = await self._artifacts.find(earlier, workflow.weights.checkpoint.name, newest=False)
                reference = found.reference
                chosen = await self._reader(reference, chosen, request.labels)
            event = submitted(request, workflow, dataset, architecture, self._architectures, reference, chosen, now_ms)
            return event, chosen, found

        answer, _ = await self._commands.answer(
            request,
            request.request_id,
            pb.SubmitJobResponse,
            self._placing(propose),
            lambda records: pb.SubmitJobResponse(job=job_view(_fold(records)), position=records[-1].position),
        )
        return answer

    async def ResumeJob(
        self,
        request: pb.ResumeJobRequest,
        context: "grpc.aio.ServicerContext[pb.ResumeJobRequest, pb.ResumeJobResponse]",
    ) -> pb.ResumeJobResponse:
        async def propose(_: Workspace, now_ms: int) -> Proposal:
            earlier = await self._find(request.job_id)
            if not earlier.over:
                raise JobNotOver(earlier.job_id, earlier.state)
            chosen = await self._runner(request.runner_id) if request.runner_id else None
            found = await self._artifacts.find(earlier, request.checkpoint, newest=True)
            chosen = await self._reader(found.reference, chosen, {})
            return resumed(request, earlier, found.reference, chosen, now_ms), chosen, found

        answer, _ = await self._commands.answer(
            request,
            request.request_id,
            pb.ResumeJobResponse,
            self._placing(propose),
            lambda records: pb.ResumeJobResponse(job=job_view(_fold(records)), position=records[-1].position),
        )
        return answer

    def _placing(self, propose: Callable[[Workspace, int], Awaitable[Proposal]]) -> Callable[[], Awaitable[Decision]]:
        """Decides on a new job of the caller's workspace: placed at once, or waiting where it may."""
        workspace_id = caller().workspace_id
        job_id, attempt_id = new_id("jb"), new_id("at")

        async def decide() -> Decision:
            now_ms = self._kernel.clock.now_ms()
            # Before what is made of it: a revision in between is a conflict.
            workspace = await workspace_of(self._store)
            event, chosen, found = await propose(workspace, now_ms)
            placement.refuse_exhausted(workspace, period_of(now_ms))
            candidates = [] if chosen is not None else await self._queries.runners(workspace_id)
            job = first_state(job_id, workspace_id, event)
            placed = placement.submit(event, chosen, candidates, job, attempt_id, self._rates, self._window_ms)
            streams = [StreamAppend("job", job_id, 0, placed.job_events)]
            if placed.runner is not None:
                runner = placed.runner
                streams.append(StreamAppend("runner", runner.runner_id, runner.version, placed.runner_events))
            unchanged = [still(workspace), *(found.unchanged if found is not None else ())]
            return Decision(workspace_id, streams, unchanged=unchanged)

        return decide

    async def _reader(
        self, found: CheckpointReference, chosen: Runner | None, labels: Mapping[str, str]
    ) -> Runner | None:
        """Who may train from it. Raises CheckpointElsewhere, CheckpointGone."""
        return placement.runner_for(found, chosen, await self._store.runner(found.runner_id), labels)

    async def GetJob(
        self, request: pb.GetJobRequest, context: "grpc.aio.ServicerContext[pb.GetJobRequest, pb.GetJobResponse]"
    ) -> pb.GetJobResponse:
        await self._kernel.reached(request.min_position)
        if request.HasField("as_of"):
            return await self._as_of(request)
        return pb.GetJobResponse(job=await self._view(await self._find(request.job_id)))

    async def _as_of(self, request: pb.GetJobRequest) -> pb.GetJobResponse:
        """The job's own stream tells it; which files the platform had then is told by those of the artifacts."""
        job, as_of = await self._past.job(caller().workspace_id, request.job_id, request.as_of)
        await self._kernel.reached(as_of.position)
        view = job_view(job, await self._artifacts.at(job, as_of.position))
        return pb.GetJobResponse(job=view, as_of_position=as_of.position, as_of_ms=as_of.at_ms)

    async def ListJobs(
        self, request: pb.ListJobsRequest, context: "grpc.aio.ServicerContext[pb.ListJobsRequest, pb.ListJobsResponse]"
    ) -> pb.ListJobsResponse:
        await self._kernel.reached(request.min_position)
        size = request.page_size or _DEFAULT_PAGE
        if not 0 < size <= _MAX_PAGE:
            raise InvalidField(
                "page_size", request.page_size, f"it must be from 1 to {_MAX_PAGE}, or 0 for {_DEFAULT_PAGE}"
            )
        if request.page_token and not _POSITION.fullmatch(request.page_token):
            raise InvalidField("page_token", request.page_token, "it must be the next_page_token of an earlier answer")
        before = int(request.page_token or 0)
        wanted = await job_filter.wanted(request, self._store, self._queries)
        page = await self._queries.jobs(caller().workspace_id, wanted, before, size)
        artifacts = await self._artifacts.of(page.jobs)
        return pb.ListJobsResponse(
            jobs=[await self._view(job, artifacts) for job in page.jobs],
            next_page_token=str(page.next_before) if page.next_before else "",
        )

    async def WatchJobs(
        self,
        request: pb.WatchJobsRequest,
        context: "grpc.aio.ServicerContext[pb.WatchJobsRequest, pb.WatchJobsResponse]",
    ) -> AsyncIterator[pb.WatchJobsResponse]:
        principal = caller()
        with self._hub.watch(principal.workspace_id) as watcher:
            if request.job_id:
                jobs: Sequence[Job] = [await self._find(request.job_id)]
            else:
                jobs = (await self._queries.jobs(principal.workspace_id, Wanted(_NOT_OVER), 0, _MAX_PAGE)).jobs
            told, artifacts = Told(), await self._artifacts.of(jobs)
            for known in jobs:
                told.news(known.job_id, _version(known, artifacts))
            yield pb.WatchJobsResponse(jobs=[await self._view(job, artifacts) for job in jobs])
            while True:
                changed = await watcher.changed(self._kernel.shell, principal)
                wanted = [job_id for job_id in changed if request.job_id in ("", job_id)]
                found = [job for job_id in wanted if (job := await self._store.job(job_id)) is not None]
                artifacts = await self._artifacts.of(found)
                news = [job for job in found if told.news(job.job_id, _version(job, artifacts))]
                if news or not changed:
                    yield pb.WatchJobsResponse(jobs=[await self._view(job, artifacts) for job in news])

    async def StopJob(
        self, request: pb.StopJobRequest, context: "grpc.aio.ServicerContext[pb.StopJobRequest, pb.StopJobResponse]"
    ) -> pb.StopJobResponse:
        if len(request.reason) > MAX_TEXT:
            raise InvalidField("reason", request.reason, f"it has at most {MAX_TEXT} characters")
        job_id = (await self._find(request.job_id)).job_id

        async def decide() -> Decision:
            job = await self._find(job_id)
            message = request.reason or "stopped by a person"
            events = attempt.stop(job, EndReason.END_REASON_STOPPED_BY_PERSON, message)
            return Decision(job.workspace_id, [StreamAppend("job", job.job_id, job.version, events)])

        def respond(records: Sequence[EventRecord]) -> pb.StopJobResponse:
            return pb.StopJobResponse(position=records[-1].position if records else 0)

        answer, _ = await self._commands.answer(request, request.request_id, pb.StopJobResponse, decide, respond)
        answer.job.CopyFrom(await self._view(await self._find(job_id)))
        return answer

    async def _find(self, job_id: str) -> Job:
        return await job_of(self._store, job_id)

    async def _runner(self, name_or_id: str) -> Runner:
        runner_id = await self._queries.runner_id(caller().workspace_id, name_or_id)
        runner = await self._store.runner(runner_id) if runner_id is not None else None
        if runner is None:
            raise NotFound("runner", name_or_id, "see `tether runners list`")
        return runner

    async def _used_up(self, workspace_id: str) -> Exhaustion | None:
        workspace = await self._store.workspace(workspace_id)
        return workspace.used_up(period_of(self._kernel.clock.now_ms())) if workspace is not None else None

    async def _view(self, job: Job, artifacts: OfJobs | None = None) -> pb.Job:
        """`artifacts` are those of several jobs, where they were looked up together."""
        if artifacts is None:
            artifacts = await self._artifacts.of([job])
        view = job_view(job, artifacts.get(job.job_id, Stored()).there)
        if job.state == pb.JobState.JOB_STATE_QUEUED:
            view.queue_position = await self._queries.queue_position(job)
            view.waiting_for = placement.waits_for(
                job,
                await self._queries.runners(job.workspace_id),
                await self._used_up(job.workspace_id),
                await self._artifacts.lacks(job),
            )
        return view


def _version(job: Job, artifacts: OfJobs) -> int:
    """Rises with every event that changes what is shown."""
    return job.version + artifacts.get(job.job_id, Stored()).version


def _fold(records: Sequence[EventRecord]) -> Job:
    job: Job | None = None
    for record in records:
        if record.stream_kind == "job":
            job = evolve(job, payload_of(record), envelope_of(record))
    assert job is not None  # a submission has at least JobSubmitted
    return job
