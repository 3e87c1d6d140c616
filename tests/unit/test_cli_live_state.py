"""What the live view concludes from a job and its curves."""

from hypothesis import given
from hypothesis import strategies as st

from protos.events.v1.job_pb2 import ChargedInterval
from protos.metrics.v1.metrics_pb2 import Series
from protos.scheduler.v1 import job_pb2 as pb
from protos.training.v1.training_pb2 import Checkpoint, CheckpointStrategy, Limits, TrainingSpec
from services.cli.live_state import Curve, LiveState

START_MS = 1_794_744_000_000
LIMITS = st.builds(Limits, epochs=st.integers(0, 50), steps=st.integers(0, 5000), minutes=st.integers(0, 60))


def job(**more: object) -> pb.Job:
    known = {"job_id": "jb_a", "state": pb.JOB_STATE_RUNNING, "rate_micros": 2_500_000, "version": 3}
    return pb.Job(**{**known, "interval": ChargedInterval(started_at_ms=START_MS), **more})  # type: ignore[arg-type]


def series(name: str, *points: tuple[int, float]) -> Series:
    return Series(name=name, steps=[step for step, _ in points], values=[value for _, value in points])


def test_the_first_evaluation_tells_the_length_of_an_epoch_and_so_of_the_training() -> None:
    state = LiveState(job(spec=TrainingSpec(limits=Limits(epochs=20))))
    state.take_series([series("train/loss", (10, 2.0))], fresh=True)
    assert (state.total_steps(), state.share_done(START_MS)) == (0, None)
    state.take_series([series("train/loss", (30, 1.0)), series("validation/loss", (22, 1.5))], fresh=False)
    assert (state.steps_per_epoch(), state.total_steps(), state.epoch()) == (22, 440, 2)
    assert state.share_done(START_MS) == 30 / 440


def test_with_an_interval_of_its_own_an_epoch_is_told_by_checkpoints_only() -> None:
    spec = TrainingSpec(limits=Limits(epochs=20), checkpoint_strategy=CheckpointStrategy(evaluation_interval_steps=5))
    state = LiveState(job(spec=spec))
    state.take_series([series("validation/loss", (5, 1.5))], fresh=True)
    assert state.total_steps() == 0
    state.take_job(job(spec=spec, version=4, checkpoints=[Checkpoint(step=45, epoch=2)]))
    assert state.steps_per_epoch() == 23


def test_the_nearer_limit_decides() -> None:
    state = LiveState(job(spec=TrainingSpec(limits=Limits(steps=100, minutes=1)), evaluated_step=10))
    assert state.share_done(START_MS + 30_000) == 0.5
    state.take_job(job(spec=TrainingSpec(limits=Limits(steps=100, minutes=1)), evaluated_step=80, version=4))
    assert state.share_done(START_MS + 30_000) == 0.8


@given(LIMITS, st.integers(0, 10_000), st.integers(-10_000, 10**8))
def test_a_share_is_a_share_whatever_the_clock_and_the_limits(limits: Limits, step: int, after_ms: int) -> None:
    state = LiveState(job(spec=TrainingSpec(limits=limits), evaluated_step=step))
    share, left_ms = state.share_done(START_MS + after_ms), state.left_ms(START_MS + after_ms)
    assert share is None or 0 <= share <= 1
    assert left_ms is None or left_ms >= 0
    assert state.charged_milliminutes(START_MS + after_ms) >= 0


def test_minutes_of_a_training_that_is_cut_off_stop_at_its_deadline() -> None:
    state = LiveState(job(deadline_at_ms=START_MS + 120_000))
    assert state.cut_off
    assert state.charged_milliminutes(START_MS + 60_000) == 2_500
    assert state.charged_milliminutes(START_MS + 3_600_000) == 5_000


def test_minutes_of_an_ended_training_leave_out_its_free_grace() -> None:
    interval = ChargedInterval(
        started_at_ms=START_MS, charged_until_ms=START_MS + 60_000, ended_at_ms=START_MS + 80_000
    )
    state = LiveState(job(state=pb.JOB_STATE_KILLED, interval=interval))
    assert (state.charged_milliminutes(0), state.elapsed_ms(0)) == (2_500, 80_000)


def test_an_older_view_of_the_job_changes_nothing() -> None:
    state = LiveState(job(version=5, state=pb.JOB_STATE_FINISHED))
    state.take_job(job(version=4))
    assert state.over


def test_a_stream_that_was_opened_again_doubles_no_point() -> None:
    state = LiveState(job())
    for _ in range(2):
        state.take_series([series("train/loss", (1, 2.0), (2, 1.0))], fresh=True)
    state.take_series([series("train/loss", (3, 0.5))], fresh=False)
    assert state.curves["train/loss"].steps == [1, 2, 3]


@given(st.lists(st.integers(1, 900), min_size=1, max_size=20))
def test_a_curve_stays_small_in_order_and_keeps_its_newest_point(batches: list[int]) -> None:
    curve, step = Curve(), 0
    for size in batches:
        steps = range(step + 1, step + size + 1)
        curve.extend(steps, [float(one) for one in steps])
        step += size
    assert len(curve.values) <= 2000
    assert curve.steps == sorted(curve.steps)
    assert (curve.steps[-1], curve.last, curve.first_step) == (step, float(step), 1)
    assert [float(one) for one in curve.steps] == curve.values
