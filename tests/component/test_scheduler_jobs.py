"""A job from its submission to its end, over real gRPC, with a box that the test plays."""

import uuid

import grpc
import pytest

from protos.events.v1.runner_pb2 import RunnerStatus
from protos.scheduler.v1 import job_pb2, runner_pb2
from protos.scheduler.v1.session_pb2 import (
    BoxMoment,
    Checkpointed,
    ConnectRequest,
    Ended,
    Evaluated,
    Heartbeat,
    Outcome,
    Started,
)
from protos.training.v1.training_pb2 import AdvancedEvaluation, Checkpoint, EndReason, Hyperparameters, Limits, Task
from services.scheduler.catalogue import ARCHITECTURES, read_architectures
from tests.support.box import GIB, Box, hello, inventory
from tests.support.control import control_plane
from tests.support.eventually import eventually
from tests.support.platform import DatabaseUrls
from tests.support.servers import bearer

State = job_pb2.JobState


async def refused(call: grpc.aio.Call) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), caught.value.details() or ""


def moment(at_ms: int) -> BoxMoment:
    return BoxMoment(anchor_at_ms=at_ms, elapsed_ms=0)


async def test_a_training_goes_from_submission_to_finished_and_frees_its_runner(database: DatabaseUrls) -> None:
    async with control_plane(database) as control:
        await control.dataset()
        _, box = await control.box()
        welcome = await box.connect()
        assert (await control.runner()).status == RunnerStatus.RUNNER_STATUS_ONLINE
        await box.say(ConnectRequest(heartbeat=Heartbeat(sequence=7)))
        assert (await box.next("heartbeat_ack")).heartbeat_ack.sequence == 7

        job = await control.submit(limits=Limits(epochs=3))
        assert job.state == State.JOB_STATE_ASSIGNED
        assert job.rate_micros == 2_500_000
        assert job.spec.hyperparameters.batch_size == 64, "defaults are written into the log"
        assignment = await box.assignment()
        assert (assignment.job_id, assignment.window_ms) == (job.job_id, 900_000)
        assert (await control.runner()).status == RunnerStatus.RUNNER_STATUS_OCCUPIED

        at = moment(welcome.platform_at_ms + 10)
        for _ in range(2):  # a repeat changes nothing
            ack = await box.report(assignment, 1, started=Started(at=at, weights="random"))
            assert (ack.sequence, ack.rejected) == (1, "")
        await box.report(assignment, 2, checkpointed=Checkpointed(checkpoint=Checkpoint(name="a", best=True)))
        await box.report(assignment, 3, checkpointed=Checkpointed(checkpoint=Checkpoint(name="b", best=True)))
        await box.report(assignment, 4, evaluated=Evaluated(step=9, metrics={"accuracy": 0.5}))
        now = await control.job(job.job_id)
        assert now.state == State.JOB_STATE_RUNNING
        assert [(c.name, c.best) for c in now.checkpoints] == [("a", False), ("b", True)]
        ended = Ended(outcome=Outcome.OUTCOME_FINISHED, started_at=at, ended_at=at, steps=9, metrics={"accuracy": 0.9})
        await box.report(assignment, 5, ended=ended)
        done = await control.job(job.job_id)
        assert (done.state, done.steps, done.metrics["accuracy"]) == (State.JOB_STATE_FINISHED, 9, 0.9)
        assert done.interval.started_at_ms <= done.interval.charged_until_ms
        assert (await control.runner()).status == RunnerStatus.RUNNER_STATUS_ONLINE
        stale = await box.report(assignment, 5, ended=ended)
        assert stale.rejected == "", "a repeat of what is settled is acknowledged"
        assignment.attempt_id = "at_unknown"
        assert "not of this runner" in (await box.report(assignment, 1, started=Started(at=at))).rejected


async def test_a_repeated_submission_is_one_job(database: DatabaseUrls) -> None:
    async with control_plane(database) as control:
        await control.dataset()
        _, box = await control.box()
        await box.connect()
        request_id = str(uuid.uuid4())
        first = await control.submit(request_id=request_id)
        assert await control.submit(request_id=request_id) == first
        request = job_pb2.SubmitJobRequest(request_id=request_id, dataset_id="digits", architecture_id="resnet-18")
        code, sentence = await refused(control.jobs.SubmitJob(request, metadata=control.auth))
        assert code == grpc.StatusCode.INVALID_ARGUMENT
        assert request_id in sentence


def the_largest_classifier() -> tuple[str, int]:
    """The architecture for the dataset `digits` that needs most VRAM, and how much."""
    known = read_architectures(ARCHITECTURES).values()
    classifiers = [one for one in known if one.task == Task.TASK_CLASSIFICATION]
    largest = max(classifiers, key=lambda one: one.requirements.min_gpu_vram_bytes)
    return largest.architecture_id, largest.requirements.min_gpu_vram_bytes


async def test_a_submission_is_refused_with_the_reason(database: DatabaseUrls) -> None:
    async with control_plane(database) as control:
        await control.dataset()
        _, box = await control.box()

        async def attempt(**more: object) -> tuple[grpc.StatusCode, str]:
            values = {"dataset_id": "digits", "architecture_id": "resnet-tiny", "runner_id": "box", **more}
            return await refused(control.jobs.SubmitJob(job_pb2.SubmitJobRequest(**values), metadata=control.auth))

        assert await attempt() == (
            grpc.StatusCode.FAILED_PRECONDITION,
            "runner box is OFFLINE; choose an online runner, or submit with --queue to wait for it",
        )
        await box.connect(hello(inventory=inventory(vram_gib=2)))
        large, needs = the_largest_classifier()
        code, sentence = await attempt(architecture_id=large)
        assert code == grpc.StatusCode.FAILED_PRECONDITION
        assert f"needs at least {needs / GIB:.1f} GiB of VRAM per GPU, runner box has 2.0 GiB" in sentence
        for wrong, code, words in (
            ({"runner_id": "nobody"}, grpc.StatusCode.NOT_FOUND, "no runner 'nobody'"),
            ({"architecture_id": "resnet-9000"}, grpc.StatusCode.NOT_FOUND, "no architecture 'resnet-9000'"),
            ({"dataset_id": "none"}, grpc.StatusCode.NOT_FOUND, "no dataset 'none'"),
            ({"limits": Limits(epochs=-3)}, grpc.StatusCode.INVALID_ARGUMENT, "limits.epochs is '-3'"),
            (
                {"hyperparameters": Hyperparameters(learning_rate=float("nan"))},
                grpc.StatusCode.INVALID_ARGUMENT,
                "learning_rate is 'nan'",
            ),
            ({"name": "x" * 10_000_000}, grpc.StatusCode.INVALID_ARGUMENT, "this one has 10000000"),
        ):
            got, sentence = await attempt(**wrong)
            assert (got, words in sentence) == (code, True), sentence
        suspend = runner_pb2.SuspendRunnerRequest(runner_id="box", reason="cleaning")
        suspended = await control.runners.SuspendRunner(suspend, metadata=control.auth)
        assert suspended.runner.status == RunnerStatus.RUNNER_STATUS_SUSPENDED
        assert "box is SUSPENDED" in (await attempt())[1]
        await control.runners.ResumeRunner(runner_pb2.ResumeRunnerRequest(runner_id="box"), metadata=control.auth)
        assert (await control.submit()).state == State.JOB_STATE_ASSIGNED
        assert "box is OCCUPIED" in (await attempt())[1]


async def test_a_suspension_for_a_time_ends_by_itself(database: DatabaseUrls) -> None:
    async with control_plane(database) as control:
        _, box = await control.box()
        welcome = await box.connect()
        for_ever = runner_pb2.SuspendRunnerRequest(runner_id="box", until_ms=2**62)
        code, sentence = await refused(control.runners.SuspendRunner(for_ever, metadata=control.auth))
        assert code == grpc.StatusCode.INVALID_ARGUMENT
        assert "until_ms is" in sentence
        until_ms = welcome.platform_at_ms + 1500
        suspend = runner_pb2.SuspendRunnerRequest(runner_id="box", until_ms=until_ms)
        suspended = (await control.runners.SuspendRunner(suspend, metadata=control.auth)).runner
        assert suspended.status == RunnerStatus.RUNNER_STATUS_SUSPENDED

        async def online() -> bool:
            return (await control.runner()).status == RunnerStatus.RUNNER_STATUS_ONLINE

        await eventually(online)


async def test_waiting_jobs_are_placed_in_the_order_of_their_submission(database: DatabaseUrls) -> None:
    async with control_plane(database) as control:
        await control.dataset()
        first = await control.submit(runner="", queue=True)
        code, sentence = await refused(
            control.jobs.SubmitJob(
                job_pb2.SubmitJobRequest(dataset_id="digits", architecture_id="resnet-tiny"), metadata=control.auth
            )
        )
        assert (code, "has no runner" in sentence) == (grpc.StatusCode.FAILED_PRECONDITION, True)
        second = await control.submit(runner="", queue=True)
        now = await control.job(second.job_id)
        assert (now.state, now.queue_position) == (State.JOB_STATE_QUEUED, 2)
        assert "a runner that matches" in now.waiting_for
        _, box = await control.box()
        await box.connect()
        assignment = await box.assignment()
        assert assignment.job_id == first.job_id
        at = moment(0)
        await box.report(assignment, 1, ended=Ended(outcome=Outcome.OUTCOME_FINISHED, started_at=at, ended_at=at))
        assert (await box.assignment()).job_id == second.job_id


async def test_stopping_ends_a_waiting_job_at_once_and_a_running_one_through_its_box(database: DatabaseUrls) -> None:
    async with control_plane(database) as control:
        await control.dataset()
        waiting = await control.submit(runner="", queue=True)
        stop = job_pb2.StopJobRequest(job_id=waiting.job_id, reason="changed my mind")
        stopped = (await control.jobs.StopJob(stop, metadata=control.auth)).job
        assert (stopped.state, stopped.message) == (State.JOB_STATE_KILLED, "changed my mind")
        code, sentence = await refused(control.jobs.StopJob(stop, metadata=control.auth))
        assert (code, "is KILLED already" in sentence) == (grpc.StatusCode.FAILED_PRECONDITION, True)
        _, box = await control.box()
        await box.connect()
        job = await control.submit()
        assignment = await box.assignment()
        stopping = (await control.jobs.StopJob(job_pb2.StopJobRequest(job_id=job.job_id), metadata=control.auth)).job
        assert stopping.state == State.JOB_STATE_STOPPING
        assert (await box.assignment()).stop_reason == EndReason.END_REASON_STOPPED_BY_PERSON
        await box.report(assignment, 1, ended=Ended(outcome=Outcome.OUTCOME_KILLED, ended_at=moment(0)))
        done = await control.job(job.job_id)
        assert (done.state, done.reason) == (State.JOB_STATE_KILLED, EndReason.END_REASON_STOPPED_BY_PERSON)
        assert done.interval.charged_until_ms == 0, "a training that never started costs nothing"


async def test_a_copied_key_is_refused_and_the_holder_is_untouched(database: DatabaseUrls) -> None:
    async with control_plane(database) as control:
        created = await control.create_runner()
        holder, thief = Box(control.channel, created.secret_key), Box(control.channel, created.secret_key)
        await holder.connect()
        with pytest.raises(grpc.aio.AioRpcError):
            await thief.connect(hello(installation_id="i-2"))
        code, sentence = await thief.status()
        assert (code, "in use by the installation on box-1" in sentence) == (grpc.StatusCode.PERMISSION_DENIED, True)
        await holder.say(ConnectRequest(heartbeat=Heartbeat(sequence=1)))
        assert (await holder.next("heartbeat_ack")).heartbeat_ack.sequence == 1
        newer = Box(control.channel, created.secret_key)
        assert (await newer.connect()).epoch > 1
        assert "newer session" in (await holder.next("goodbye")).goodbye.reason


async def test_bytes_that_are_no_message_end_the_call_with_a_sentence_and_nothing_else(database: DatabaseUrls) -> None:
    async with control_plane(database) as control:
        created = await control.create_runner()
        call = control.channel.stream_stream("/tether.scheduler.v1.RunnerSessionService/Connect")(
            metadata=bearer(created.secret_key)
        )
        await call.write(b"\xff\xff\xff\xff garbage")
        assert await call.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert "not a message of this call" in (await call.details() or "")
        assert (await control.runner()).status == RunnerStatus.RUNNER_STATUS_OFFLINE


async def test_an_agent_that_closes_its_stream_without_a_training_is_offline_at_once(database: DatabaseUrls) -> None:
    async with control_plane(database) as control:
        _, box = await control.box()
        await box.connect()
        await box.close()

        async def offline() -> bool:
            return (await control.runner()).status == RunnerStatus.RUNNER_STATUS_OFFLINE

        await eventually(offline)


async def test_watches_show_each_change(database: DatabaseUrls) -> None:
    async with control_plane(database) as control:
        await control.dataset()
        runners = control.runners.WatchRunners(runner_pb2.WatchRunnersRequest(), metadata=control.auth)
        assert not (await runners.read()).runners
        _, box = await control.box()
        await box.connect()
        while (seen := await runners.read()).runners[0].status != RunnerStatus.RUNNER_STATUS_ONLINE:
            continue
        assert seen.runners[0].inventory.gpus[0].type == "NVIDIA A10G"
        job = await control.submit()
        jobs = control.jobs.WatchJobs(job_pb2.WatchJobsRequest(job_id=job.job_id), metadata=control.auth)
        assert (await jobs.read()).jobs[0].state == State.JOB_STATE_ASSIGNED
        assignment = await box.assignment()
        await box.report(assignment, 1, started=Started(at=moment(0)))
        while (await jobs.read()).jobs[0].state != State.JOB_STATE_RUNNING:
            continue
        runners.cancel()
        jobs.cancel()


async def test_an_uninstalled_runner_is_gone_and_its_name_is_free(database: DatabaseUrls) -> None:
    async with control_plane(database) as control:
        await control.dataset()
        created = await control.create_runner()
        other = await control.create_runner("other")
        box = Box(control.channel, created.secret_key)
        await box.connect()
        job = await control.submit()
        assignment = await box.assignment()
        mine = runner_pb2.UninstallRunnerRequest()
        key = bearer(created.secret_key)
        code, sentence = await refused(control.runners.UninstallRunner(mine, metadata=key))
        assert (code, job.job_id in sentence) == (grpc.StatusCode.FAILED_PRECONDITION, True)
        await box.report(assignment, 1, ended=Ended(outcome=Outcome.OUTCOME_KILLED, ended_at=moment(0)))
        theirs = runner_pb2.UninstallRunnerRequest(runner_id=other.runner.runner_id)
        assert (await refused(control.runners.UninstallRunner(theirs, metadata=key)))[0] == grpc.StatusCode.NOT_FOUND
        await control.runners.UninstallRunner(mine, metadata=key)
        assert (await box.next("goodbye")).goodbye.reconnect is False
        again = Box(control.channel, created.secret_key)
        with pytest.raises(grpc.aio.AioRpcError) as unknown:
            await again.connect()
        assert unknown.value.code() == grpc.StatusCode.UNAUTHENTICATED
        listed = await control.runners.ListRunners(runner_pb2.ListRunnersRequest(), metadata=control.auth)
        assert [runner.name for runner in listed.runners] == ["other"]
        assert (await control.create_runner()).runner.runner_id != created.runner.runner_id


async def test_advanced_evaluation_is_charged_one_and_a_half_times(database: DatabaseUrls) -> None:
    async with control_plane(database) as control:
        await control.dataset()
        _, box = await control.box()
        await box.connect()
        job = await control.submit(advanced_evaluation=AdvancedEvaluation(enabled=True))
        assert (job.rate_micros, job.spec.advanced_evaluation.enabled) == (3_750_000, True)
