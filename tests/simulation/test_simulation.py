"""The tether holds under ten thousand random schedules, and each of its rules is needed for that."""

import os

import pytest

from tests.simulation.mutations import MUTATIONS
from tests.simulation.runs import find_broken, pool, run_all
from tests.simulation.schedule import OPERATIONS, STEPS, run

SCHEDULES = int(os.environ.get("TETHER_SCHEDULES", "10000"))
FIRST_SEED = int(os.environ.get("TETHER_FIRST_SEED", "0"))
# So many schedules may pass before a broken rule is seen.
PATIENCE = 3000
# What must have come about by chance, besides the operations themselves.
SITUATIONS = [
    "a training was declared lost",
    "an outcome was corrected",
    "an agent found its keeper",
    "an agent wrote the end of an attempt whose keeper was gone",
    "a dead scheduler's session was ended",
    "a session that nobody holds was ended",
    "a commit ran out of patience",
    "a job was resumed",
    "a resumed job was repeated",
    "a copied key was refused",
    "a start found the disk full",
    "agent killed between two actions",
    "keeper killed between two actions",
    "scheduler killed between two actions",
]


@pytest.mark.timeout(900)
def test_no_schedule_of_faults_breaks_a_law(capsys: pytest.CaptureFixture[str]) -> None:
    seen, broken = run_all(FIRST_SEED, SCHEDULES)
    with capsys.disabled():
        print(f"\n{SCHEDULES} schedules of {STEPS} steps from seed {FIRST_SEED}; what they met:")
        for what, times in seen.most_common():
            print(f"  {times:8,}  {what}")
    if broken:
        first = broken[0]
        story = "\n".join(first.story)
        pytest.fail(f"{first.broken}; the whole story: python -m tests.simulation {first.seed}\n{story}", pytrace=False)
    missing = [what for what in (*OPERATIONS, *SITUATIONS) if not seen[what]]
    assert not missing, f"never seen: {missing}"


def test_the_same_seed_gives_the_same_schedule() -> None:
    assert run(7) == run(7)


@pytest.mark.timeout(900)
def test_each_rule_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    with pool() as workers:
        found = list(workers.map(find_broken, range(len(MUTATIONS)), [PATIENCE] * len(MUTATIONS)))
    with capsys.disabled():
        print("\nrules broken on purpose, and the first schedule that saw it:")
        for mutation, outcome in zip(MUTATIONS, found, strict=True):
            told = f"seed {outcome.seed}: {outcome.broken}" if outcome is not None else "NOT SEEN"
            print(f"  {mutation.name}\n      {told}")
    unseen = [mutation.name for mutation, outcome in zip(MUTATIONS, found, strict=True) if outcome is None]
    assert not unseen
