"""Thousands of boxes in one process: the agent's own session machine and link, one connection a box, and no training.

`python -m tests.bench.fleet_boxes` reads one JSON line (a `Plan`) from standard input, tells its `Counts` as a JSON
line each quarter of a second, and ends when standard input does.
"""

import asyncio
import json
import random
import resource
import sys
from dataclasses import asdict, dataclass, field, fields

import uvloop

from protos.common.v1.inventory_pb2 import Gpu, Inventory
from runner_agent import clock, session
from runner_agent import session_messages as m
from runner_agent.config import parse_server
from runner_agent.facts import Fact
from runner_agent.link import Link

_TELL_S = 0.25
_LINE_LIMIT_BYTES = 64 << 20
_GIB = 1 << 30


@dataclass(frozen=True)
class Plan:
    server: str
    # One box for each key.
    keys: list[str]
    # Boxes dial for the first time within this many seconds.
    ramp_s: float
    # Mean time after which a box drops its connection and dials anew, as its backoff says; zero: never.
    churn_s: float = 0
    seed: int = 1


@dataclass
class Counts:
    """Since the start, but for `live`, `running` and `late_s`, which are of the moment."""

    live: int = 0
    # Attempts that a simulated keeper holds.
    running: int = 0
    welcomes: int = 0
    acknowledged_heartbeats: int = 0
    losses: int = 0
    # Attempts that the platform wanted to be stopped: none, if it keeps its promise.
    stops: int = 0
    # How late this process was the last time it told this: a late client is no measure of a server.
    late_s: float = 0
    # What the boxes were told at their losses, and how often; the most frequent ones.
    reasons: dict[str, int] = field(default_factory=dict)


class Box:
    """One runner's agent without a box around it: whatever it is told to run has started at once and goes on."""

    def __init__(self, number: int, key: str, plan: Plan, counts: Counts, chance: random.Random) -> None:
        self._counts, self._chance = counts, chance
        self._loop = asyncio.get_running_loop()
        identity = m.Identity(f"installation-{key[-16:]}", "1", clock.boot_id())
        first_ns = clock.boottime_ns() + int(chance.random() * plan.ramp_s * m.SECOND_NS)
        self._state = m.State(identity=identity, inventory=_inventory(number), dial_at_ns=first_ns)
        self._link = Link(parse_server(plan.server), key, self._feed)
        self._inputs: list[m.Input] = []
        self._feeding = False
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_ns = 0
        self._feed(m.KeeperSaid(m.Pair("pair", "warm", ready=True, attempt_id="", facts=0)))
        if plan.churn_s:
            self._churn_s = plan.churn_s
            self._loop.call_later(plan.ramp_s + self._next_drop_s(), self._drop)

    async def close(self) -> None:
        await self._link.close()

    def _feed(self, item: m.Input) -> None:
        self._inputs.append(item)
        if self._feeding:
            return
        self._feeding = True
        while self._inputs:
            before = self._state
            self._state, actions = session.step(before, self._inputs.pop(0), clock.boottime_ns(), self._chance.random())
            self._count(before)
            for action in actions:
                self._perform(action)
        self._feeding = False
        self._set_alarm()

    def _perform(self, action: m.Action) -> None:
        match action:
            case m.Dial(stream, hello):
                self._link.dial(stream, hello)
            case m.Hangup():
                self._link.hangup()
            case m.Send(message):
                self._link.send(message)
            case m.Adopt(assignment):
                window_ns = assignment.window_ms * 1_000_000
                attempt = m.Attempt(assignment.attempt_id, window_ns, m.Place.WAITING, job_id=assignment.job_id)
                self._feed(m.Adopted(attempt))
            case m.StartAttempt(pair, attempt_id):
                self._counts.running += 1
                self._feed(m.KeeperSaid(m.Pair(pair, "running", ready=True, attempt_id=attempt_id, facts=1)))
            case m.ReadFacts(attempt_id, after):
                content = {
                    "fact": "started",
                    "weights": "random",
                    "boot_id": self._state.identity.boot_id,
                    "boottime_ns": clock.boottime_ns(),
                }
                self._feed(m.FactsRead(attempt_id, (Fact(1, content),)[after:]))
            case m.StopAttempt() | m.RecordEnd():
                self._counts.stops += 1

    def _count(self, before: m.State) -> None:
        counts, after = self._counts, self._state
        was, is_live = before.link is m.LinkPhase.LIVE, after.link is m.LinkPhase.LIVE
        counts.live += is_live - was
        counts.welcomes += is_live and not was
        counts.acknowledged_heartbeats += was and is_live and len(after.outstanding) < len(before.outstanding)
        if after.failures > before.failures:
            counts.losses += 1
            counts.reasons[after.error] = counts.reasons.get(after.error, 0) + 1

    def _set_alarm(self) -> None:
        """One timer a box, moved only where it would come too late: an early one costs less than many new ones."""
        wake_ns = session.wake_at_ns(self._state)
        if self._alarm is not None and self._alarm_ns <= wake_ns:
            return
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm_ns = wake_ns
        self._alarm = self._loop.call_later(max(0, wake_ns - clock.boottime_ns()) / 1e9, self._wake)

    def _wake(self) -> None:
        self._alarm = None
        if clock.boottime_ns() >= session.wake_at_ns(self._state):
            self._feed(m.Tick())
        else:
            self._set_alarm()

    def _drop(self) -> None:
        self._loop.call_later(self._next_drop_s(), self._drop)
        if self._state.link is m.LinkPhase.LIVE:
            self._link.hangup()
            self._feed(m.Closed(self._state.stream, "the bench drops this connection"))

    def _next_drop_s(self) -> float:
        return self._chance.expovariate(1 / self._churn_s)


def _inventory(number: int) -> Inventory:
    return Inventory(
        gpus=[Gpu(uuid=f"GPU-{number}-{n}", type="NVIDIA A10G", vram_bytes=24 * _GIB) for n in range(2)],
        cpu_ram_bytes=64 * _GIB,
        cpu_cores=16,
        disk_total_bytes=1000 * _GIB,
        disk_free_bytes=500 * _GIB,
        hostname=f"box-{number}",
        platform="Linux 6.1 x86_64",
        simulated=True,
    )


def raise_open_files() -> None:
    """As many open files as the system lets this process have: each connection is one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _hold() -> None:
    reader = asyncio.StreamReader(limit=_LINE_LIMIT_BYTES)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    given = json.loads(await reader.readline())
    plan = Plan(**{one.name: given[one.name] for one in fields(Plan)})
    counts, chance = Counts(), random.Random(plan.seed)
    boxes = [Box(number, key, plan, counts, chance) for number, key in enumerate(plan.keys)]
    ended = asyncio.ensure_future(reader.read())
    loop = asyncio.get_running_loop()
    while not ended.done():
        print(json.dumps(asdict(counts)), flush=True)
        due_s = loop.time() + _TELL_S
        await asyncio.wait([ended], timeout=_TELL_S)
        counts.late_s = max(0.0, loop.time() - due_s)
    await asyncio.gather(*(box.close() for box in boxes))


if __name__ == "__main__":
    raise_open_files()
    uvloop.run(_hold())
