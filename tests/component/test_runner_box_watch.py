"""What the box is suspended by, looked at by the real watch with a driver and a disk that the test holds."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from runner_agent import clock, suspension
from runner_agent.box_watch import BOX_OWNER, HEALTH, BoxWatch, look_at_disk
from runner_agent.gpu_probe import GpuProbe
from runner_agent.health import GIB, DiskSeen, DriverSeen, TorchSeen
from runner_agent.session_messages import Input, Suspension
from runner_agent.single_call import SingleCall
from tests.support.eventually import eventually


class Watched:
    """Suspensions in the order in which they were fed."""

    def __init__(
        self,
        folder: Path,
        ask: Callable[[], DriverSeen] | None = None,
        ask_torch: Callable[[], TorchSeen | None] | None = None,
    ) -> None:
        self.path = folder / "suspension.json"
        self.fed: list[Input] = []
        self.free_bytes = 50 * GIB
        self.disk_error = False
        self.watch = BoxWatch(
            self.path,
            clock.boot_id(),
            self.look_at_disk,
            ask,
            self.fed.append,
            driver_timeout_s=0.1,
            driver_interval_s=0.02,
            ask_torch=ask_torch,
            torch_retry_s=0.01,
        )

    def look_at_disk(self) -> DiskSeen:
        if self.disk_error:
            raise OSError(5, "input/output error")
        return DiskSeen(100 * GIB, self.free_bytes)


@asynccontextmanager
async def watching(watched: Watched) -> AsyncIterator[None]:
    async def watch() -> None:
        await watched.watch.look()
        async with asyncio.TaskGroup() as group:
            watched.watch.start(group)

    task = asyncio.create_task(watch())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_a_driver_that_hangs_suspends_holds_one_thread_and_never_the_loop(tmp_path: Path) -> None:
    answer = threading.Event()
    calls: list[int] = []

    def ask() -> DriverSeen:
        calls.append(threading.get_ident())
        assert answer.wait(60)
        return DriverSeen()

    watched = Watched(tmp_path, ask)
    async with watching(watched):
        await eventually(lambda: watched.fed, what="a suspension")
        assert isinstance(watched.fed[0], Suspension)
        assert watched.fed[0].owner == HEALTH
        assert "did not answer" in (watched.fed[0].reason or "")
        # Several times the limit later it is still one call.
        with pytest.raises(AssertionError):
            await eventually(lambda: len(calls) > 1, timeout_s=0.5)
        answer.set()
        await eventually(lambda: watched.fed[-1] == Suspension(HEALTH, None), what="recovery")
        assert len(watched.fed) == 2


async def test_a_driver_that_fails_suspends_with_its_words_and_recovers_by_itself(tmp_path: Path) -> None:
    answers = [DriverSeen(), DriverSeen(error="GPU is lost"), DriverSeen(error="GPU is lost")]

    def ask() -> DriverSeen:
        if not answers:
            return DriverSeen()
        if len(answers) == 1:
            answers.pop()
            raise RuntimeError("unexpected")
        return answers.pop(0)

    watched = Watched(tmp_path, ask)
    async with watching(watched):
        await eventually(lambda: watched.fed and watched.fed[-1] == Suspension(HEALTH, None))
    reasons = [one.reason for one in watched.fed if isinstance(one, Suspension)]
    assert ["GPU is lost" in (one or "") for one in reasons] == [True, False, False]
    assert "unexpected" in (reasons[1] or "")


async def test_torch_that_cannot_use_the_gpus_suspends_after_the_first_hello_and_recovers(tmp_path: Path) -> None:
    answers: list[TorchSeen | None] = [None, TorchSeen("torch 1 is too old"), None, TorchSeen()]
    watched = Watched(tmp_path, ask_torch=lambda: answers.pop(0))
    await watched.watch.look()
    assert len(answers) == 4, "it takes seconds, and no Hello waits for it"
    async with watching(watched):
        await eventually(lambda: watched.fed[-1:] == [Suspension(HEALTH, None)])
    assert watched.fed == [Suspension(HEALTH, "torch 1 is too old"), Suspension(HEALTH, None)]


async def test_processes_that_do_not_die_suspend_until_they_are_gone(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    watched.watch.left_over("a1", "process 42 (python3, state D)")
    watched.watch.left_over("a1", "process 42 (python3, state D)")
    watched.watch.left_over("a1", "")
    assert [bool(one.reason) for one in watched.fed if isinstance(one, Suspension)] == [True, False]


async def test_a_call_that_hangs_is_not_joined_by_another(tmp_path: Path) -> None:
    release = threading.Event()
    calls: list[int] = []

    def hang() -> int:
        calls.append(1)
        assert release.wait(60)
        return 7

    single = SingleCall()
    for _ in range(5):
        with pytest.raises(TimeoutError):
            await single.run(hang, 0.02)
    assert len(calls) == 1
    release.set()
    await eventually(lambda: single.run(lambda: 8, 1.0))
    assert await single.run(hang, 5.0) == 7


async def test_what_holds_at_the_start_is_known_before_the_first_hello(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    watched.free_bytes = 0
    now = suspension.Now(clock.boot_id(), clock.boottime_ns(), clock.wall_ms())
    suspension.save(watched.path, suspension.make("demo", 3600, now))
    await watched.watch.look()
    assert [one.owner for one in watched.fed if isinstance(one, Suspension)] == [BOX_OWNER, HEALTH]
    await watched.watch.look()
    assert len(watched.fed) == 2, "nothing changed"
    watched.free_bytes = 50 * GIB
    suspension.lift(watched.path)
    await watched.watch.look()
    assert watched.fed[2:] == [Suspension(BOX_OWNER, None), Suspension(HEALTH, None)]


async def test_a_disk_that_cannot_be_looked_at_changes_nothing(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    watched.free_bytes = 0
    await watched.watch.look()
    watched.disk_error = True
    await watched.watch.look()
    assert len(watched.fed) == 1


def test_the_probes_look_at_the_real_box(tmp_path: Path) -> None:
    seen = look_at_disk(tmp_path)
    assert 0 < seen.free_bytes < seen.total_bytes
    # Here or on a box with another driver, nobody has this GPU.
    assert GpuProbe(("GPU-00000000-0000-0000-0000-000000000000",)).look().error
