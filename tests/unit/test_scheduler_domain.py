"""The rules of runners and attempts, as laws: given what happened, when this is asked, then these events follow."""

from itertools import product

import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st

from protos.events.v1.job_pb2 import ChargedInterval, JobFinished, JobKilled, JobKillRequested, JobSubmitted
from protos.events.v1.runner_pb2 import (
    RunnerResumed,
    RunnerSecretKeyRegenerated,
    RunnerStatus,
    RunnerSuspended,
    SuspensionOwner,
)
from protos.scheduler.v1.job_pb2 import JobState
from protos.training.v1.training_pb2 import EndReason
from services.scheduler.domain import attempt, placement, session
from services.scheduler.domain.placement import Rates
from services.scheduler.domain.refusals import (
    BelowRequirements,
    HeldByAnotherInstallation,
    JobIsOver,
    RunnerNotOnline,
    StaleReport,
)
from services.scheduler.domain.runner import Runner, lift_expired, resume, status_of, suspend
from tests.support import given
from tests.support.given import T0, WINDOW_MS, types

RATES = Rates({"T4": 1_000_000, "A10G": 2_500_000, "A100": 5_000_000, "A100 80GB": 5_500_000}, 1_000_000)
BOX_OWNER, ADMIN = SuspensionOwner.SUSPENSION_OWNER_BOX_OWNER, SuspensionOwner.SUSPENSION_OWNER_ADMIN
GONE_MS = T0 + attempt.lost_after_ms(WINDOW_MS)


def test_status_is_a_function_of_session_suspension_and_held_attempt() -> None:
    expected = {
        (False, False, False): "OFFLINE",
        (False, True, False): "OFFLINE",
        (True, False, False): "ONLINE",
        (True, True, False): "SUSPENDED",
    }
    for facts in product((False, True), repeat=3):
        label = RunnerStatus.Name(status_of(*facts)).removeprefix("RUNNER_STATUS_")
        assert label == expected.get(facts, "OCCUPIED")


def test_each_suspension_is_lifted_by_its_own_owner_only() -> None:
    both = given.runner(given.connected(), RunnerSuspended(owner=BOX_OWNER), RunnerSuspended(owner=ADMIN))
    assert [s.owner for s in both.suspensions] == [BOX_OWNER, ADMIN]
    lifted = given.runner(given.connected(), RunnerSuspended(owner=BOX_OWNER))
    assert resume(lifted, ADMIN, T0) == []
    assert types(resume(lifted, BOX_OWNER, T0))[0] == "RunnerResumed"


def test_a_suspension_for_a_time_ends_by_itself_and_no_other_does() -> None:
    both = given.runner(
        given.connected(), RunnerSuspended(owner=ADMIN, until_ms=T0 + 1000), RunnerSuspended(owner=BOX_OWNER)
    )
    assert lift_expired(both, T0 + 999) == []
    assert lift_expired(both, T0 + 1000)[0] == RunnerResumed(owner=ADMIN)


def test_a_suspended_runner_keeps_the_job_that_it_has() -> None:
    busy = given.runner(given.connected(), given.online(), given.occupied())
    assert types(suspend(busy, ADMIN, "", 0, T0)) == ["RunnerSuspended"]


def test_a_key_belongs_to_the_first_installation_that_uses_it() -> None:
    held = given.runner(given.connected("i-1"))
    with pytest.raises(HeldByAnotherInstallation, match="in use by the installation on host"):
        session.connect(held, None, given.hello("i-2"), "r", T0)
    assert types(session.connect(held, None, given.hello("i-1"), "r", T0)[0])[0] == "RunnerConnected"


def test_an_older_session_cannot_end_a_newer_one() -> None:
    newer = given.runner(given.connected(), given.connected())
    assert session.disconnect(newer, None, newer.epoch - 1, T0, "", T0) == ([], [])
    assert types(session.disconnect(newer, None, newer.epoch, T0, "", T0)[0])[0] == "RunnerDisconnected"


def test_a_runner_on_whose_box_an_earlier_attempt_lives_is_not_given_another() -> None:
    haunted = given.runner(given.connected(live=("at_0",)), given.online())
    assert haunted.status == RunnerStatus.RUNNER_STATUS_ONLINE
    assert not haunted.placeable
    assert not placement.matches(haunted, given.job())


def test_a_runner_is_given_another_as_soon_as_its_box_says_that_the_earlier_attempt_is_over() -> None:
    presumed = ChargedInterval(started_at_ms=T0, charged_until_ms=T0 + WINDOW_MS, presumed=True)
    lost = given.job(given.assigned(), given.started(), given.unreachable(T0), JobKilled(interval=presumed))
    back = (given.connected(), given.occupied(), given.disconnected(), given.connected(live=("at_1",)), given.online())
    haunted = given.runner(*back)
    assert not haunted.placeable
    _, runner_events = attempt.report(lost, haunted, given.says_ended(T0, T0 + 5000), GONE_MS + 1)
    assert given.runner(*back, *runner_events).placeable


def test_a_silent_runner_keeps_its_attempt_and_says_when_the_training_ends_itself() -> None:
    busy = given.runner(given.connected(), given.online(), given.occupied())
    runner_events, job_events = session.disconnect(
        busy, given.job(given.assigned(), given.started()), busy.epoch, T0, "", T0 + 15_000
    )
    assert types(runner_events) == ["RunnerDisconnected"], "it stays OCCUPIED"
    assert types(job_events) == ["JobUnreachable"]
    assert job_events[0].deadline_at_ms == T0 + WINDOW_MS  # type: ignore[attr-defined]


def test_a_runner_is_not_freed_before_its_training_must_have_ended() -> None:
    cut = given.job(given.assigned(), given.started(), given.unreachable(T0))
    away = given.runner(given.connected(), given.online(), given.occupied(), given.disconnected(T0))
    assert attempt.lost(cut, away, GONE_MS - 1) == ([], [])
    job_events, runner_events = attempt.lost(cut, away, GONE_MS)
    assert types(job_events) == ["JobKilled"]
    assert types(runner_events) == ["RunnerStatusChanged"]
    assert GONE_MS - T0 == WINDOW_MS + 30_000 + 18_000 + 5_000


def test_a_lost_training_is_charged_to_last_contact_plus_window_and_says_that_this_is_presumed() -> None:
    cut = given.job(given.assigned(), given.started(T0 - 60_000), given.unreachable(T0))
    away = given.runner(given.connected(), given.occupied(), given.disconnected(T0))
    (killed,), _ = attempt.lost(cut, away, GONE_MS)
    assert isinstance(killed, JobKilled)
    assert killed.reason == EndReason.END_REASON_CONNECTION_LOST
    assert (killed.interval.started_at_ms, killed.interval.charged_until_ms) == (T0 - 60_000, T0 + WINDOW_MS)
    assert killed.interval.presumed


def test_a_training_that_ends_because_its_box_has_no_valid_key_says_so_with_who_and_when() -> None:
    busy = given.runner(given.connected(), given.online(), given.occupied(), RunnerSecretKeyRegenerated())
    running = given.job(given.assigned(), given.started())
    _, (cut,) = session.disconnect(busy, running, busy.epoch, T0, "", T0 + 15_000)
    lost_job = given.job(given.assigned(), given.started(), cut)
    away = given.runner(given.connected(), given.occupied(), given.disconnected(T0))
    (killed,), _ = attempt.lost(lost_job, away, GONE_MS)
    assert isinstance(killed, JobKilled)
    assert killed.reason == EndReason.END_REASON_SECRET_KEY_REGENERATED
    assert "was regenerated by" in killed.message


def test_a_key_that_still_works_is_not_blamed_for_a_cut() -> None:
    overlap = RunnerSecretKeyRegenerated(old_key_valid_until_ms=T0 + 3_600_000)
    busy = given.runner(given.connected(), given.online(), given.occupied(), overlap)
    _, (cut,) = session.disconnect(busy, given.job(given.assigned()), busy.epoch, T0, "", T0 + 15_000)
    assert cut.reason == EndReason.END_REASON_CONNECTION_LOST  # type: ignore[attr-defined]


def test_a_lost_training_that_never_started_costs_nothing() -> None:
    cut = given.job(given.assigned(), given.unreachable(T0))
    away = given.runner(given.connected(), given.occupied(), given.disconnected(T0))
    (killed,), _ = attempt.lost(cut, away, GONE_MS)
    assert isinstance(killed, JobKilled)
    assert killed.interval == ChargedInterval(presumed=True)


def test_what_the_box_tells_later_replaces_what_was_presumed() -> None:
    presumed = ChargedInterval(started_at_ms=T0, charged_until_ms=T0 + WINDOW_MS, presumed=True)
    lost = given.job(given.assigned(), given.started(), given.unreachable(T0), JobKilled(interval=presumed))
    back = given.runner(given.connected(), given.online())
    (corrected,), runner_events = attempt.report(lost, back, given.says_ended(T0, T0 + 5000), GONE_MS + 1)
    assert corrected.DESCRIPTOR.name == "JobOutcomeCorrected"
    assert corrected.corrects_position == lost.outcome_position  # type: ignore[attr-defined]
    after = given.job(given.assigned(), given.started(), JobKilled(interval=presumed), corrected)
    assert after.state == JobState.JOB_STATE_FINISHED
    assert after.interval.charged_until_ms == T0 + 5000
    assert runner_events == [], "the runner was freed before"


def test_a_report_that_is_repeated_changes_nothing() -> None:
    busy = given.runner(given.connected(), given.occupied())
    running = given.job(given.assigned(), given.started())
    assert attempt.report(running, busy, given.says_started(T0), T0) == ([], [])


def test_a_report_on_another_attempt_is_refused() -> None:
    busy = given.runner(given.connected(), given.occupied("at_2"))
    with pytest.raises(StaleReport):
        attempt.report(given.job(given.assigned("at_2")), busy, given.says_started(T0), T0)


def test_the_grace_for_saving_a_checkpoint_is_free() -> None:
    busy = given.runner(given.connected(), given.occupied())
    stopping = given.job(given.assigned(), given.started(T0), JobKillRequested(reason=1, message="enough"))
    (killed,), _ = attempt.report(stopping, busy, given.says_ended(T0, T0 + 9000, stop_ms=T0 + 4000), T0 + 10_000)
    assert isinstance(killed, JobKilled)
    assert (killed.interval.charged_until_ms, killed.interval.ended_at_ms) == (T0 + 4000, T0 + 9000)
    assert killed.message == "enough", "who asked for the end knows why"


@for_all(at_ms=st.integers(-(10**15), 10**15), end_ms=st.integers(-(10**15), 10**15), stop_ms=st.integers(0, 10**15))
def test_whatever_clock_a_box_has_it_is_charged_within_what_is_possible(at_ms: int, end_ms: int, stop_ms: int) -> None:
    busy = given.runner(given.connected(), given.occupied())
    now_ms = T0 + 60_000
    told = given.says_ended(at_ms, end_ms, stop_ms)
    (outcome,), _ = attempt.report(given.job(given.assigned()), busy, told, now_ms)
    assert isinstance(outcome, JobFinished | JobKilled)
    interval = outcome.interval
    assert T0 <= interval.started_at_ms <= interval.charged_until_ms <= interval.ended_at_ms <= now_ms


def test_a_waiting_job_is_stopped_at_once_a_running_one_through_its_box_and_one_that_is_over_not_at_all() -> None:
    reason = EndReason.END_REASON_STOPPED_BY_PERSON
    assert types(attempt.stop(given.job(), reason, "")) == ["JobKillRequested", "JobKilled"]
    assert types(attempt.stop(given.job(given.assigned()), reason, "")) == ["JobKillRequested"]
    with pytest.raises(JobIsOver, match="FINISHED already"):
        attempt.stop(given.job(given.assigned(), JobFinished()), reason, "")


def test_a_job_that_waits_too_long_expires_and_one_that_runs_does_not() -> None:
    assert attempt.expire(given.job(), None, T0 + 999) == []
    assert types(attempt.expire(given.job(), None, T0 + 1000)) == ["JobKilled"]
    assert attempt.expire(given.job(given.assigned()), None, T0 + 1000) == []


@pytest.mark.parametrize(
    ("gpu", "micros"),
    [
        ("Tesla T4", 1_000_000),
        ("NVIDIA A10G", 2_500_000),
        ("NVIDIA A100-SXM4-40GB", 5_000_000),
        ("NVIDIA A100 80GB PCIe", 5_500_000),
        ("NVIDIA T400", 1_000_000),  # not a T4: no name matches, so the rule for unlisted GPUs
    ],
)
def test_a_gpu_is_charged_by_the_longest_name_that_its_type_contains(gpu: str, micros: int) -> None:
    assert RATES.of_gpu(gpu) == micros


def test_the_rate_sums_over_the_gpus_and_advanced_evaluation_multiplies_it() -> None:
    job = given.job()
    job.spec.advanced_evaluation.enabled = True
    box = given.runner(given.connected())
    assert box.inventory is not None
    box.inventory.CopyFrom(given.inventory("NVIDIA A10G", "Tesla T4"))
    (assigned,) = placement.assign(job, box, "at_1", RATES, WINDOW_MS).job_events
    assert assigned.rate_micros == (2_500_000 + 1_000_000) * 3 // 2  # type: ignore[attr-defined]
    assert [gpu.multiplier_micros for gpu in assigned.gpus] == [2_500_000, 1_000_000]  # type: ignore[attr-defined]


def test_below_the_minimum_is_refused_with_both_numbers_and_below_the_recommended_is_warned_of() -> None:
    job = given.job()
    job.spec.architecture.CopyFrom(given.spec(vram_gib=16).architecture)
    box = given.runner(given.connected(), given.online())
    assert "recommended" not in str(placement.shortfall(box, job.spec.architecture))
    assert placement.warnings_for(box, job.spec.architecture) == [
        "net runs best with 32.0 GiB of VRAM per GPU; runner box has 24.0 GiB"
    ]
    too_much = given.spec(vram_gib=48).architecture
    short = placement.shortfall(box, too_much)
    assert isinstance(short, BelowRequirements)
    assert "at least 48.0 GiB of VRAM per GPU, runner box has 24.0 GiB" in str(short)


def test_of_several_free_runners_the_one_that_costs_least_is_taken() -> None:
    cheap = given.runner(given.connected(), given.online())
    dear = Runner(
        "rn_2",
        "ws_1",
        1,
        "dear",
        T0,
        inventory=given.inventory("NVIDIA A100"),
        status=RunnerStatus.RUNNER_STATUS_ONLINE,
        connected=True,
    )
    placed = placement.submit(JobSubmitted(spec=given.spec()), None, [dear, cheap], given.job(), "at_1", RATES, 1)
    assert placed.runner is cheap
    with pytest.raises(RunnerNotOnline):
        placement.submit(JobSubmitted(spec=given.spec()), given.runner(), [], given.job(), "at_1", RATES, 1)
