"""The platform as a whole: scheduler processes that come and go, the keys, and what people ask for."""

from collections.abc import Callable
from functools import partial
from typing import Any

from services.scheduler.domain import placement, stream
from services.scheduler.domain import runner as runners
from tests.simulation.log import Log, Record
from tests.simulation.replica import Replica
from tests.simulation.world import MS, SECOND, World, when

RATES = placement.Rates({}, unlisted_micros=1_000_000)


class Platform:
    """The scheduler processes, the keys, and what people ask for."""

    def __init__(self, world: World, window_ms: int, replicas: int) -> None:
        self.world, self.window_ms = world, window_ms
        self.log = Log(world)
        # Record position → version of its stream, for RunnerConnected.
        self.epochs: dict[int, int] = {}
        # Runner → number of its newest key, and until when the one before it works.
        self.keys: dict[str, int] = {}
        self.old_key_until: dict[str, int] = {}
        # Runner and key → since when it is refused.
        self._refused: dict[tuple[str, int], int] = {}
        # When a message of the runner was last read by a process with a lease.
        self.heard_ms: dict[str, int] = {}
        self.replicas: list[Replica] = []
        self._names = 0
        self._attempts = 0
        self.on_acknowledge: Callable[[str, int, int], None] = lambda _runner, _key, _thawed_at: None
        self.log.on_append.append(self._appended)
        for _ in range(replicas):
            self.start_replica()
        self._elect()

    def ms(self, moment: int) -> int:
        return self.world.now_ms - (self.world.now - moment) // MS

    def start_replica(self) -> None:
        self._names += 1
        self.replicas.append(Replica(self.world, self.log, f"replica-{self._names}", self))

    def kill(self, replica: Replica) -> None:
        """kill -9, and a successor some time later."""
        replica.crash()
        self.replicas.remove(replica)
        self.world.after(self.world.uniform(0.2, 20) * SECOND, self.start_replica)
        # The database notices that its connection is gone.
        self.world.after(self.world.uniform(0.1, 2) * SECOND, self._elect)

    def drain(self, replica: Replica) -> None:
        """SIGTERM: its boxes are asked to come back, then it goes."""
        for served in list(replica.open.values()):
            replica.take(served, stream.Draining("stopping"))
        self.world.after(2 * SECOND, when(lambda: replica in self.replicas, lambda: self.kill(replica)))

    def _elect(self) -> None:
        if self.replicas and not any(replica.leads for replica in self.replicas):
            self.world.random.choice(self.replicas).leads = True
        elif not self.replicas:
            self.world.after(SECOND, self._elect)

    def _appended(self, record: Record) -> None:
        if type(record.event).__name__ == "RunnerConnected":
            self.epochs[record.position] = self.log.runners[record.stream_id].version
        for replica in self.replicas:
            # Late perhaps, but in order.
            replica.told_until = max(replica.told_until, self.world.now + MS + replica.lag)
            self.world.at(replica.told_until, partial(replica.do, partial(replica.told, record)))

    def key_valid(self, runner_id: str, key: int) -> bool:
        newest = self.keys[runner_id]
        return key == newest or (key == newest - 1 and self.world.now < self.old_key_until.get(runner_id, 0))

    def regenerate(self, runner_id: str, overlap: int) -> None:
        """A new key; the old one works for `overlap` ns more."""
        self.old_key_until[runner_id] = self.world.now + overlap
        self._refused[runner_id, self.keys[runner_id]] = self.world.now + overlap
        self._refused[runner_id, self.keys[runner_id] - 1] = self.world.now
        self.keys[runner_id] += 1

    def refused_since(self, runner_id: str, key: int) -> int:
        return self._refused.get((runner_id, key), 0)

    def place(self, job: Any, runner: runners.Runner) -> None:
        self._attempts += 1
        placed = placement.assign(job, runner, f"at_{self._attempts}", RATES, self.window_ms)
        self.log.append("job", job.job_id, placed.job_events)
        self.log.append("runner", runner.runner_id, placed.runner_events)
