"""The race for the last minutes: many jobs on many boxes, a quota that is used up, raised and refunded meanwhile."""

import asyncio
import random
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from fractions import Fraction

import grpc
import pytest

from protos.eventlog.v1.eventlog_pb2 import EventRecord
from protos.events.v1 import job_pb2, workspace_pb2
from protos.scheduler.v1.job_pb2 import SubmitJobRequest
from protos.training.v1.training_pb2 import EndReason
from tests.support.eventually import eventually
from tests.support.metered import Metered, metered, of_type
from tests.support.platform import DatabaseUrls, SharedNats
from tests.support.simulated_box import SimulatedBox, online
from tests.support.slow_minutes import minutes_by_month

EXHAUSTED = EndReason.END_REASON_QUOTA_EXHAUSTED
OUTCOMES = ("JobFinished", "JobFailed", "JobKilled")
OPENINGS = ("QuotaSet", "QuotaReplenished")
# Section 1's bound on what a job may run on after the last minute is used, without a fail-over.
BOUND_S = 2
# What a service's clock, set by a round trip to PostgreSQL, may be off by while all of this shares two cores.
SKEW_MS = 250
MINUTE = 1000
TYPES = (["NVIDIA A10G"], ["Tesla T4", "Tesla T4"], ["NVIDIA H100"], ["Tesla P4", "NVIDIA A10G"])


@asynccontextmanager
async def lateness() -> AsyncIterator[list[float]]:
    """How much longer than asked for this process has slept, in all: no server in it can be faster than that."""
    late = [0.0]

    async def watch() -> None:
        loop = asyncio.get_running_loop()
        while True:
            due_s = loop.time() + 0.05
            await asyncio.sleep(0.05)
            late[0] += max(0.0, loop.time() - due_s - 0.01)

    watching = asyncio.create_task(watch())
    try:
        yield late
    finally:
        watching.cancel()


async def submit(platform: Metered, chance: random.Random, jobs: int) -> Counter[str]:
    """Submit so many; those that come too late are refused."""
    answers: Counter[str] = Counter()

    async def one() -> None:
        request = SubmitJobRequest(
            request_id=str(uuid.UUID(int=chance.getrandbits(128))),
            dataset_id="digits",
            architecture_id="resnet-tiny",
            queue=True,
        )
        try:
            await platform.control.jobs.SubmitJob(request, metadata=platform.control.auth, timeout=60)
        except grpc.aio.AioRpcError as error:
            answers["refused" if error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED else str(error)] += 1
        else:
            answers["accepted"] += 1

    await asyncio.gather(*(one() for _ in range(jobs)))
    return answers


async def all_quiet(platform: Metered, exhaustions: int) -> list[EventRecord]:
    """The log, once the quota was used up so many times and nothing runs."""

    async def look() -> list[EventRecord]:
        log = await platform.events()
        held = len(of_type(log, "JobAssigned")) - len([one for one in of_type(log, *OUTCOMES) if _attempt_id(one)])
        told = Counter(one.type for one in log)
        assert (held, told["QuotaExhausted"] >= exhaustions) == (0, True), f"{held} run; {told}"
        return log

    return await eventually(look, 30, f"the end of all trainings after {exhaustions} exhaustions")


async def race(database: DatabaseUrls, nats: SharedNats, seed: int, jobs: int, boxes: int, longest_s: float) -> None:
    print(f"seed {seed}")
    chance = random.Random(seed)
    async with metered(database, nats.url) as platform, lateness() as late:
        await platform.control.dataset()
        machines = []
        for number in range(boxes):
            created = await platform.control.create_runner(f"box-{number}")
            gpus = TYPES[number % len(TYPES)]
            of_box = random.Random(chance.getrandbits(64))
            machines.append(SimulatedBox(platform.control.channel, created.secret_key, gpus, of_box, longest_s))
        # About an eighth of what the jobs would need: each exhaustion ends a boxful of them early.
        share = round(jobs * longest_s / 2 * 4 / 60 * 1000 / 8)
        await platform.set_quota(share)
        assert await submit(platform, chance, jobs) == {"accepted": jobs}
        async with online(machines):
            log = await all_quiet(platform, 1)
            assert await submit(platform, chance, 1) == {"refused": 1}
            await platform.set_quota(2 * share)
            log = await all_quiet(platform, 2)
            period = workspace_pb2.QuotaExhausted.FromString(of_type(log, "QuotaExhausted")[0].payload.value).period
            # Whatever the stops have left over, and a share more: enough for the door to open.
            await platform.adjust(period, -(MINUTE + share))
            log = await all_quiet(platform, 3)
            await platform.set_quota(None)
            await eventually(lambda: every_job_is_over(platform), 60, "the end of every job")
            log = await platform.events()
            usage = await platform.usage(log[-1].position)
            assert (await platform.verified(log[-1].position)).equal
        starts_and_stops_follow_what_was_said(log)
        exhaustions_are_true_as_known_at_their_positions(log)
        nothing_is_charged_past_the_bound(log, Fraction(BOUND_S) + Fraction(round(late[0] * 1000), 1000))
        total = sum(minutes_by_month(log, log[-1].recorded_at_us // 1000).values(), Fraction(0))
        assert abs(total * 1000 - usage.used_milliminutes) <= Fraction(1, 2)


async def every_job_is_over(platform: Metered) -> bool:
    log = await platform.events("JobSubmitted", *OUTCOMES)
    over = {one.stream_id for one in log if one.type in OUTCOMES}
    return all(one.stream_id in over for one in log)


def starts_and_stops_follow_what_was_said(log: Sequence[EventRecord]) -> None:
    """No job is accepted or assigned while the door is closed, and none is stopped for the quota while it is open."""
    closed, stops = False, 0
    for record in log:
        closed = record.type == "QuotaExhausted" or (closed and record.type not in OPENINGS)
        if record.type in ("JobSubmitted", "JobAssigned"):
            assert not closed, f"{record.type} at {record.position}"
        elif record.type == "JobKillRequested":
            assert job_pb2.JobKillRequested.FromString(record.payload.value).reason == EXHAUSTED
            assert closed, f"stopped at {record.position}"
            stops += 1
    assert stops, "the quota was never used up while something ran"


def exhaustions_are_true_as_known_at_their_positions(log: Sequence[EventRecord]) -> None:
    """What is said is used is what the rules say of the log up to that position, at a moment about the telling."""
    for record in of_type(log, "QuotaExhausted", "QuotaReplenished"):
        event = workspace_pb2.QuotaExhausted.FromString(record.payload.value)
        assert event.position < record.position
        known = [one for one in log if one.position <= event.position]
        at_ms = record.recorded_at_us // 1000
        earliest, latest = (
            minutes_by_month(known, moment_ms).get((record.workspace_id, event.period), Fraction(0)) * 1000
            for moment_ms in (at_ms - BOUND_S * 1000, at_ms + SKEW_MS)
        )
        assert earliest - Fraction(1, 2) <= event.used_milliminutes <= latest + Fraction(1, 2), f"at {event.position}"
        if record.type == "QuotaExhausted":
            assert event.used_milliminutes >= event.quota_milliminutes
        else:
            assert event.used_milliminutes < event.quota_milliminutes


def nothing_is_charged_past_the_bound(log: Sequence[EventRecord], bound_s: Fraction) -> None:
    """When the boxes have stopped after an exhaustion, no more is charged than quota + Σ rate × bound."""
    for number, record in enumerate(log):
        if record.type != "QuotaExhausted":
            continue
        event = workspace_pb2.QuotaExhausted.FromString(record.payload.value)
        opened = next((n for n, one in enumerate(log[number:], number) if one.type in OPENINGS), len(log))
        known = log[:opened]
        running = _running_rates(log[:number])
        charged = minutes_by_month(known, known[-1].recorded_at_us // 1000)[record.workspace_id, event.period]
        allowed = Fraction(event.quota_milliminutes, 1000) + sum(running, Fraction(0)) * bound_s / 60
        # The event that a new quota or a refund brings says what was used already before it.
        allowed = max(allowed, Fraction(event.used_milliminutes, 1000) + sum(running, Fraction(0)) * bound_s / 60)
        assert charged <= allowed, f"after {record.position}: {float(charged):.3f} of {float(allowed):.3f}"


def _running_rates(log: Sequence[EventRecord]) -> list[Fraction]:
    rates: dict[str, Fraction] = {}
    for record in log:
        if record.type == "JobAssigned":
            assigned = job_pb2.JobAssigned.FromString(record.payload.value)
            rates[assigned.attempt_id] = Fraction(assigned.rate_micros, 10**6)
        elif record.type in OUTCOMES:
            rates.pop(_attempt_id(record), None)
    return list(rates.values())


def _attempt_id(record: EventRecord) -> str:
    attempt_id: str = getattr(job_pb2, record.type).FromString(record.payload.value).attempt_id
    return attempt_id


async def test_the_last_minutes_are_not_passed_by_more_than_the_bound_and_none_is_taken_back(
    database: DatabaseUrls, own_nats: SharedNats
) -> None:
    await race(database, own_nats, seed=1, jobs=60, boxes=12, longest_s=1.5)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [2, 3])
async def test_two_hundred_jobs_race_on_twenty_runners(database: DatabaseUrls, own_nats: SharedNats, seed: int) -> None:
    await race(database, own_nats, seed=seed, jobs=200, boxes=20, longest_s=2.0)
