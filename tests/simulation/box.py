"""A GPU box: its clock, disk, launcher, agent, keepers and trainers. The agent's and the keeper's rules are real."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from protos.common.v1.inventory_pb2 import Gpu, Inventory
from protos.events.v1.runner_pb2 import SuspensionOwner
from protos.scheduler.v1 import session_pb2 as pb
from runner_agent import keeper, session
from runner_agent import keeper_messages as km
from runner_agent import session_messages as sm
from runner_agent.launcher import Backoff
from runner_agent.session_messages import SECOND_NS, LinkPhase, Place
from tests.simulation.folder import Folder
from tests.simulation.platform import Platform, Replica
from tests.simulation.world import MS, SECOND, Link, Stream, World, when

INVENTORY = Inventory(gpus=[Gpu(uuid="GPU-0", type="GPU", vram_bytes=1 << 34)], cpu_ram_bytes=1 << 36, hostname="box")

# A unix socket keeps the order: one delay for all.
SOCKET = 2 * MS


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


class Agent:
    """The agent process around the session's state machine."""

    def __init__(self, box: "Box") -> None:
        self.box, self.alive = box, True
        identity = sm.Identity(box.installation_id, "1", box.boot_id)
        timing = sm.Timing(window_ns=box.platform.window_ms * 1_000_000)
        self.state = sm.State(identity, INVENTORY, timing, suspensions=dict(box.owner_suspensions))
        self.key = box.key
        self.connection: Stream | None = None
        self.number = 0
        self.sweeping: set[str] = set()
        self.inputs: list[sm.Input] = []
        self.feeding = False
        self.crash_in = -1
        # Moment of sending, box time, of what the platform may acknowledge: 0 is Hello.
        self.sent_at: dict[int, int] = {}
        self._wake_due = 0
        for one in list(box.keepers):
            self.feed(sm.KeeperSaid(one.as_pair()))
        for folder in list(box.disk.values()):
            if not folder.started or folder.told:
                continue
            attempt = folder.record(self.state.timing.window_ns)
            held = [pair for pair in self.state.pairs.values() if pair.attempt_id == folder.attempt_id]
            if held:
                box.world.note("an agent found its keeper")
                attempt = replace(attempt, place=Place.HELD, pair=held[0].pair)
            self.feed(sm.Adopted(attempt))
        self._wake()
        self._ship()

    def feed(self, item: sm.Input) -> None:
        if not self.alive:
            return
        self.inputs.append(item)
        if self.feeding:
            return
        self.feeding = True
        while self.inputs and self.alive:
            self.state, actions = session.step(
                self.state, self.inputs.pop(0), self.box.boottime, self.box.world.random.random()
            )
            for action in actions:
                if self._dies():
                    break
                self._perform(action)
        self.feeding = False
        if self.alive:
            self._wake()

    def _dies(self) -> bool:
        if self.crash_in >= 0:
            self.crash_in -= 1
            if self.crash_in < 0:
                self.box.world.note("agent killed between two actions")
                self.box.kill_agent()
        return not self.alive

    def _wake(self) -> None:
        due = session.wake_at_ns(self.state)
        if 0 < self._wake_due <= due:
            return
        self._wake_due = due

        def look() -> None:
            if not self.alive:
                return
            self._wake_due = 0
            if self.box.boottime >= session.wake_at_ns(self.state):
                self.feed(sm.Tick())
            self._wake()

        self.box.at_boottime(due, look)

    def _perform(self, action: sm.Action) -> None:
        box = self.box
        match action:
            case sm.Dial(stream, hello):
                self.sent_at = {0: box.boottime}
                self.number = stream
                self.connection = box.dial(self, hello)
            case sm.Hangup():
                self.hang_up()
            case sm.Send(message):
                if message.HasField("heartbeat"):
                    self.sent_at[message.heartbeat.sequence] = box.boottime
                if self.connection is not None and self.connection.box_open:
                    self.connection.to_platform(message)
            case sm.Adopt(assignment):
                self._adopt(assignment)
            case sm.StartAttempt(pair, attempt_id, deadline_ns, anchor):
                box.laws.handed(box, attempt_id)
                start = km.Start(
                    attempt_id, box.disk[attempt_id].assignment.job_id, "", box.platform.window_ms, deadline_ns,
                    anchor, True, ("GPU-0",),
                )  # fmt: skip
                self._to_keeper(pair, start)
            case sm.Renew(pair, deadline_ns, anchor):
                self._to_keeper(pair, km.Renew(deadline_ns, anchor))
            case sm.StopAttempt(pair, reason, message):
                self._to_keeper(pair, km.Stop(reason, message))
            case sm.RecordEnd(attempt_id, outcome, reason, message):
                folder = box.disk[attempt_id]
                known = self.state.attempts[attempt_id].read
                folder.write_end(box.boot_id, box.boottime, outcome, reason, message)
                self.feed(sm.FactsRead(attempt_id, folder.facts_after(known)))
            case sm.ReadFacts(attempt_id, after):
                self.feed(sm.FactsRead(attempt_id, box.disk[attempt_id].facts_after(after)))
            case sm.Sweep(attempt_id, after):
                if attempt_id not in self.sweeping:
                    self.sweeping.add(attempt_id)
                    self._sweep(attempt_id, after)
            case sm.SaveSettled(attempt_id, sequence):
                box.disk[attempt_id].settled = sequence
            case sm.NoteRejected():
                box.world.note("a report was rejected")

    def _adopt(self, assignment: pb.Assignment) -> None:
        folder = self.box.disk.get(assignment.attempt_id)
        if folder is None:
            folder = self.box.disk[assignment.attempt_id] = Folder(assignment)
        window_ns = assignment.window_ms * 1_000_000 or self.state.timing.window_ns
        self.feed(sm.Adopted(folder.record(window_ns, again=True)))

    def _to_keeper(self, name: str, item: km.Input) -> None:
        found = next((one for one in self.box.keepers if one.name == name), None)
        if found is not None:
            # A keeper does not take a start from an agent that has gone.
            if isinstance(item, km.Start):
                self.box.after(SOCKET, when(lambda: self.alive, lambda: found.feed(item)))
            else:
                self.box.after(SOCKET, lambda: found.feed(item))

    def _sweep(self, attempt_id: str, after: int) -> None:
        """Wait for the keeper's end, kill what is left, see to it that the end is written down."""
        if not self.alive:
            return
        box, folder = self.box, self.box.disk[attempt_id]
        phase = folder.phase or {}
        if phase.get("boot_id") == box.boot_id and box.lives(str(phase.get("pair", ""))):
            box.after(100 * MS, lambda: self._sweep(attempt_id, after))
            return
        if folder.started and not folder.ended:
            if box.disk_full:
                box.after(SECOND, lambda: self._sweep(attempt_id, after))
                return
            box.world.note("an agent wrote the end of an attempt whose keeper was gone")
            folder.write_lost_end(box.boot_id, box.boottime)
        self.sweeping.discard(attempt_id)
        self.feed(sm.FactsRead(attempt_id, folder.facts_after(after)))
        self.feed(sm.Swept(attempt_id, folder.started))

    # ---- the stream

    def received(self, connection: Stream, message: object) -> None:
        def act() -> None:
            if connection is not self.connection or not isinstance(message, pb.ConnectResponse):
                return
            before = self.state.link
            if message.HasField("heartbeat_ack") and before is LinkPhase.LIVE:
                self._contact(message.heartbeat_ack.sequence)
            elif message.HasField("welcome") and before is LinkPhase.OPENING:
                self._contact(0)
                self.box.laws.lapsed(self.box)
            self.feed(sm.Received(self.number, message))

        self.box.do(act)

    def _contact(self, sequence: int) -> None:
        sent = self.sent_at.get(sequence)
        if sent is not None:
            self.box.contact = max(self.box.contact, sent)

    def broken(self, connection: Stream, refused: bool) -> None:
        def act() -> None:
            if connection is self.connection:
                self.feed(sm.Closed(self.number, "the stream broke", refused))

        self.box.do(act)

    def hang_up(self) -> None:
        if self.connection is not None and self.connection.box_open:
            self.connection.drop_by_box()
        self.connection = None

    def _ship(self) -> None:
        """Records on their way: batches up, acknowledgements down, each of which may be lost."""
        if not self.alive:
            return
        box = self.box
        for folder in box.disk.values():
            if folder.acknowledged < folder.spooled and not box.link.up.cut and self.key == box.newest_key():
                last = min(folder.spooled, folder.acknowledged + box.world.random.randint(1, 20))
                if box.world.chance(0.9):
                    box.laws.delivered(folder.attempt_id, folder.acknowledged + 1, last)
                    if not box.link.down.cut and box.world.chance(0.9):
                        folder.acknowledged = last
        box.after(2 * SECOND, self._ship)


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
