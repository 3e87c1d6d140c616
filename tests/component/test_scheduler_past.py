"""GetRunner, ListRunners and GetJob as of the past: what they answered then."""

from typing import Any

import grpc
import pytest

from protos.common.v1.moment_pb2 import Moment
from protos.scheduler.v1 import job_pb2, runner_pb2
from protos.scheduler.v1.session_pb2 import BoxMoment, Checkpointed, Ended, Evaluated, Outcome, Started
from protos.training.v1.training_pb2 import Checkpoint
from services.eventlog.read import read_head
from services.postgres import Pool
from services.scheduler.domain import stream
from tests.support.box import hello
from tests.support.control import Control, control_plane
from tests.support.eventually import eventually
from tests.support.log import pool_on
from tests.support.platform import DatabaseUrls, SharedNats


class Album:
    """What the scheduler answered at each head of the log that it was asked at."""

    def __init__(self, control: Control, pool: Pool) -> None:
        self._control, self._pool = control, pool
        self.lists: dict[int, runner_pb2.ListRunnersResponse] = {}
        self.jobs: dict[int, dict[str, job_pb2.Job]] = {}
        self.job_ids: list[str] = []

    async def take(self) -> None:
        """Ask, with nothing happening meanwhile."""
        position = 0
        while position != (head := (await read_head(self._pool)).position):
            position = head
            listed = await self.runners(min_position=head)
            jobs = {job_id: (await self.job(job_id, min_position=head)).job for job_id in self.job_ids}
        for runner in listed.runners:
            # A heartbeat is no event.
            runner.ClearField("last_contact_at_ms")
        for job in jobs.values():
            job.ClearField("queue_position")
            job.ClearField("waiting_for")
        self.lists[position], self.jobs[position] = listed, jobs

    async def runners(self, **more: Any) -> runner_pb2.ListRunnersResponse:
        request = runner_pb2.ListRunnersRequest(**more)
        return await self._control.runners.ListRunners(request, metadata=self._control.auth)

    async def runner(self, name: str, **more: Any) -> runner_pb2.GetRunnerResponse:
        request = runner_pb2.GetRunnerRequest(runner_id=name, **more)
        return await self._control.runners.GetRunner(request, metadata=self._control.auth)

    async def job(self, job_id: str, **more: Any) -> job_pb2.GetJobResponse:
        request = job_pb2.GetJobRequest(job_id=job_id, **more)
        return await self._control.jobs.GetJob(request, metadata=self._control.auth)


async def a_day(control: Control, album: Album, monkeypatch: pytest.MonkeyPatch) -> None:
    """Something of everything, with a picture after each step."""
    await control.dataset()
    await control.create_runner("never connected")
    await album.take()
    runner_id, box = await control.box()
    await album.take()
    await box.connect()
    at = BoxMoment(anchor_at_ms=1)
    for number in range(2):
        album.job_ids.append((await control.submit(name=f"job {number}")).job_id)
        await album.take()
        held = await box.assignment()
        await box.report(held, 1, started=Started(at=at))
        await box.report(held, 2, checkpointed=Checkpointed(checkpoint=Checkpoint(name="c", best=True)))
        await box.report(held, 3, evaluated=Evaluated(step=9, epoch=1, metrics={"validation/accuracy": 0.5}))
        await album.take()
        if not number:
            await box.report(held, 4, ended=Ended(outcome=Outcome.OUTCOME_FINISHED, started_at=at, ended_at=at))
            await album.take()
    album.job_ids.append((await control.submit(runner="", queue=True, name="waits")).job_id)
    await album.take()
    monkeypatch.setattr(stream, "SILENCE_MS", 0)
    box.drop()

    async def cut_off() -> bool:
        return bool((await control.job(album.job_ids[1])).deadline_at_ms)

    await eventually(cut_off, what="the lapse")
    await album.take()
    request = runner_pb2.SuspendRunnerRequest(runner_id=runner_id, reason="fans")
    await control.runners.SuspendRunner(request, metadata=control.auth)
    await album.take()
    gone = runner_pb2.UninstallRunnerRequest(runner_id="never connected")
    await control.runners.UninstallRunner(gone, metadata=control.auth)
    await album.take()


async def test_as_of_a_position_the_answer_is_what_it_was_when_that_was_the_head(
    database: DatabaseUrls, nats: SharedNats, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with control_plane(database, nats.url) as control, pool_on(database.scheduler) as pool:
        album = Album(control, pool)
        await a_day(control, album, monkeypatch)
        assert len(album.lists) >= 10
        for position, listed in album.lists.items():
            moment = Moment(position=position)
            past = await album.runners(as_of=moment)
            assert past.as_of_position == position
            for runner in past.runners:
                assert (await album.runner(runner.name, as_of=moment)).runner == runner
                assert (await album.runner(runner.runner_id, as_of=moment)).runner == runner
                assert runner.last_contact_at_ms <= past.as_of_ms
                runner.ClearField("last_contact_at_ms")
            assert list(past.runners) == list(listed.runners)
            # By the time of its recording as well; the events of one command share it.
            assert (await album.runners(as_of=Moment(at_ms=past.as_of_ms))).as_of_position >= position
            for job_id in album.job_ids:
                if job_id in album.jobs[position]:
                    found = await album.job(job_id, as_of=moment)
                    assert found.job == album.jobs[position][job_id]
                    assert (found.as_of_position, found.as_of_ms) == (position, past.as_of_ms)
                else:
                    await refused(
                        album.job(job_id, as_of=moment), grpc.StatusCode.NOT_FOUND, f"(#{position}) there was"
                    )


async def refused(call: Any, code: grpc.StatusCode, sentence: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    assert error.value.code() is code
    assert sentence in str(error.value.details())


async def test_a_name_means_the_runner_that_had_it_then(database: DatabaseUrls) -> None:
    async with control_plane(database) as control, pool_on(database.scheduler) as pool:
        album, positions, ids = Album(control, pool), [], []
        await refused(album.runner("box"), grpc.StatusCode.NOT_FOUND, "no runner 'box'")
        before = (await read_head(pool)).position
        for number in range(2):
            runner_id, box = await control.box()
            await box.connect(hello(installation_id=f"i-{number}"))
            box.drop()
            ids.append(runner_id)
            positions.append((await read_head(pool)).position)
            gone = runner_pb2.UninstallRunnerRequest(runner_id=runner_id)
            await control.runners.UninstallRunner(gone, metadata=control.auth)
        after = Moment(position=(await read_head(pool)).position)
        for runner_id, position in zip(ids, positions, strict=True):
            found = await album.runner("box", as_of=Moment(position=position))
            assert found.runner.runner_id == runner_id
            assert [one.runner_id for one in (await album.runners(as_of=Moment(position=position))).runners] == [
                runner_id
            ]
            assert (await album.runner(runner_id, as_of=after)).runner.runner_id == runner_id
        for moment in (Moment(position=before), after):
            await refused(album.runner("box", as_of=moment), grpc.StatusCode.NOT_FOUND, "there was none")
            assert not (await album.runners(as_of=moment)).runners


async def test_the_past_of_another_workspace_is_as_closed_as_its_present(database: DatabaseUrls) -> None:
    async with control_plane(database) as control, pool_on(database.scheduler) as pool:
        album = Album(control, pool)
        await control.dataset()
        _, box = await control.box()
        await box.connect()
        job_id = (await control.submit()).job_id
        control.token = (await control.create_workspace("other")).secret
        now = Moment(position=(await read_head(pool)).position)
        assert not (await album.runners(as_of=now)).runners
        await refused(album.runner("box", as_of=now), grpc.StatusCode.NOT_FOUND, "no runner 'box' in this workspace")
        await refused(album.job(job_id, as_of=now), grpc.StatusCode.NOT_FOUND, "in this workspace")


async def test_the_future_is_refused_and_before_the_first_event_there_was_nothing(database: DatabaseUrls) -> None:
    async with control_plane(database) as control, pool_on(database.scheduler) as pool:
        album = Album(control, pool)
        await control.create_runner()
        invalid, future = grpc.StatusCode.INVALID_ARGUMENT, Moment(at_ms=4_102_444_800_000)
        beyond = Moment(position=(await read_head(pool)).position + 1)
        for call in (album.runners, lambda **more: album.runner("box", **more), lambda **more: album.job("jb", **more)):
            await refused(call(as_of=beyond), invalid, f"as_of is '#{beyond.position}', but the log goes from #1 to")
            await refused(call(as_of=future), invalid, "it lies in the future")
        assert not (await album.runners(as_of=Moment(at_ms=1000))).runners
        never = "before the first event of the log there was none"
        await refused(album.runner("box", as_of=Moment(at_ms=1000)), grpc.StatusCode.NOT_FOUND, never)
