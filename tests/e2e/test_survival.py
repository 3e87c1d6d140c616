"""A training of a minute outlives the death of everything around it: nothing is lost, doubled or overcharged."""

import shutil
from pathlib import Path

import pytest

from protos.scheduler.v1 import job_pb2
from protos.training.v1.training_pb2 import AdvancedEvaluation, Limits
from tests.support.eventually import eventually
from tests.support.platform import SharedPlatform
from tests.support.stack import Stack, stack_on

VICTIMS = ("scheduler", "metrics", "postgres", "quota", "nats", "eventlog")
ONE_MINUTE_MS = 60_000


async def step(stack: Stack, job_id: str) -> int:
    series = await stack.series(job_id, "train/loss")
    return series.steps[-1] if series.steps else 0


async def new_step(stack: Stack, job_id: str, after: int, what: str) -> int:
    """The training is seen to go on."""

    async def look() -> int:
        now = await step(stack, job_id)
        return now if now > after else 0

    return await eventually(look, 60, f"a step after {after} {what}")


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_a_training_survives_the_kill_of_each_process_of_the_control_plane(
    own_platform: SharedPlatform, tmp_path: Path
) -> None:
    async with stack_on(own_platform, tmp_path) as stack:
        limits = Limits(minutes=1, epochs=100_000)
        job = await stack.submit(limits=limits, advanced_evaluation=AdvancedEvaluation(confusion_matrix=True))
        seen = await new_step(stack, job.job_id, 0, "of the training")
        for victim in VICTIMS:
            own_platform.kill(victim)
            seen = await new_step(stack, job.job_id, seen + 50, f"and the kill of {victim}")
            await eventually(lambda name=victim: own_platform.healthy(name), 30, f"{victim} is back")
        await own_platform.stop("nats")
        shutil.rmtree(own_platform.home.nats / "jetstream")
        seen = await new_step(stack, job.job_id, seen + 50, "without NATS")
        await own_platform.start("nats")
        done = await stack.over(job.job_id)

        assert done.state == job_pb2.JOB_STATE_FINISHED, done.message
        interval = done.interval
        assert interval.charged_until_ms - interval.started_at_ms >= ONE_MINUTE_MS
        assert not interval.presumed
        await the_log_is_whole(stack, done)
        await every_record_arrived_once(stack, done)
        await the_charge_is_right(stack, done)


async def the_log_is_whole(stack: Stack, done: job_pb2.Job) -> None:
    everything = await stack.events()
    versions: dict[tuple[str, str], int] = {}
    for record in everything:
        key = (record.stream_kind, record.stream_id)
        assert record.stream_version == versions.get(key, 0) + 1, f"{key} has a hole or a double at {record.position}"
        versions[key] = record.stream_version
    types = [record.type for record in everything if record.stream_id == done.job_id]
    once = ("JobSubmitted", "JobAssigned", "JobStarted", "JobFinished")
    assert [types.count(name) for name in once] == [1, 1, 1, 1]
    facts = stack.box.state / "attempts" / done.attempt_id / "facts.jsonl"
    told = facts.read_text().splitlines()
    assert types.count("EvaluationCompleted") == sum('"evaluation"' in line for line in told)
    assert types.count("CheckpointSaved") == sum('"fact":"checkpoint"' in line.replace(" ", "") for line in told)


async def every_record_arrived_once(stack: Stack, done: job_pb2.Job) -> None:
    """What is stored equals what the box has on its disk."""
    spooled = [r["points"] for r in stack.spool(done.attempt_id, "trainer") if "points" in r]
    losses = [(int(p["step"]), p["values"]["train/loss"]) for p in spooled if "train/loss" in p["values"]]
    assert [number for number, _ in losses] == list(range(1, done.steps + 1)), "the trainer told each step once"

    async def all_losses() -> bool:
        series = await stack.series(done.job_id, "train/loss")
        return len(series.steps) >= len(losses)

    await eventually(all_losses, 30, "all losses")
    series = await stack.series(done.job_id, "train/loss")
    assert list(zip(series.steps, series.values, strict=True)) == losses
    texts = [r["log_line"]["text"] for r in stack.spool(done.attempt_id, "log")]

    async def all_lines() -> bool:
        return len(await stack.lines(done.job_id)) >= len(texts)

    await eventually(all_lines, 30, "all log lines")
    lines = await stack.lines(done.job_id)
    assert [line.text for line in lines] == texts
    assert [line.sequence for line in lines] == list(range(1, len(texts) + 1))


async def the_charge_is_right(stack: Stack, done: job_pb2.Job) -> None:
    charge = await stack.charge(done.job_id)
    charged_ms = done.interval.charged_until_ms - done.interval.started_at_ms
    assert [attempt.charged_ms_micros for attempt in charge.attempts] == [charged_ms * 2_500_000]
    assert charge.milliminutes == round(charged_ms * 2_500_000 / 60_000_000)
    verified = await stack.verified()
    assert verified.equal, verified.differences
    assert verified.replayed_milliminutes == charge.milliminutes
