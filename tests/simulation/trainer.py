"""The trainer's process, as the keeper sees it: what it does, and when, is decided by chance."""

from typing import TYPE_CHECKING

from runner_agent import keeper_messages as km
from tests.simulation.world import MS, SECOND

if TYPE_CHECKING:
    from tests.simulation.box import Box
    from tests.simulation.keeper import Keeper


class Trainer:
    """A process that trains once it is released. What it does, and when, is decided by chance."""

    def __init__(self, box: "Box", of: "Keeper") -> None:
        self.box, self.keeper = box, of
        self.alive, self.released, self.ready = True, False, False
        self.computing = False
        # In a driver: SIGKILL takes effect only later.
        self.stuck = False
        self.attempt_id = ""
        self.kills = 0
        box.trainers = [one for one in box.trainers if one.alive] + [self]
        box.after(box.world.uniform(0.2, 6) * SECOND, self._say_ready)

    def _say_ready(self) -> None:
        if self.alive:
            self.ready = True
            self.keeper.feed(km.Said({"event": "ready"}))

    def release(self, attempt_id: str) -> None:
        if not self.alive:
            return
        self.released, self.attempt_id = True, attempt_id
        self.box.laws.released(self.box, self)
        self.box.after(self.box.world.uniform(0.05, 4) * SECOND, self._start)

    def _start(self) -> None:
        if not self.alive or self.computing or self.keeper.state.stop_began_ns is not None:
            return
        world = self.box.world
        if world.chance(0.05):
            self._end("FAILED", "END_REASON_DATASET")
            return
        self.computing = True
        self.box.laws.started(self.box, self)
        self.keeper.feed(km.Said({"event": "started", "weights": "random"}))
        self.box.after(world.uniform(1, 6) * SECOND, self._work)
        self.box.after(
            (world.uniform(1, 10) if world.calm else world.random.choice([3, 15, 60, 150])) * SECOND, self.finish
        )

    def _work(self) -> None:
        if not self.alive or not self.computing:
            return
        folder = self.box.disk[self.attempt_id]
        folder.spooled += self.box.world.random.randint(1, 5)
        if self.box.world.chance(0.2):
            self._checkpoint()
        self.box.after(self.box.world.uniform(1, 6) * SECOND, self._work)

    def _checkpoint(self) -> None:
        self.keeper.feed(km.Said({"event": "checkpoint", "checkpoint": {"name": "last"}}))

    def finish(self) -> None:
        if self.alive and self.computing:
            match self.box.world.random.randint(0, 9):
                case 0:
                    self._end("FAILED", "END_REASON_OUT_OF_MEMORY")
                case 1:
                    # Dies without a word.
                    self.die(-11)
                case _:
                    self._end("FINISHED", "")

    def _end(self, outcome: str, reason: str) -> None:
        self.computing = False
        self.box.laws.stopped_computing(self.box, self)
        self.keeper.feed(km.Said({"event": "ended", "outcome": outcome, "reason": reason, "message": ""}))
        self.box.after(self.box.world.uniform(1, 500) * MS, lambda: self.die(0))

    def terminate(self) -> None:
        """SIGTERM: save a checkpoint and go, or hang while doing so."""
        if not self.alive or not self.released:
            self.die(-15)
            return
        self.box.laws.stop_began(self.box, self)

        def save() -> None:
            if self.alive:
                self._checkpoint()
                self._end("KILLED", "")

        if self.box.world.chance(0.25):
            self.box.world.note("a trainer hung while it was stopped")
        else:
            self.box.after(self.box.world.uniform(0.1, 25) * SECOND, save)

    def kill(self) -> None:
        if self.stuck:
            self.kills += 1
            return
        self.die(-9)

    def die(self, code: int) -> None:
        if not self.alive:
            return
        self.alive = False
        self.box.laws.died(self.box, self)
        of = self.keeper
        if of.alive:
            self.box.after(self.box.world.uniform(0, 5) * MS, lambda: of.feed(km.Exited(code, "", False)))
