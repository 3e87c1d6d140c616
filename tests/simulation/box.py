"""A GPU box: its clock, disk and processes."""

from collections.abc import Callable
from typing import Any

from protos.events.v1.runner_pb2 import SuspensionOwner
from protos.scheduler.v1 import session_pb2 as pb
from runner_agent import keeper_messages as km
from runner_agent import session_messages as sm
from runner_agent.launcher import Backoff
from runner_agent.session_messages import SECOND_NS
from tests.simulation.agent import Agent
from tests.simulation.folder import Folder
from tests.simulation.keeper import Keeper
from tests.simulation.platform import Platform
from tests.simulation.replica import Replica
from tests.simulation.trainer import Trainer
from tests.simulation.world import MS, SECOND, Link, Stream, World, when


class Box:
    """One installation. `laws` hears of everything that a law speaks of."""

    def __init__(self, world: World, platform: Platform, runner_id: str, laws: Any) -> None:
        self.world, self.platform, self.runner_id, self.laws = world, platform, runner_id, laws
        self.installation_id = f"installation-{runner_id}"
        self.link = Link()
        self.key = 0
        self.disk: dict[str, Folder] = {}
        self.disk_full = False
        self.owner_suspensions: dict[Any, str] = {}
        self.boots = 0
        self.boot_id = ""
        self.rate = 1.0
        self._booted_at = self._stood_still = 0
        self._still_since = -1
        self.up = self.frozen = False
        self.deferred: list[Callable[[], None]] = []
        self.launcher_up = False
        self.agent: Agent | None = None
        self.keepers: list[Keeper] = []
        # Living trainers, those that have outlived their keeper too.
        self.trainers: list[Trainer] = []
        # Box time at which the newest acknowledged message had been sent.
        self.contact = 0
        self.thawed_at = 0
        self._pids = 1000
        self._pairs = 0
        self.boot()

    # ---- time

    @property
    def boottime(self) -> int:
        now = self._still_since if self._still_since >= 0 else self.world.now
        return SECOND_NS + int((now - self._booted_at - self._stood_still) * self.rate)

    def at_boottime(self, moment: int, act: Callable[[], None]) -> None:
        self.after(max(0, (moment - self.boottime) / self.rate + 1), act)

    def after(self, delay: float, act: Callable[[], None]) -> None:
        """In a process of this boot."""
        boot = self.boots
        self.world.after(delay, lambda: self.do(act, boot))

    def do(self, act: Callable[[], None], boot: int | None = None) -> None:
        if not self.up or (boot is not None and boot != self.boots):
            return
        if self.frozen:
            self.deferred.append(act)
            return
        act()

    def next_pid(self) -> int:
        self._pids += 1
        return self._pids

    # ---- power

    def boot(self) -> None:
        self.boots += 1
        self.boot_id = f"boot-{self.boots}"
        self._booted_at, self._stood_still, self._still_since = self.world.now, 0, -1
        self.contact = 0
        self.up, self.frozen = True, False
        self._start_launcher()

    def power_off(self) -> None:
        """Everything ends; what was not fsynced may be lost."""
        self.laws.powered_off(self)
        self.up = False
        for folder in list(self.disk.values()):
            folder.settled = min(folder.settled, self.world.random.choice([folder.settled, folder.settled, 0]))
            if not folder.started and self.world.chance(0.5):
                del self.disk[folder.attempt_id]
        if self.agent is not None:
            self.agent.alive = False
        for one in self.keepers:
            one.alive = one.trainer.alive = False
        for trainer in self.trainers:
            trainer.alive = False
        self.agent, self.launcher_up = None, False
        self.keepers, self.trainers, self.deferred = [], [], []

    def freeze(self, *, clock_stands: bool) -> None:
        self.frozen = True
        if clock_stands and self._still_since < 0:
            self._still_since = self.world.now

    def thaw(self) -> None:
        if self._still_since >= 0:
            self.laws.paused(self, self.world.now - self._still_since)
            self._stood_still += self.world.now - self._still_since
            self._still_since = -1
        self.frozen = False
        self.thawed_at = self.boottime
        deferred, self.deferred = self.deferred, []
        for act in deferred:
            self.do(act)

    # ---- processes

    def _start_launcher(self) -> None:
        if self.launcher_up or not self.up:
            return
        self.launcher_up = True
        self.backoff = Backoff()
        self._start_agent()
        self._new_pair()

    def kill_launcher(self) -> None:
        """kill -9: the agent dies with it, a warm pair ends, an attempt goes on. The service manager starts it anew."""
        self.launcher_up = False
        self.kill_agent()
        for one in list(self.keepers):
            one.feed(km.Orphaned())
        self.after(self.world.uniform(0.5, 10) * SECOND, self._start_launcher)

    def _start_agent(self) -> None:
        if self.launcher_up and self.agent is None:
            self.agent_since = self.boottime
            agent = Agent.__new__(Agent)
            self.agent = agent
            agent.__init__(self)  # type: ignore[misc]

    def kill_agent(self) -> None:
        agent, self.agent = self.agent, None
        if agent is None:
            return
        agent.alive = False
        agent.hang_up()
        self.backoff.died(self.boottime - self.agent_since, self.boottime)
        self.at_boottime(self.backoff.due_ns, self._start_agent)

    def _new_pair(self) -> None:
        """Keep one pair without an attempt."""
        if not self.launcher_up:
            return
        if all(one.state.attempt is not None for one in self.keepers):
            self._pairs += 1
            one = Keeper(self, f"pair-{self.boots}-{self._pairs}")
            self.keepers.append(one)
            one.tell()
        self.after(3 * SECOND, self._new_pair)

    def lives(self, pair: str) -> bool:
        """Whether keeper or trainer of the pair live; without the keeper the rest is killed."""
        if any(one.name == pair for one in self.keepers):
            return True
        left = [one for one in self.trainers if one.keeper.name == pair and one.alive]
        for one in left:
            one.kill()
        return any(one.alive for one in left)

    # ---- the platform

    def newest_key(self) -> int:
        return self.platform.keys[self.runner_id]

    def reauth(self) -> None:
        """`tether-runner reauth`: the agent begins anew with the new key."""
        self.key = self.newest_key()
        if self.agent is not None:
            self.kill_agent()
            self._start_agent()

    def suspend(self, reason: str | None) -> None:
        owner = SuspensionOwner.SUSPENSION_OWNER_BOX_OWNER
        if reason is None:
            self.owner_suspensions.pop(owner, None)
        else:
            self.owner_suspensions[owner] = reason
        if self.agent is not None:
            self.agent.feed(sm.Suspension(owner, reason))

    def dial(self, agent: Agent, hello: pb.Hello) -> Stream:
        return dial(self.world, self.platform, self.link, agent, self.runner_id, agent.key, hello)


def dial(world: World, platform: Platform, link: Link, end: Any, runner_id: str, key: int, hello: pb.Hello) -> Stream:
    """Open a stream to one of the scheduler processes, whichever the front door chooses."""
    replicas: list[Replica] = platform.replicas
    if not replicas:
        nobody = Stream(world, link, end, end)
        world.after(MS, lambda: nobody.drop_by_platform())
        return nobody
    replica = world.random.choice(replicas)
    connection = Stream(world, link, end, replica)
    connection._carry("up", when(lambda: connection.box_open, lambda: replica.accept(connection, runner_id, key)))
    connection.to_platform(pb.ConnectRequest(hello=hello))
    return connection
