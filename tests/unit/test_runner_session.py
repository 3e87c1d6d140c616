"""The session's rules under any order of what the platform, the keepers and the link do."""

import itertools
from dataclasses import dataclass, field, replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from protos.common.v1 import inventory_pb2
from protos.events.v1 import runner_pb2
from protos.scheduler.v1 import session_pb2
from protos.training.v1 import training_pb2
from runner_agent import session
from runner_agent import session_messages as m
from runner_agent.facts import Fact
from runner_agent.session_messages import SECOND_NS, LinkPhase, Place, State

INTERVAL_MS = 5_000
WINDOW_MS = 900_000
IDENTITY = m.Identity("installation", "1", "boot")
Frame = session_pb2.ConnectResponse


def fact(kind: str, sequence: int) -> Fact:
    content = {"fact": kind, "boot_id": "boot", "boottime_ns": 0}
    if kind == "ended":
        content |= {"outcome": "FINISHED", "reason": "", "message": ""}
    return Fact(sequence, content)


def directive(attempt_id: str = "", stop_reason: int = 0) -> Frame:
    wanted = session_pb2.Directive()
    if attempt_id:
        wanted.attempt.attempt_id = attempt_id
        wanted.attempt.window_ms = WINDOW_MS
        wanted.attempt.stop_reason = training_pb2.EndReason.ValueType(stop_reason)
    return Frame(directive=wanted)


WELCOME = Frame(welcome=session_pb2.Welcome(epoch=1, heartbeat_interval_ms=INTERVAL_MS, platform_at_ms=1_000_000))


@dataclass
class Disk:
    """What the box remembers of one attempt, and what really lives."""

    taken: bool = False
    alive: bool = False
    starts: int = 0
    facts: list[Fact] = field(default_factory=list)
    settled: int = 0

    def end(self) -> None:
        """Its end is written down; a worker of it may still live."""
        if not any(one.ended for one in self.facts):
            self.facts.append(fact("ended", len(self.facts) + 1))


class Session(RuleBasedStateMachine):
    """The machine with a shell that does what it orders, and a world that does what it likes."""

    def __init__(self) -> None:
        super().__init__()
        self.now_ns = SECOND_NS
        self.state = State(IDENTITY, inventory_pb2.Inventory())
        self.disk: dict[str, Disk] = {}
        self.pairs: dict[str, m.Pair] = {}
        self.sweeps: list[str] = []
        # Of the current stream.
        self.sent: list[session_pb2.ConnectRequest] = []
        self.told: dict[str, int] = {}
        self.settled_ended: set[str] = set()
        self.contact_ns = 0
        self.deadlines: dict[str, int] = {}
        self.suspensions: dict[int, str] = {}

    # ---- the shell

    def feed(self, item: m.Input) -> None:
        self.state, actions = session.step(self.state, item, self.now_ns, 0.5)
        for action in actions:
            self.perform(action)

    def perform(self, action: m.Action) -> None:
        match action:
            case m.Dial(_, hello):
                self.sent, self.told = [session_pb2.ConnectRequest(hello=hello)], {}
                living = {attempt_id for attempt_id, disk in self.disk.items() if disk.alive}
                assert living <= set(hello.live_attempts)
            case m.Send(message):
                assert self.state.link is LinkPhase.LIVE
                self.sent.append(message)
                if message.HasField("report"):
                    self.check_report(message.report)
            case m.Adopt(assignment):
                disk = self.disk.setdefault(assignment.attempt_id, Disk())
                facts = tuple(disk.facts)
                settled = min(disk.settled, max(0, len(facts) - 1))
                place = Place.GONE if disk.taken else Place.WAITING
                attempt = m.Attempt(assignment.attempt_id, WINDOW_MS * 1_000_000, place, facts=facts[settled:])
                self.feed(m.Adopted(replace(attempt, read=len(facts), sent=settled, settled=settled)))
            case m.StartAttempt(pair_id, attempt_id, deadline_ns, _):
                self.start(pair_id, attempt_id, deadline_ns)
            case m.Renew(pair_id, deadline_ns, _):
                assert deadline_ns == self.contact_ns + WINDOW_MS * 1_000_000
                if pair_id in self.pairs:
                    self.deadlines[pair_id] = deadline_ns
            case m.RecordEnd(attempt_id, _, _, _):
                disk = self.disk[attempt_id]
                assert not disk.taken
                disk.taken = True
                disk.end()
                self.feed(m.FactsRead(attempt_id, tuple(disk.facts)))
            case m.ReadFacts(attempt_id, after):
                self.feed(m.FactsRead(attempt_id, tuple(self.disk[attempt_id].facts[after:])))
            case m.Sweep(attempt_id, _):
                self.sweeps.append(attempt_id)
            case m.SaveSettled(attempt_id, sequence):
                self.disk[attempt_id].settled = sequence

    def start(self, pair_id: str, attempt_id: str, deadline_ns: int) -> None:
        assert self.now_ns < deadline_ns == self.contact_ns + WINDOW_MS * 1_000_000
        assert not any(disk.alive for disk in self.disk.values()), "two trainings on one runner"
        pair, disk = self.pairs.get(pair_id), self.disk[attempt_id]
        if pair is None:
            return
        assert not disk.taken, "a known attempt was started again"
        disk.taken, disk.alive, disk.starts = True, True, disk.starts + 1
        self.deadlines[pair_id] = deadline_ns
        disk.facts.append(fact("started", 1))
        self.pairs[pair_id] = replace(pair, phase="running", attempt_id=attempt_id, facts=1)
        self.feed(m.KeeperSaid(self.pairs[pair_id]))

    def check_report(self, report: session_pb2.Report) -> None:
        disk = self.disk[report.attempt_id]
        last = self.told.get(report.attempt_id, disk.settled)
        # Next in order; or, where a known attempt is asked for again, its last fact once more.
        assert report.sequence in (last + 1, len(disk.facts))
        self.told[report.attempt_id] = report.sequence
        if report.HasField("ended"):
            assert not disk.alive, "the end was told while a process lived"

    # ---- the world

    @initialize(pairs=st.integers(0, 2), directed=st.booleans())
    def a_box_is_connected(self, pairs: int, directed: bool) -> None:
        self.feed(m.Tick())
        self.platform_welcomes()
        for _ in range(pairs):
            self.launcher_brings_a_pair(True)
        if directed:
            self.feed(m.Received(self.state.stream, directive("a1")))

    @rule(seconds=st.sampled_from([0.1, 1, 6, 11, 400, 1200]), answers=st.sampled_from(["all", "late", "none"]))
    def time_passes(self, seconds: float, answers: str) -> None:
        target_ns = self.now_ns + int(seconds * SECOND_NS)
        for _ in range(5000):
            wake_ns = session.wake_at_ns(self.state)
            if wake_ns > target_ns:
                break
            self.now_ns = max(self.now_ns, wake_ns)
            self.feed(m.Tick())
            if answers != "none" and self.state.link is LinkPhase.OPENING:
                self.platform_welcomes()
            if answers == "all" or len(self.state.outstanding) > 1:
                self.now_ns += SECOND_NS // 100
                self.acknowledge_heartbeat(0 if answers != "none" else None)
        else:
            raise AssertionError("the machine does not come to rest")
        self.now_ns = max(self.now_ns, target_ns)

    @precondition(lambda self: self.state.link is LinkPhase.OPENING)
    @rule()
    def platform_welcomes(self) -> None:
        self.contact_ns = self.state.opened_ns
        self.feed(m.Received(self.state.stream, WELCOME))

    @precondition(lambda self: self.state.outstanding)
    @rule(which=st.integers(0, 3))
    def platform_acknowledges_a_heartbeat(self, which: int) -> None:
        self.acknowledge_heartbeat(which)

    def acknowledge_heartbeat(self, which: int | None) -> None:
        if which is None or not self.state.outstanding:
            return
        sequence, sent_ns = self.state.outstanding[which % len(self.state.outstanding)]
        self.contact_ns = max(self.contact_ns, sent_ns)
        ack = session_pb2.HeartbeatAck(sequence=sequence, platform_at_ms=2_000_000)
        self.feed(m.Received(self.state.stream, Frame(heartbeat_ack=ack)))

    @precondition(lambda self: self.told)
    @rule(which=st.integers(0, 9), rejected=st.booleans())
    def platform_acknowledges_a_report(self, which: int, rejected: bool) -> None:
        attempt_id = sorted(self.told)[which % len(self.told)]
        sequence = max(1, self.told[attempt_id] - which // 5)
        ack = session_pb2.ReportAck(attempt_id=attempt_id, sequence=sequence, rejected="no" if rejected else "")
        self.feed(m.Received(self.state.stream, Frame(report_ack=ack)))

    @rule(attempt_id=st.sampled_from(["", "a1", "a1", "a2", "a3"]), stop=st.sampled_from([0, 0, 0, 1]))
    def platform_directs(self, attempt_id: str, stop: int) -> None:
        self.feed(m.Received(self.state.stream, directive(attempt_id, stop)))

    @rule(refused=st.booleans())
    def link_breaks(self, refused: bool) -> None:
        self.feed(m.Closed(self.state.stream, "broken", refused))

    @rule(stream=st.integers(0, 3))
    def an_old_stream_speaks(self, stream: int) -> None:
        if stream != self.state.stream:
            before = self.state
            self.feed(m.Received(stream, directive("a1")))
            self.feed(m.Closed(stream, "late"))
            assert self.state == before

    @precondition(lambda self: len(self.pairs) < 3)
    @rule(ready=st.booleans())
    def launcher_brings_a_pair(self, ready: bool) -> None:
        pair = m.Pair(f"p{len(self.deadlines)}-{self.now_ns}", "warm", ready, "", 0)
        self.pairs[pair.pair] = pair
        self.feed(m.KeeperSaid(pair))

    @precondition(lambda self: self.pairs)
    @rule(which=st.integers(0, 2))
    def training_says_something(self, which: int) -> None:
        pair = sorted(self.pairs.values(), key=lambda one: one.pair)[which % len(self.pairs)]
        if pair.attempt_id:
            disk = self.disk[pair.attempt_id]
            disk.facts.append(fact("evaluation", len(disk.facts) + 1))
            self.pairs[pair.pair] = replace(pair, facts=len(disk.facts))
            self.feed(m.KeeperSaid(self.pairs[pair.pair]))

    @precondition(lambda self: self.pairs)
    @rule(which=st.integers(0, 2), by_itself=st.booleans())
    def keeper_ends(self, which: int, by_itself: bool) -> None:
        pair = sorted(self.pairs.values(), key=lambda one: one.pair)[which % len(self.pairs)]
        if pair.attempt_id and by_itself:
            self.disk[pair.attempt_id].end()
            ended = replace(pair, phase="ended", facts=len(self.disk[pair.attempt_id].facts))
            self.feed(m.KeeperSaid(ended))
        del self.pairs[pair.pair]
        self.feed(m.KeeperGone(pair.pair))

    @precondition(lambda self: self.sweeps)
    @rule()
    def sweep_is_done(self) -> None:
        attempt_id = self.sweeps.pop(0)
        disk = self.disk[attempt_id]
        if disk.taken:
            disk.end()
        disk.alive = False
        self.feed(m.FactsRead(attempt_id, tuple(disk.facts)))
        self.feed(m.Swept(attempt_id, disk.taken))

    @rule(
        owner=st.sampled_from([runner_pb2.SUSPENSION_OWNER_BOX_OWNER, runner_pb2.SUSPENSION_OWNER_HEALTH]),
        reason=st.sampled_from([None, "disk full", "the owner plays"]),
    )
    def box_is_suspended_or_resumed(self, owner: m.Owner, reason: str | None) -> None:
        self.suspensions.pop(owner, None)
        if reason is not None:
            self.suspensions[owner] = reason
        self.feed(m.Suspension(owner, reason))

    # ---- what must always hold

    @invariant()
    def the_platform_knows_of_every_suspension_in_every_session(self) -> None:
        if self.state.link is LinkPhase.LIVE:
            told = [one.suspension for one in self.sent if one.HasField("suspension")]
            last = told[-1] if told else self.sent[0].hello.suspension
            assert {one.owner: one.reason for one in last.suspensions} == self.suspensions
            # Each of them differs from the one before: nothing is told twice in a session.
            all_told = [self.sent[0].hello.suspension, *told]
            assert all(a != b for a, b in itertools.pairwise(all_told))

    @invariant()
    def an_attempt_starts_at_most_once(self) -> None:
        assert all(disk.starts <= 1 for disk in self.disk.values())

    @invariant()
    def a_silent_stream_is_left_in_time(self) -> None:
        if self.state.link is LinkPhase.LIVE:
            assert self.now_ns - self.state.heard_ns <= 3 * INTERVAL_MS * 1_000_000 + SECOND_NS // 10

    @invariant()
    def the_link_is_always_going_somewhere(self) -> None:
        if self.state.link is LinkPhase.IDLE:
            assert self.state.dial_at_ns - self.now_ns <= self.state.timing.refused_backoff_ns

    @invariant()
    def whatever_can_be_told_is_told_in_every_session(self) -> None:
        if self.state.link is not LinkPhase.LIVE or not self.state.knows_the_time:
            return
        for attempt in self.state.attempts.values():
            for one in attempt.facts:
                if not one.ended or attempt.place is Place.OVER:
                    assert self.told.get(attempt.attempt_id, 0) >= one.sequence

    @invariant()
    def facts_are_kept_until_they_are_settled(self) -> None:
        for attempt in self.state.attempts.values():
            kept = [one.sequence for one in attempt.facts]
            assert kept == list(range(attempt.settled + 1, attempt.read + 1))


Session.TestCase.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
TestSession = Session.TestCase


def live() -> State:
    state = State(IDENTITY, inventory_pb2.Inventory())
    state, _ = session.step(state, m.Tick(), 0, 0.5)
    state, _ = session.step(state, m.Received(1, WELCOME), 0, 0.5)
    return state


def test_a_refused_key_is_tried_again_only_after_a_minute() -> None:
    goodbye = session_pb2.Goodbye(reason="regenerated", reconnect=False)
    state, actions = session.step(live(), m.Received(1, Frame(goodbye=goodbye)), 0, 0.0)
    assert actions == [m.Hangup(1)]
    assert session.wake_at_ns(state) == 60 * SECOND_NS
    assert (state.refused, state.error) == (True, "regenerated")


def test_the_backoff_has_full_jitter_and_stays_below_a_tenth_of_the_window() -> None:
    held = m.Attempt("a1", 20 * SECOND_NS, Place.HELD, pair="p")
    state = replace(live(), attempts={"a1": held}, failures=10)
    for jitter in (0.0, 0.5, 1.0):
        lost, _ = session.step(state, m.Closed(1, "broken"), 0, jitter)
        assert lost.dial_at_ns == int(jitter * 2 * SECOND_NS)
    lost, _ = session.step(replace(state, attempts={}), m.Closed(1, "broken"), 0, 1.0)
    assert lost.dial_at_ns == 30 * SECOND_NS


def test_welcome_is_awaited_longer_with_each_failure_up_to_45_s_and_a_heartbeat_never() -> None:
    awaited_s = []
    for failures in range(8):
        state = replace(live(), link=LinkPhase.IDLE, failures=failures)
        opening, _ = session.step(state, m.Tick(), 0, 0.5)
        until_ns = session.wake_at_ns(opening)
        still, actions = session.step(opening, m.Tick(), until_ns - 1, 0.5)
        assert (still.link, actions) == (LinkPhase.OPENING, [])
        lost, actions = session.step(opening, m.Tick(), until_ns, 0.5)
        assert (lost.link, actions) == (LinkPhase.IDLE, [m.Hangup(opening.stream)])
        awaited_s.append(until_ns / SECOND_NS)
    assert awaited_s == [15, 17, 19, 23, 31, 45, 45, 45]
    silent, _ = session.step(replace(live(), failures=7), m.Tick(), 15 * SECOND_NS, 0.5)
    assert silent.link is LinkPhase.IDLE


def test_a_message_of_a_later_version_changes_nothing() -> None:
    state, actions = session.step(live(), m.Received(1, Frame()), 1, 0.5)
    assert (state, actions) == (live(), [])


def test_an_attempt_that_found_no_keeper_in_its_window_is_not_started_any_more() -> None:
    waiting = m.Attempt("a1", 20 * SECOND_NS, Place.WAITING)
    state, _ = session.step(live(), m.Adopted(waiting), 0, 0.5)
    state, _ = session.step(state, m.Received(1, directive("a1")), 1, 0.5)
    state, _ = session.step(state, m.Closed(1, "broken", True), 2, 0.5)
    assert session.wake_at_ns(state) == 20 * SECOND_NS
    pair = m.Pair("p", "warm", True, "", 0)
    state, actions = session.step(state, m.KeeperSaid(pair), 20 * SECOND_NS, 0.5)
    assert [type(action) for action in actions] == [m.RecordEnd]
    assert session.wake_at_ns(state) > 20 * SECOND_NS
