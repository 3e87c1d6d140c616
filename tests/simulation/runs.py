"""Many schedules over all cores."""

import multiprocessing
import os
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed

from tests.simulation.mutations import MUTATIONS
from tests.simulation.schedule import Outcome, run

CHUNK = 100


def run_chunk(first: int, count: int) -> tuple[Counter[str], list[Outcome]]:
    """Run `count` schedules from seed `first` on; what was seen, and those in which a law was broken."""
    seen: Counter[str] = Counter()
    broken = []
    for seed in range(first, first + count):
        outcome = run(seed)
        seen += outcome.seen
        if outcome.broken:
            broken.append(outcome)
    return seen, broken


def find_broken(mutation: int, most: int) -> Outcome | None:
    """The first schedule in which a law is broken under the mutation; None where `most` of them see nothing."""
    with MUTATIONS[mutation].applied():
        for seed in (MUTATIONS[mutation].seen_by, *range(most)):
            outcome = run(seed)
            if outcome.broken:
                return outcome
    return None


def pool() -> ProcessPoolExecutor:
    # Never forked: the process that asks may have used gRPC.
    return ProcessPoolExecutor(os.cpu_count(), mp_context=multiprocessing.get_context("spawn"))


def run_all(first: int, count: int) -> tuple[Counter[str], list[Outcome]]:
    seen: Counter[str] = Counter()
    broken: list[Outcome] = []
    with pool() as workers:
        starts: Iterable[int] = range(first, first + count, CHUNK)
        waiting = [workers.submit(run_chunk, start, min(CHUNK, first + count - start)) for start in starts]
        for done in as_completed(waiting):
            more, failed = done.result()
            seen += more
            broken += failed
            if broken:
                for one in waiting:
                    one.cancel()
                break
    return seen, broken
