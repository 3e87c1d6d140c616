"""Checkpoints that a repeat may need are told apart from those that nobody waits for."""

from typing import Any

from runner_agent.repeats import Seen, needed

NOW_MS = 1_794_744_000_000
LET_DOWN: dict[str, Any] = {"reason": "END_REASON_INFRASTRUCTURE", "ended_at_ms": NOW_MS - 1000}


def seen(attempt_id: str, job_id: str = "jb_1", **more: Any) -> Seen:
    known: dict[str, Any] = {"retries": 1, "ended": True, "reason": "", "ended_at_ms": NOW_MS - 1000}
    return Seen(attempt_id, job_id, **{**known, **more})


def test_a_job_that_may_be_repeated_keeps_what_all_its_attempts_have_saved() -> None:
    first = seen("at_1", **LET_DOWN)
    assert needed([first], NOW_MS) == {"at_1"}
    assert needed([first, seen("at_2", ended=False)], NOW_MS) == {"at_1", "at_2"}
    assert needed([seen("at_1", retries=2, **LET_DOWN), seen("at_2", retries=2, **LET_DOWN)], NOW_MS) == {
        "at_1",
        "at_2",
    }


def test_nobody_waits_for_a_job_that_is_over() -> None:
    assert needed([seen("at_1")], NOW_MS) == frozenset()
    assert needed([seen("at_1", reason="END_REASON_DATASET")], NOW_MS) == frozenset()
    assert needed([seen("at_1", **LET_DOWN), seen("at_2", **LET_DOWN)], NOW_MS) == frozenset(), "no repeat is left"
    assert needed([seen("at_1", **LET_DOWN), seen("at_2")], NOW_MS) == frozenset(), "it has finished"
    assert needed([seen("at_1", retries=0, **LET_DOWN)], NOW_MS) == frozenset()


def test_a_repeat_that_did_not_come_in_its_day_comes_no_more() -> None:
    day_ms = 24 * 3600 * 1000
    assert needed([seen("at_1", reason="END_REASON_HOST_REBOOTED", ended_at_ms=NOW_MS - day_ms)], NOW_MS)
    assert not needed([seen("at_1", **{**LET_DOWN, "ended_at_ms": NOW_MS - 2 * day_ms})], NOW_MS)


def test_jobs_are_judged_each_by_itself() -> None:
    others = [seen("at_1", "jb_1", **LET_DOWN), seen("at_2", "jb_2"), seen("at_3", "jb_3", ended=False)]
    assert needed(others, NOW_MS) == {"at_1", "at_3"}
