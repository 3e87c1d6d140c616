"""What GPUs suspend a runner for, and when they are fit again."""

from hypothesis import given
from hypothesis import strategies as st

from runner_agent import gpu_health
from runner_agent.gpu_health import CRITICAL_ERROR_NS, HARMLESS_XIDS, GpuHealth, GpuSeen, Holder
from runner_agent.health import DiskSeen, DriverSeen, Health, LeftoverSeen, TorchSeen, judge
from runner_agent.trainer.devices import runs_on

GIB = 1024**3
GPU = "GPU 0 (NVIDIA A10G)"


def seen(**more: object) -> DriverSeen:
    return DriverSeen(gpus=(GpuSeen(GPU, 24 * GIB, **more),), now_ns=5)  # type: ignore[arg-type]


def reason_of(*looks: DriverSeen) -> str | None:
    health = Health()
    for look in looks:
        health = judge(health, look)
    return health.reason


def test_memory_that_is_broken_suspends_until_it_is_repaired() -> None:
    assert reason_of(seen()) is None
    assert "cannot be corrected; reset it" in (reason_of(seen(uncorrectable_errors=2)) or "")
    assert "take bad memory out of use; reboot" in (reason_of(seen(repair_pending=True)) or "")
    assert "have the GPU replaced" in (reason_of(seen(repair_failed=True, uncorrectable_errors=2)) or "")
    assert reason_of(seen(uncorrectable_errors=2), seen()) is None
    assert reason_of(seen(uncorrectable_errors=2)) == reason_of(seen(uncorrectable_errors=3))


@given(
    looks=st.lists(
        st.tuples(st.integers(0, 2 * CRITICAL_ERROR_NS), st.lists(st.sampled_from([13, 31, 43, 48, 79, 119, 999]))),
        max_size=20,
    )
)
def test_a_critical_error_suspends_for_its_time_and_a_programs_own_fault_never(
    looks: list[tuple[int, list[int]]],
) -> None:
    health, now_ns, last = GpuHealth(), 0, {}
    for pause_ns, xids in looks:
        now_ns += pause_ns
        health = gpu_health.judge(health, [GpuSeen(GPU, xids=tuple(xids))], now_ns)
        last.update({xid: now_ns for xid in xids if xid not in HARMLESS_XIDS})
        due = {xid for xid, at_ns in last.items() if now_ns < at_ns + CRITICAL_ERROR_NS}
        assert len(health.faults) == len(due)
        assert all(any(f"XID {xid}" in fault for fault in health.faults) for xid in due)


def test_a_foreign_program_is_told_when_it_stays_and_is_more_than_a_desktop() -> None:
    def held(*holders: Holder) -> DriverSeen:
        return seen(holders=holders)

    game, desktop = Holder(42, "game", 8 * GIB), Holder(43, "Xorg", GIB // 4)
    assert reason_of(held(game)) is None, "seen once, it may be gone"
    assert reason_of(held(desktop), held(desktop)) is None
    told = reason_of(held(game, desktop), held(game, desktop))
    assert told == f"{GPU} is held by game (pid 42); end it, or suspend the runner while you need the GPU"
    assert reason_of(held(game), held(Holder(42, "game", 9 * GIB))) == told, "the same cause, in other words"
    assert reason_of(held(game), held(game), held()) is None
    assert reason_of(held(game), held(Holder(44, "game", 8 * GIB))) is None


def test_what_is_known_of_the_gpus_stays_while_the_driver_does_not_answer() -> None:
    broken = seen(uncorrectable_errors=1)
    told = reason_of(broken, DriverSeen(in_time=False)) or ""
    assert "did not answer" in told
    assert "cannot be corrected" in told
    assert reason_of(broken, DriverSeen(error="GPU is lost"), seen()) is None


def test_a_leftover_is_told_as_it_was_first_seen_until_it_is_gone() -> None:
    health = judge(Health(), LeftoverSeen("a1", "process 42 (python3, state D)"))
    assert "process 42 (python3, state D) of the ended training a1 cannot be killed" in (health.reason or "")
    assert judge(health, LeftoverSeen("a1", "process 42 (python3, state R)")) == health
    assert judge(health, LeftoverSeen("a2")) == health
    both = judge(health, LeftoverSeen("a2", "process 43 (python3, state D)"))
    assert judge(judge(both, LeftoverSeen("a1")), LeftoverSeen("a2")) == Health()


def test_causes_of_all_kinds_are_told_together_and_lifted_alone() -> None:
    health = Health()
    for look in (DiskSeen(100 * GIB, 0), TorchSeen("torch 1 cannot"), seen(repair_pending=True)):
        health = judge(health, look)
    assert (health.reason or "").count("; ") >= 3
    assert "torch 1 cannot" in (health.reason or "")
    health = judge(judge(health, TorchSeen()), seen())
    assert health == judge(Health(), DiskSeen(100 * GIB, 0))


def test_a_build_of_torch_runs_on_a_gpu_that_it_has_code_for() -> None:
    assert runs_on((8, 6), ["sm_80"])
    assert not runs_on((8, 0), ["sm_86"])
    assert not runs_on((9, 0), ["sm_80", "sm_86"])
    assert runs_on((9, 0), ["sm_80", "compute_80"])
    assert not runs_on((7, 5), ["sm_80", "compute_80"])
    assert runs_on((9, 0), ["sm_90a"])
    assert not runs_on((9, 1), ["sm_90a", "compute_90a"])
    assert runs_on((10, 3), ["sm_100f"])
    assert runs_on((12, 0), ["sm_120"])
    assert runs_on((3, 5), []), "a build that does not say is not refused for it"
