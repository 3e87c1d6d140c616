"""The keeper's process around its real rules."""

from typing import TYPE_CHECKING

from runner_agent import keeper
from runner_agent import keeper_messages as km
from runner_agent import session_messages as sm
from tests.simulation.folder import Folder
from tests.simulation.trainer import Trainer
from tests.simulation.world import MS

if TYPE_CHECKING:
    from tests.simulation.box import Box

# A unix socket keeps the order: one delay for all.
SOCKET = 2 * MS


class Keeper:
    """One keeper process with its trainer."""

    def __init__(self, box: "Box", name: str) -> None:
        self.box, self.name, self.alive = box, name, True
        self.state = keeper.State(name, box.boot_id, box.next_pid(), box.next_pid())
        self.trainer = Trainer(box, self)
        self.facts = 0
        self.pending: list[km.Action] = []
        self.quitting = False
        self.crash_in = -1
        self._wake_due = 0

    def feed(self, item: km.Input) -> None:
        if not self.alive:
            return
        self.state, actions = keeper.step(self.state, item, self.box.boottime)
        refusal = ""
        for action in actions:
            if self._dies():
                return
            if isinstance(action, km.Refuse):
                refusal = action.message
            elif not self._perform(action):
                break
        self.flush()
        if self.alive:
            self.tell(refusal)
        if self.quitting and not self.pending:
            self.end()
        self._wake()

    def _dies(self) -> bool:
        if self.crash_in >= 0:
            self.crash_in -= 1
            if self.crash_in < 0:
                self.box.world.note("keeper killed between two actions")
                self.kill()
        return not self.alive

    def _perform(self, action: km.Action) -> bool:
        match action:
            case km.CreatePhase(content):
                folder = self.box.disk[str(content["attempt_id"])]
                if folder.started:
                    self.feed(km.StartFailed("the attempt was started before"))
                    return False
                if self.box.disk_full:
                    self.box.world.note("a start found the disk full")
                    self.feed(km.StartFailed("cannot write"))
                    return False
                folder.phase = dict(content)
            case km.Release(line):
                self.trainer.release(str(line["attempt_id"]))
            case km.Terminate():
                self.trainer.terminate()
            case km.KillAll():
                if self.trainer.alive:
                    self.trainer.kill()
            case km.Stamp(content):
                if not self.box.disk_full:
                    self._folder.stamp = dict(content)
            case km.Quit():
                self.quitting = True
            case km.AppendFact() | km.WriteOutcome() | km.WritePhase():
                self.pending.append(action)
        return True

    @property
    def _folder(self) -> Folder:
        assert self.state.attempt is not None
        return self.box.disk[self.state.attempt.attempt_id]

    def flush(self) -> None:
        while self.pending and not self.box.disk_full:
            match self.pending.pop(0):
                case km.AppendFact(fact):
                    self._folder.append(fact)
                    self.facts += 1
                case km.WriteOutcome(content):
                    self._folder.outcome = dict(content)
                case km.WritePhase(content):
                    self._folder.phase = dict(content)

    def retry(self) -> None:
        """The disk takes what waits."""
        if self.alive:
            self.flush()
            self.tell()
            if self.quitting and not self.pending:
                self.end()

    def tell(self, refusal: str = "") -> None:
        agent = self.box.agent
        if agent is not None:
            pair = self.as_pair(refusal)
            self.box.after(SOCKET, lambda: agent.feed(sm.KeeperSaid(pair)))

    def as_pair(self, refusal: str = "") -> sm.Pair:
        status = keeper.status(self.state, self.facts)
        return sm.Pair(
            self.name,
            status["phase"],
            status["ready"],
            status["attempt_id"],
            self.facts,
            status["deadline_boottime_ns"],
            refusal,
        )

    def _wake(self) -> None:
        due = keeper.wake_at_ns(self.state)
        if due is None or not self.alive or 0 < self._wake_due <= due:
            return
        self._wake_due = due

        def look() -> None:
            if not self.alive:
                return
            self._wake_due = 0
            if self.box.boottime >= (keeper.wake_at_ns(self.state) or 1 << 62):
                self.feed(km.Tick())
            else:
                self._wake()

        self.box.at_boottime(due, look)

    def end(self) -> None:
        """The process is over."""
        if not self.alive:
            return
        self.alive = False
        self.box.keepers.remove(self)
        agent = self.box.agent
        if agent is not None:
            self.box.after(SOCKET, lambda: agent.feed(sm.KeeperGone(self.name)))

    def kill(self) -> None:
        """kill -9: its trainer dies with it, unless that is stuck in a driver."""
        self.box.laws.keeper_killed(self.box, self.trainer)
        self.end()
        self.trainer.kill()
