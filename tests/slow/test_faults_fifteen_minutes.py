"""The central promise in real time: a training that is cut off ends itself after 15 minutes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from protos.events.v1.job_pb2 import JobUnreachable
from protos.scheduler.v1 import job_pb2, workflow_pb2
from protos.training.v1.training_pb2 import EndReason, Limits
from runner_agent import clock
from tests.support.box_process import RUNNER, run
from tests.support.eventually import eventually
from tests.support.faults import box_on, platform_with_window
from tests.support.keeper_under_test import alive
from tests.support.loop_thread import LoopThread
from tests.support.namespaces import Namespace, namespace
from tests.support.platform import SharedPlatform

pytestmark = [pytest.mark.slow, pytest.mark.namespaces, pytest.mark.timeout(1_500)]

WINDOW_S = 900
GRACE_S = 30
HEARTBEAT_S = 5
# A training that would take hours, on one thread and behind everything else on the machine.
GENTLY = ("env", "OMP_NUM_THREADS=1", "nice", "-n", "19")


@pytest.fixture
def patient_platform(shared_loop: LoopThread, tmp_path: Path) -> Iterator[SharedPlatform]:
    with platform_with_window(shared_loop, tmp_path / "platform", WINDOW_S * 1000, for_namespaces=True) as platform:
        yield platform


@pytest.fixture
def apart(shared_loop: LoopThread) -> Iterator[Namespace]:
    with namespace(shared_loop) as apart:
        yield apart


async def test_a_training_that_is_cut_off_ends_itself_between_15_00_and_15_30(
    patient_platform: SharedPlatform, apart: Namespace, tmp_path: Path
) -> None:
    async with box_on(patient_platform, tmp_path, "box", (*apart.enter, *GENTLY), gated=False) as stack:
        box = stack.faulty
        digits = tmp_path / "digits"
        code, output = await run(RUNNER, "sample", "digits", str(digits), env={"COLUMNS": "200"})
        assert code == 0, output
        registered = workflow_pb2.RegisterDatasetRequest(name="digits", location=str(digits))
        await stack.call(stack.workflows.RegisterDataset, registered)
        await eventually(box.ready, 90, "a warm trainer")
        job = await stack.submit(dataset_id="digits", limits=Limits(epochs=100_000))
        await eventually(lambda: stack.running(job.job_id), 60, "a running training")
        trainer_pid = box.pid("trainer", job.attempt_id)

        heard_ns = box.last_ack_ns()
        await eventually(lambda: box.last_ack_ns() > heard_ns, 30, "an acknowledged heartbeat")
        apart.wire.cut()
        cut_ns = clock.boottime_ns()
        await eventually(lambda: not alive(trainer_pid), WINDOW_S + 2 * GRACE_S, "the end of the training")
        gone_after_s = (clock.boottime_ns() - cut_ns) / 1e9
        assert WINDOW_S - 1 <= gone_after_s <= WINDOW_S + GRACE_S, f"gone {gone_after_s:.1f} s after the cut"
        phase = box.attempt(job.attempt_id).phase()
        stopped_after_s = (phase["stop_began_boottime_ns"] - cut_ns) / 1e9
        assert phase["stop_reason"] == "END_REASON_CONNECTION_LOST"
        apart.wire.mend()

        done = await stack.over(job.job_id, 120)
        assert (done.state, done.reason) == (job_pb2.JOB_STATE_KILLED, EndReason.END_REASON_CONNECTION_LOST)
        await eventually(stack.online, 60, "the runner online again")
        history = await stack.history(job.job_id)
        types = [record.type for record in history]
        assert types.count("JobStarted") == types.count("JobUnreachable") == types.count("JobKilled") == 1, types
        unreachable = next(record for record in history if record.type == "JobUnreachable")
        last_contact_ms = JobUnreachable.FromString(unreachable.payload.value).last_contact_at_ms
        charged_after_s = (done.interval.charged_until_ms - last_contact_ms) / 1000
        print(
            f"stop began {stopped_after_s:.2f} s and the process was gone {gone_after_s:.2f} s after the cut; "
            f"charged until {charged_after_s:.2f} s after last contact"
        )
        assert WINDOW_S - 1 <= charged_after_s <= WINDOW_S
        assert not done.interval.presumed
        ran_s = (phase["stop_began_boottime_ns"] - phase["started_boottime_ns"]) / 1e9
        charged_s = (done.interval.charged_until_ms - done.interval.started_at_ms) / 1000
        assert abs(charged_s - ran_s) <= 1, f"{charged_s} s charged, {ran_s} s ran"
        saved = box.attempt(job.attempt_id).path.joinpath("checkpoints")
        assert any(saved.iterdir()), "a checkpoint was saved in the grace"
        verified = await stack.verified()
        assert verified.equal, verified.differences
