"""A box in another network namespace, and a wire between that is cut, both ways or one way, or loses and delays."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from protos.events.v1.job_pb2 import JobKilled, JobUnreachable
from protos.scheduler.v1 import job_pb2
from protos.training.v1.training_pb2 import EndReason
from tests.support.eventually import eventually
from tests.support.faults import TOLERANCE_MS, WINDOW_MS, FaultStack, box_on, passes, platform_with_window, together
from tests.support.loop_thread import LoopThread
from tests.support.namespaces import NOTHING_PASSES, Conditions, Wire, namespace
from tests.support.platform import SharedPlatform

pytestmark = pytest.mark.namespaces

# From an acknowledged heartbeat on: the next one is lost.
SHORTER_S = 7.0
# Past the window and the silence after which the platform says that the box cannot be reached.
LONGER_S = 20.0
HEARTBEATS = 3
LOSSY = Conditions(loss=0.1, duplicates=0.02, delay_s=0.3, jitter_s=0.1)

Case = Callable[[FaultStack, Wire, Callable[[Wire], None]], Awaitable[None]]


def cut(wire: Wire) -> None:
    wire.cut()


def lose_acknowledgements(wire: Wire) -> None:
    wire.to_box = NOTHING_PASSES


def lose_heartbeats(wire: Wire) -> None:
    wire.to_platform = NOTHING_PASSES


def pull(wire: Wire) -> None:
    wire.pull()


def lose_some(wire: Wire) -> None:
    wire.to_box = wire.to_platform = LOSSY


WAYS = {"cut": cut, "acknowledgements": lose_acknowledgements, "heartbeats": lose_heartbeats, "pulled": pull}


@pytest.fixture(scope="module")
def far_platform(shared_loop: LoopThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedPlatform]:
    folder = tmp_path_factory.mktemp("partition") / "platform"
    with platform_with_window(shared_loop, folder, for_namespaces=True) as platform:
        yield platform


@asynccontextmanager
async def far_box(
    loop: LoopThread, platform: SharedPlatform, folder: Path, name: str
) -> AsyncIterator[tuple[FaultStack, Wire]]:
    with namespace(loop) as apart:
        async with box_on(platform, folder, name, apart.enter) as stack:
            yield stack, apart.wire


async def _each_way(loop: LoopThread, platform: SharedPlatform, folder: Path, cases: dict[str, Case]) -> None:
    """The cases at once, each with a box of its own; the last word of a case is its way to part the box."""
    async with AsyncExitStack() as boxes:
        running = {}
        for name, case in cases.items():
            stack, wire = await boxes.enter_async_context(far_box(loop, platform, folder, name))
            running[name] = case(stack, wire, {**WAYS, "lossy": lose_some}[name.rpartition("-")[2]])
        await together(running)


async def test_a_partition_shorter_than_the_window_and_a_slow_and_lossy_link_harm_nothing(
    shared_loop: LoopThread, far_platform: SharedPlatform, tmp_path: Path
) -> None:
    cases: dict[str, Case] = {f"shorter-{way}": _is_cut_off_briefly for way in WAYS}
    await _each_way(shared_loop, far_platform, tmp_path, {**cases, "link-lossy": _has_a_bad_link})


async def _is_cut_off_briefly(stack: FaultStack, wire: Wire, part: Callable[[Wire], None]) -> None:
    job = await stack.trains()
    heard_ns = await stack.faulty.just_heard()
    part(wire)
    await passes(SHORTER_S)
    assert stack.faulty.last_ack_ns() == heard_ns, "nothing was acknowledged meanwhile"
    _mend(wire)
    await eventually(lambda: stack.faulty.last_ack_ns() > heard_ns, WINDOW_MS / 1000 - SHORTER_S, "contact")
    await stack.goes_on(job)
    await _nothing_is_lost(stack, job)


async def _has_a_bad_link(stack: FaultStack, wire: Wire, spoil: Callable[[Wire], None]) -> None:
    job = await stack.trains()
    spoil(wire)
    for _ in range(HEARTBEATS):
        await stack.faulty.just_heard()
        await stack.goes_on(job)
    await _nothing_is_lost(stack, job)
    assert wire.lost > 0


async def _nothing_is_lost(stack: FaultStack, job: job_pb2.Job) -> None:
    done = await stack.finishes(job)
    assert not {"JobUnreachable", "JobOutcomeCorrected"} & set(await stack.types(job.job_id))
    await stack.has_everything(done)


async def test_a_partition_longer_than_the_window_ends_the_training_on_its_box(
    shared_loop: LoopThread, far_platform: SharedPlatform, tmp_path: Path
) -> None:
    await _each_way(shared_loop, far_platform, tmp_path, {f"longer-{way}": _ends_itself for way in WAYS})


@pytest.mark.slow
async def test_a_training_that_is_not_heard_of_is_presumed_to_have_ended_until_its_box_tells_the_truth(
    shared_loop: LoopThread, far_platform: SharedPlatform, tmp_path: Path
) -> None:
    await _each_way(shared_loop, far_platform, tmp_path, {"presumed-cut": _is_presumed_and_corrected})


async def _part_for_longer(stack: FaultStack, wire: Wire, part: Callable[[Wire], None]) -> job_pb2.Job:
    """The box ends the training at its deadline, without asking anyone."""
    job = await stack.trains()
    box = stack.faulty
    heard_ns = await box.just_heard()
    part(wire)
    await eventually(lambda: box.observed(job.attempt_id, "ended"), WINDOW_MS / 1000 + 5, "the end of the training")
    stopped_ns = box.observed(job.attempt_id, "stopping")[0]["boottime_ns"]
    assert -1 <= (stopped_ns - heard_ns) / 1e9 - WINDOW_MS / 1000 <= 1
    return job


async def _ends_itself(stack: FaultStack, wire: Wire, part: Callable[[Wire], None]) -> None:
    job = await _part_for_longer(stack, wire, part)
    await passes(LONGER_S - WINDOW_MS / 1000)
    _mend(wire)
    done = await stack.ended_itself(job)
    assert "JobOutcomeCorrected" not in await stack.types(job.job_id)
    await stack.charges_what_ran(done)
    await stack.has_everything(done)
    await stack.runs_another(done)


async def _is_presumed_and_corrected(stack: FaultStack, wire: Wire, part: Callable[[Wire], None]) -> None:
    """Not heard for long enough, the training is said to have ended; later the box says what is true."""
    job = await _part_for_longer(stack, wire, part)
    presumed = await stack.over(job.job_id, 90)
    assert (presumed.state, presumed.reason) == (job_pb2.JOB_STATE_KILLED, EndReason.END_REASON_CONNECTION_LOST)
    history = {record.type: record for record in await stack.history(job.job_id)}
    unreachable = JobUnreachable.FromString(history["JobUnreachable"].payload.value)
    killed = JobKilled.FromString(history["JobKilled"].payload.value)
    said_after_ms = history["JobKilled"].recorded_at_us / 1000 - unreachable.last_contact_at_ms
    assert said_after_ms >= WINDOW_MS + 30_000 + WINDOW_MS // 50 + 5_000
    assert killed.interval.presumed
    assert killed.interval.charged_until_ms == unreachable.last_contact_at_ms + WINDOW_MS
    assert not await stack.online()

    _mend(wire)

    async def corrected() -> bool:
        return "JobOutcomeCorrected" in await stack.types(job.job_id)

    await eventually(corrected, 60, "the truth of the box")
    done = await stack.ended_itself(job)
    assert (await stack.types(job.job_id)).count("JobOutcomeCorrected") == 1
    assert done.interval.charged_until_ms <= killed.interval.charged_until_ms + TOLERANCE_MS
    await stack.charges_what_ran(done)
    await stack.has_everything(done)
    await stack.runs_another(done)


def _mend(wire: Wire) -> None:
    wire.mend()
    wire.plug()
