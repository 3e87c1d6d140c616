"""A platform is restored while a real box trains: what the log knows goes on, what it does not know is ended."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

from protos.events.v1.runner_pb2 import RunnerStatus
from protos.scheduler.v1 import job_pb2, runner_pb2
from protos.training.v1.training_pb2 import Limits
from tests.support.eventually import eventually
from tests.support.stack import Stack, stack_on
from tests.support.typed import environment, typed

LONG, SHORT = Limits(epochs=100_000), Limits(epochs=1)


@dataclass
class Elsewhere:
    """A platform of `tether up --detach`; its addresses stay."""

    endpoints: dict[str, str]
    token: str


async def status(stack: Stack) -> "RunnerStatus.ValueType":
    answer = await stack.call(stack.runners.GetRunner, runner_pb2.GetRunnerRequest(runner_id="box"))
    found: RunnerStatus.ValueType = answer.runner.status
    return found


async def stop(stack: Stack, job_id: str) -> None:
    await stack.call(stack.jobs.StopJob, job_pb2.StopJobRequest(job_id=job_id, reason="seen enough"))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("ended", [True, False], ids=["its training ended after the backup", "its training goes on"])
async def test_a_box_finds_its_way_into_the_restored_log(tmp_path: Path, ended: bool) -> None:
    folder = tmp_path / "platform"
    variables = environment(TETHER_HOME=str(folder))
    try:
        await typed("tether up --detach", tmp_path, variables, 110)
        client = tomllib.loads((folder / "client.toml").read_text())
        async with stack_on(Elsewhere(client["endpoints"], client["token"]), tmp_path) as stack:  # type: ignore[arg-type]
            known = (await stack.submit(limits=LONG)).job_id
            await eventually(lambda: stack.running(known), 60, "a training")
            await typed("tether backup tether.backup", tmp_path, variables)
            unknown = ""
            if ended:
                await stop(stack, known)
                before = await stack.over(known)
                unknown = (await stack.submit(limits=LONG)).job_id
                await eventually(lambda: stack.running(unknown), 60, "a training that the backup does not know")

            await typed("tether down", tmp_path, variables)
            await typed("tether restore tether.backup --force", tmp_path, variables)
            await typed("tether up --detach", tmp_path, variables, 110)

            if ended:
                again = await stack.over(known)
                assert again.state == before.state == job_pb2.JOB_STATE_KILLED
                # The true end, not that of the restore; what the platforms measured of the box's clock may differ.
                assert abs(again.interval.charged_until_ms - before.interval.charged_until_ms) < 1_000
                assert again.interval.started_at_ms == before.interval.started_at_ms
            else:
                steps = (await stack.series(known, "train/loss")).steps

                async def goes_on() -> bool:
                    now = (await stack.series(known, "train/loss")).steps
                    return len(now) > len(steps) + 10 and list(now) == sorted(set(now))

                await eventually(goes_on, 60, "steps of the same attempt")
                assert await stack.running(known)
                assert (await stack.job(known)).attempt == 1
                await stop(stack, known)
                await stack.over(known)

            async def free() -> bool:
                return await status(stack) == RunnerStatus.RUNNER_STATUS_ONLINE

            await eventually(free, 90, "a free runner")
            # Queued: what nobody knows any more may still be ending on the box.
            last = await stack.submit(limits=SHORT, queue=True)
            assert last.job_id != unknown
            assert (await stack.over(last.job_id)).state == job_pb2.JOB_STATE_FINISHED
            assert (await stack.verified()).equal
    finally:
        await typed(f"tether down --data-dir {folder}", tmp_path, variables)
