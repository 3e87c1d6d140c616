"""The agent's process around the session's real rules."""

from dataclasses import replace
from typing import TYPE_CHECKING

from protos.common.v1.inventory_pb2 import Gpu, Inventory
from protos.scheduler.v1 import session_pb2 as pb
from runner_agent import keeper_messages as km
from runner_agent import session
from runner_agent import session_messages as sm
from runner_agent.session_messages import LinkPhase, Place
from tests.simulation.folder import Folder
from tests.simulation.keeper import SOCKET
from tests.simulation.world import MS, SECOND, Stream, when

if TYPE_CHECKING:
    from tests.simulation.box import Box

INVENTORY = Inventory(gpus=[Gpu(uuid="GPU-0", type="GPU", vram_bytes=1 << 34)], cpu_ram_bytes=1 << 36, hostname="box")


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
