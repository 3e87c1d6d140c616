"""A scheduler process: the real session machine and the real decisions, with commits that take their time or fail."""

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from google.protobuf.message import Message

from protos.events.v1.runner_pb2 import RunnerDisconnected, SuspensionOwner
from protos.scheduler.v1 import session_pb2 as pb
from protos.scheduler.v1.job_pb2 import JobState
from services.scheduler.domain import attempt as attempts
from services.scheduler.domain import session, stream
from services.scheduler.domain.refusals import HeldByAnotherInstallation, StaleReport
from tests.simulation.leader import LEASE, Leader
from tests.simulation.log import Log, Record
from tests.simulation.world import MS, SECOND, Stream, World

if TYPE_CHECKING:
    from tests.simulation.platform import Platform

QUEUED = JobState.JOB_STATE_QUEUED
PATIENCE = 20 * SECOND
Both = tuple[Sequence[Message], Sequence[Message]]
_CHANGES = {"RunnerStatusChanged", "RunnerSuspended", "RunnerResumed"}


class Served:
    """One stream at one scheduler process."""

    def __init__(self, runner_id: str, key: int, connection: Stream, now_ms: int) -> None:
        self.runner_id, self.key, self.connection = runner_id, key, connection
        self.state = stream.opened(now_ms)
        # Read and not yet looked at: a reader waits for the commit of each message.
        self.inbox: deque[pb.ConnectRequest] = deque()
        self.busy = False
        # When it became the runner's session.
        self.since = 0


class Replica:
    """One scheduler process."""

    def __init__(self, world: World, log: Log, name: str, platform: "Platform") -> None:
        self.world, self.log, self.name, self.platform = world, log, name, platform
        self.alive, self.frozen, self.thawed_at = True, False, 0
        self.deferred: list[Callable[[], None]] = []
        self.open: dict[Stream, Served] = {}
        self.of: dict[str, Served] = {}
        self.valid_until = 0
        self.leads = False
        self.crash_in = -1
        # By how much events come late, and when the last one comes.
        self.lag = self.told_until = 0
        self._renew()
        self.every(LEASE // 3, self._renew)
        self.every(SECOND, self._watch)
        self.every(15 * SECOND, self._end_strays)
        self.every(SECOND, Leader(self).act)

    # ---- running

    def do(self, act: Callable[[], None]) -> None:
        """Run it in this process: now, when it is thawed, or never."""
        if not self.alive:
            return
        if self.frozen:
            self.deferred.append(act)
            return
        act()

    def every(self, interval: int, act: Callable[[], None]) -> None:
        def again() -> None:
            if self.alive:
                self.do(act)
                self.world.after(interval, again)

        self.world.after(int(interval * self.world.uniform(0.2, 1)), again)

    def crash(self) -> None:
        """kill -9; the kernel closes its connections."""
        self.alive = self.leads = False
        for connection in list(self.open):
            if connection.platform_open:
                connection.drop_by_platform()
        self.open.clear()
        self.of.clear()

    def freeze(self) -> None:
        self.frozen = True

    def thaw(self) -> None:
        self.frozen = False
        self.thawed_at = self.world.now
        deferred, self.deferred = self.deferred, []
        for act in deferred:
            self.do(act)

    def _renew(self) -> None:
        if not self.log.away:
            self.valid_until = self.world.now + LEASE
            self.log.leases[self.name] = self.world.now + LEASE

    @property
    def leased(self) -> bool:
        return self.world.now < self.valid_until

    # ---- commits

    def commit(self, decide: Callable[[], None], then: Callable[[bool], None] | None = None) -> None:
        """Decide and append a little later; `then` hears whether it happened, unless we died meanwhile."""
        expires = self.world.now + PATIENCE

        def attempt() -> None:
            if self.log.away:
                if self.world.now >= expires:
                    self.world.note("a commit ran out of patience")
                    if then is not None:
                        self.do(lambda: then(False))
                elif self.alive:
                    self.world.after(SECOND, attempt)
                return
            decide()
            if then is not None:
                self.world.after(self.world.uniform(0, 3) * MS, lambda: self.do(lambda: then(True)))

        slow = self.world.chance(0.15)
        self.world.after(self.world.uniform(1, 3000 if slow else 15) * MS, attempt)

    def _on_runner(self, runner_id: str, decide: Callable[[Any, Any], Both]) -> None:
        runner = self.log.runners[runner_id]
        job = self.log.jobs.get(runner.job_id) if runner.job_id else None
        runner_events, job_events = decide(runner, job)
        if job is not None:
            self.log.append("job", job.job_id, job_events)
        self.log.append("runner", runner_id, runner_events)

    # ---- streams

    def accept(self, connection: Stream, runner_id: str, key: int) -> None:
        def act() -> None:
            if not self.platform.key_valid(runner_id, key):
                connection.drop_by_platform(refused=True)
                return
            self.open[connection] = Served(runner_id, key, connection, self.world.now_ms)

        if not self.alive:
            connection.drop_by_platform()
        self.do(act)

    def received(self, connection: Stream, message: object) -> None:
        def act() -> None:
            served = self.open.get(connection)
            if served is not None and isinstance(message, pb.ConnectRequest):
                served.inbox.append(message)
                self._read(served)

        self.do(act)

    def broken(self, connection: Stream, refused: bool) -> None:
        def act() -> None:
            served = self.open.get(connection)
            if served is not None:
                self.take(served, stream.Broken())

        self.do(act)

    def _read(self, served: Served) -> None:
        while served.inbox and not served.busy and self.alive:
            if self.leased:
                self.platform.heard_ms[served.runner_id] = self.world.now_ms
            self.take(served, stream.Heard(served.inbox.popleft(), self.leased))

    def take(self, served: Served, item: stream.Input) -> None:
        served.state, actions = stream.step(served.state, item, self.world.now_ms)
        for action in actions:
            if self._dies():
                return
            self._perform(served, action)

    def _dies(self) -> bool:
        """Whether we are killed just before the next action."""
        if self.crash_in < 0:
            return not self.alive
        self.crash_in -= 1
        if self.crash_in < 0:
            self.world.note("scheduler killed between two actions")
            self.platform.kill(self)
        return not self.alive

    def _perform(self, served: Served, action: stream.Action) -> None:
        runner_id = served.runner_id
        match action:
            case stream.Say(message):
                if served.connection.platform_open:
                    if message.HasField("heartbeat_ack"):
                        self.platform.on_acknowledge(runner_id, served.key, max(self.thawed_at, served.since))
                    served.connection.to_box(message)
            case stream.Hangup():
                if served.connection.platform_open:
                    served.connection.drop_by_platform()
            case stream.Refuse() | stream.Postpone():
                if served.connection.platform_open:
                    served.connection.drop_by_platform()
            case stream.Forget():
                self.open.pop(served.connection, None)
                if self.of.get(runner_id) is served:
                    del self.of[runner_id]
            case stream.Connect(hello):
                self._connect(served, hello)
            case stream.Enter():
                self._enter(served)
            case stream.Commit(report):
                self._report(served, report)
            case stream.Suspend(state):
                served.busy = True
                self.commit(
                    lambda: self._decide_suspensions(runner_id, served.state.epoch, state),
                    lambda ok: self._committed(served, ok, None),
                )
            case stream.Disconnect(epoch, last_contact_ms, reason):
                self.commit(
                    lambda: self.decide_disconnect(runner_id, epoch, last_contact_ms, reason),
                    lambda ok: self.take(served, stream.Left()) if ok else None,
                )
            case stream.Answer():
                pass

    def _committed(self, served: Served, ok: bool, item: stream.Input | None) -> None:
        served.busy = False
        if not ok:
            # The call fails with UNAVAILABLE.
            if served.connection.platform_open:
                served.connection.drop_by_platform()
            self.take(served, stream.Broken())
            return
        if item is not None:
            self.take(served, item)
        self._read(served)

    def _connect(self, served: Served, hello: pb.Hello) -> None:
        served.busy = True
        result: dict[str, Any] = {}

        def decide() -> None:
            now_ms = self.world.now_ms
            try:
                self._on_runner(
                    served.runner_id,
                    lambda runner, job: session.connect(runner, job, hello, self.name, now_ms),
                )
            except HeldByAnotherInstallation:
                result["refused"] = True
                return
            result["epoch"] = self.log.runners[served.runner_id].epoch

        def then(ok: bool) -> None:
            if result.get("refused"):
                self.world.note("a copied key was refused")
                if served.connection.platform_open:
                    served.connection.drop_by_platform(refused=True)
                self.take(served, stream.Broken())
                return
            welcome = pb.Welcome(
                epoch=result.get("epoch", 0),
                heartbeat_interval_ms=5000,
                platform_at_ms=self.world.now_ms,
            )
            newest = ok and self.log.runners[served.runner_id].epoch == result["epoch"]
            self._committed(served, ok, stream.Connected(welcome, self.leased, newest) if ok else None)

        self.commit(decide, then)

    def _enter(self, served: Served) -> None:
        older = self.of.get(served.runner_id)
        if older is not None and older.state.epoch > served.state.epoch:
            self.take(served, stream.Replaced(older.state.epoch))
            return
        self.of[served.runner_id] = served
        served.since = self.world.now
        if older is not None:
            self.take(older, stream.Replaced(served.state.epoch))
        self.direct(served)

    def _report(self, served: Served, report: pb.Report) -> None:
        served.busy = True
        rejected: list[str] = []

        def decide() -> None:
            runner = self.log.runners[served.runner_id]
            job = self.log.jobs.get(runner.job_id if runner.attempt_id == report.attempt_id else report.job_id)
            try:
                if job is None:
                    raise StaleReport(report.attempt_id)
                job_events, runner_events = attempts.report(job, runner, report, self.world.now_ms)
            except StaleReport as stale:
                rejected.append(str(stale))
                return
            self.log.append("job", job.job_id, job_events)
            self.log.append("runner", runner.runner_id, runner_events)

        def then(ok: bool) -> None:
            settled = stream.Settled(report.attempt_id, report.sequence, rejected[0] if rejected else "")
            self._committed(served, ok, settled if ok else None)

        self.commit(decide, then)

    def _decide_suspensions(self, runner_id: str, epoch: int, state: pb.SuspensionState) -> None:
        now_ms = self.world.now_ms
        self._on_runner(runner_id, lambda runner, _job: (session.box_suspensions(runner, epoch, state, now_ms), []))

    def decide_disconnect(self, runner_id: str, epoch: int, last_contact_ms: int, reason: str) -> None:
        now_ms = self.world.now_ms
        self._on_runner(
            runner_id,
            lambda runner, job: session.disconnect(runner, job, epoch, last_contact_ms, reason, now_ms),
        )

    # ---- directives

    def told(self, record: Record) -> None:
        """An event, as the subscription brings it."""
        if record.kind == "runner" and type(record.event).__name__ in _CHANGES:
            self._direct_runner(record.stream_id)
        elif type(record.event).__name__ == "JobKillRequested":
            self._direct_runner(self.log.jobs[record.stream_id].runner_id)
        elif type(record.event).__name__ == "RunnerConnected":
            served = self.of.get(record.stream_id)
            if served is not None:
                # The version of the record, which names the epoch.
                epoch = self.platform.epochs[record.position]
                self.take(served, stream.Replaced(epoch))

        elif isinstance(record.event, RunnerDisconnected) and record.stream_id in self.of:
            self.take(self.of[record.stream_id], stream.Ended(record.event.epoch))

    def _direct_runner(self, runner_id: str) -> None:
        served = self.of.get(runner_id)
        if served is not None:
            self.direct(served)

    def direct(self, served: Served) -> None:
        runner = self.log.runners[served.runner_id]
        admin = SuspensionOwner.SUSPENSION_OWNER_ADMIN
        directive = pb.Directive(suspended_by_admin=any(s.owner == admin for s in runner.suspensions))
        job = self.log.jobs.get(runner.job_id) if runner.job_id else None
        if job is not None and job.attempt_id == runner.attempt_id:
            directive.attempt.CopyFrom(
                pb.Assignment(
                    attempt_id=job.attempt_id,
                    job_id=job.job_id,
                    window_ms=job.window_ms,
                    stop_reason=job.kill_reason,
                    stop_message=job.kill_message,
                )
            )
        self.take(served, stream.Wanted(directive))

    # ---- as time passes

    def _watch(self) -> None:
        for served in list(self.open.values()):
            if not self.platform.key_valid(served.runner_id, served.key):
                self.take(served, stream.KeyRefused())
            if stream.due(served.state, self.world.now_ms):
                self.take(served, stream.Tick())

    def _end_strays(self) -> None:
        if self.log.away:
            return
        known = {served.runner_id for served in self.open.values()}
        for runner in list(self.log.runners.values()):
            if runner.connected and runner.replica == self.name and runner.runner_id not in known:
                self.world.note("a session that nobody holds was ended")
                # Looked up now and ended a little later, as the leader's orphans are.
                end = partial(self.decide_disconnect, runner.runner_id, runner.epoch, runner.last_contact_at_ms, "")
                self.commit(end)
