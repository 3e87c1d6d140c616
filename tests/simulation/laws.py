"""What must hold at every moment, whatever fails; and what must be true when everything has come back."""

from dataclasses import dataclass, field
from typing import Any

from protos.events.v1 import job_pb2 as ev
from protos.events.v1.runner_pb2 import RunnerStatus
from protos.scheduler.v1.job_pb2 import JobState
from services.metrics.chunks import skip_of
from tests.simulation.box import Box
from tests.simulation.log import Record
from tests.simulation.platform import Platform
from tests.simulation.trainer import Trainer
from tests.simulation.world import EPOCH_MS, MS, SECOND, World

GRACE = 30 * SECOND
# Two processes do not act in the same instant.
SLACK = SECOND // 20
# A keeper stamps every 5 s.
STAMPED = 6 * SECOND
# A box is heard of each 5 s.
HEARTBEAT = 5 * SECOND
ENDS = (ev.JobFinished, ev.JobFailed, ev.JobKilled)


class LawBroken(AssertionError):
    pass


@dataclass
class Truth:
    """What really happened to one attempt, in true time."""

    box: Box
    trainer: Trainer
    started: int = 0
    # Where the charge must end: the stop began, or it ended by itself.
    ended: int = 0
    # Box time at which its stop began.
    stopping_since: int = 0
    # By how much the charge may be too small or too large, ns.
    short: int = SECOND
    long: int = SECOND
    exact: bool = True

    def end(self, now: int) -> None:
        if self.started and not self.ended:
            self.ended = now


@dataclass
class Laws:
    world: World
    platform: Platform
    boxes: list[Box] = field(default_factory=list)
    truths: dict[str, Truth] = field(default_factory=dict)
    received: dict[str, int] = field(default_factory=dict)
    outcomes: dict[str, int] = field(default_factory=dict)
    corrections: dict[str, int] = field(default_factory=dict)
    # Runner → when its sessions were opened.
    lapses: dict[str, list[int]] = field(default_factory=dict)
    # Runner → when its guest was paused last, and for how long in all shortly before.
    pauses: dict[str, tuple[int, int]] = field(default_factory=dict)

    def broken(self, law: str) -> None:
        raise LawBroken(law)

    # ---- on the box

    def released(self, box: Box, trainer: Trainer) -> None:
        others = [one.attempt_id for one in box.trainers if one.alive and one.released and one is not trainer]
        if others:
            self.broken(f"two trainings live on one box: {trainer.attempt_id} and {others}")
        if trainer.attempt_id in self.truths:
            self.broken(f"{trainer.attempt_id} was started twice")
        self.truths[trainer.attempt_id] = Truth(box, trainer)

    def started(self, box: Box, trainer: Trainer) -> None:
        truth = self.truths[trainer.attempt_id]
        truth.started = self.world.now
        recent = sum(self.world.now - at < 60 * SECOND for at in self.lapses.get(box.runner_id, []))
        truth.short += recent * SECOND
        truth.long += recent * SECOND
        paused_at, length = self.pauses.get(box.runner_id, (0, 0))
        if self.world.now - paused_at < 60 * SECOND:
            # What the box knows of platform time is from before the pause, until it hears of it again.
            truth.short += 2 * length
            truth.long += length

    def stop_began(self, box: Box, trainer: Trainer) -> None:
        if trainer.computing:
            self.check_deadline(box, trainer)
        truth = self.truths[trainer.attempt_id]
        self._end(box, truth)
        truth.stopping_since = box.boottime

    def _end(self, box: Box, truth: Truth) -> None:
        """A box that slept through its deadline is charged to the deadline."""
        late = max(0, box.boottime - box.contact - self.platform.window_ms * MS)
        if late:
            # What the agent read as the box woke may have come too late for the keeper, which then held the deadline of
            # the heartbeat before: charged for less, never for more.
            truth.short += HEARTBEAT
        truth.end(max(truth.started, self.world.now - int(late / box.rate)))

    def stopped_computing(self, box: Box, trainer: Trainer) -> None:
        self.check_deadline(box, trainer)

    def died(self, box: Box, trainer: Trainer) -> None:
        truth = self.truths.get(trainer.attempt_id)
        if truth is None:
            return
        if trainer.computing:
            self.check_deadline(box, trainer)
        self._end(box, truth)

    def keeper_killed(self, box: Box, trainer: Trainer) -> None:
        truth = self.truths.get(trainer.attempt_id)
        if truth is not None:
            self._only_stamped(box, truth)

    def powered_off(self, box: Box) -> None:
        for trainer in box.trainers:
            truth = self.truths.get(trainer.attempt_id)
            if truth is not None and trainer.alive:
                self._only_stamped(box, truth)
                truth.end(self.world.now)

    def _only_stamped(self, box: Box, truth: Truth) -> None:
        """Nobody wrote the end: what is known is the last stamp."""
        folder = box.disk.get(truth.trainer.attempt_id)
        if folder is None or folder.ended or not truth.started:
            return
        stamped = int(folder.stamp.get("boottime_ns", 0))
        ran = (truth.ended or self.world.now) - truth.started
        lag = int((box.boottime - stamped) / box.rate) if stamped else ran
        if not box.frozen and box.boottime - box.thawed_at > STAMPED:
            lag = min(lag, STAMPED)
        # A process that is stuck goes on without anybody who stamps.
        truth.short += 1 << 60 if truth.trainer.stuck else min(lag, ran)

    def paused(self, box: Box, length: int) -> None:
        """The guest's clock stood still: the box cannot know that time has passed."""
        before = self.pauses.get(box.runner_id, (0, 0))
        recent = before[1] if self.world.now - before[0] < 60 * SECOND else 0
        self.pauses[box.runner_id] = (self.world.now, recent + length)
        for truth in self.truths.values():
            if truth.box is box and truth.started:
                # Held to its deadline it may be charged less than it ran, never more.
                truth.short += 2 * length
                truth.long += length

    def lapsed(self, box: Box) -> None:
        """A session was opened anew: platform time is known less exactly on the box for a while."""
        self.lapses.setdefault(box.runner_id, []).append(self.world.now)
        for truth in self.truths.values():
            if truth.box is box:
                truth.short += SECOND
                truth.long += SECOND

    def disk_was_full(self, box: Box) -> None:
        for truth in self.truths.values():
            if truth.box is box:
                truth.exact = False

    def check_deadline(self, box: Box, trainer: Trainer) -> None:
        if trainer.kills:
            # Not even SIGKILL reaches it: the runner is not given away meanwhile, and that is another law.
            return
        # A stop that has begun may take the grace; one that has not is due at the deadline, or when the box wakes up.
        truth = self.truths[trainer.attempt_id]
        grace = GRACE if truth.stopping_since else 0
        last = max(box.contact + self.platform.window_ms * MS, box.thawed_at) + grace + SLACK
        if truth.stopping_since and box.boottime > max(truth.stopping_since, box.thawed_at) + GRACE + SLACK:
            self.broken(f"{trainer.attempt_id} was not killed when its grace was over")
        if box.boottime > last:
            late = (box.boottime - last) / SECOND
            self.broken(f"{trainer.attempt_id} trained {late:.1f} s beyond its window{' and grace' * bool(grace)}")

    def delivered(self, attempt_id: str, first: int, last: int) -> None:
        known = self.received.get(attempt_id, 0)
        skip = skip_of(first, last - first + 1, known)
        if skip is None:
            self.broken(f"records {known + 1} to {first - 1} of {attempt_id} were never delivered")
        self.received[attempt_id] = max(known, last)

    # ---- at the platform

    def appended(self, record: Record) -> None:
        event: Any = record.event
        if isinstance(event, ev.JobAssigned):
            for box in self.boxes:
                if box.runner_id == event.runner_id:
                    living = [one.attempt_id for one in box.trainers if one.alive and one.released]
                    if living:
                        self.broken(f"{event.runner_id} was given {event.attempt_id} while {living} lives")
            if self.platform.log.jobs[record.stream_id].over:
                self.broken(f"{record.stream_id} was assigned after its end")
            self._resumed(record.stream_id, event)
        elif isinstance(event, ev.JobUnreachable):
            runner = self.platform.log.runners[self.platform.log.jobs[record.stream_id].runner_id]
            lease = self.platform.log.leases.get(runner.replica, 0)
            latest = max(self.platform.heard_ms.get(runner.runner_id, 0), EPOCH_MS + lease // MS)
            if event.last_contact_at_ms > max(latest, runner.last_contact_at_ms) + 1:
                self.broken(f"{record.stream_id}: the last contact is told later than it was")
            if event.deadline_at_ms != event.last_contact_at_ms + self.platform.window_ms:
                self.broken(f"{record.stream_id}: the deadline is not last contact + window")
        elif isinstance(event, ev.JobFailed | ev.JobKilled) and event.will_retry:
            self.world.note("a training is to be repeated")
        elif isinstance(event, ENDS):
            self.outcomes[record.stream_id] = self.outcomes.get(record.stream_id, 0) + 1
            if self.outcomes[record.stream_id] > 1:
                self.broken(f"{record.stream_id} has two outcomes")
            if isinstance(event, ev.JobKilled) and event.interval.presumed:
                self._presumed(record, event)
        elif isinstance(event, ev.JobOutcomeCorrected):
            self.corrections[event.attempt_id] = self.corrections.get(event.attempt_id, 0) + 1
            if self.corrections[event.attempt_id] > 1:
                self.broken(f"{event.attempt_id} was corrected twice")
            self.world.note("an outcome was corrected")

    def _resumed(self, job_id: str, event: ev.JobAssigned) -> None:
        origin = self.platform.log.jobs[job_id].origin
        if origin is None:
            return
        if not self.platform.log.jobs[origin.job_id].over:
            self.broken(f"{job_id} goes on from {origin.job_id}, which is not over")
        begins = event.resume_from if event.HasField("resume_from") else origin
        if begins.runner_id != event.runner_id:
            self.broken(f"{job_id} goes on from a checkpoint on {begins.runner_id}, and {event.runner_id} was given it")
        if event.attempt > 1:
            self.world.note("a resumed job was repeated")

    def _presumed(self, record: Record, event: ev.JobKilled) -> None:
        job = self.platform.log.jobs[record.stream_id]
        contact_ms = job.last_contact_at_ms
        if event.interval.charged_until_ms > max(contact_ms + job.window_ms, event.interval.started_at_ms):
            self.broken(f"{job.job_id} is charged beyond last contact + window")
        if self.world.now_ms < contact_ms + job.window_ms + 35_000:
            self.broken(f"{job.job_id} was called lost too early")
        truth = self.truths.get(event.attempt_id)
        if truth is not None and truth.trainer.alive and truth.trainer.computing and self._clock_runs(truth):
            self.broken(f"{job.job_id} was called lost while it trained")

    def _clock_runs(self, truth: Truth) -> bool:
        """Whether the box could do what its clock says: not where it was frozen, or a process is stuck."""
        box = truth.box
        frozen = box.frozen or box.thawed_at > box.contact
        return not frozen and not truth.trainer.kills and not truth.trainer.stuck

    def acknowledged(self, runner_id: str, key: int, able_since: int) -> None:
        """A heartbeat that came with this key is acknowledged, by a process that could have known since then."""
        since = self.world.now - max(self.platform.refused_since(runner_id, key), able_since)
        if not self.platform.key_valid(runner_id, key) and since > 3 * SECOND:
            self.broken(f"{runner_id} is acknowledged {since / SECOND:.1f} s after its key was withdrawn")

    # ---- at any moment

    def check(self) -> None:
        for box in self.boxes:
            if not box.up or box.frozen:
                continue
            for trainer in box.trainers:
                if trainer.alive and trainer.computing:
                    self.check_deadline(box, trainer)

    # ---- when everything has come back

    def quiet(self) -> bool:
        """Whether nothing is left to happen; `reconciled` then says whether that is right."""
        log = self.platform.log
        return (
            all(job.over for job in log.jobs.values())
            and all(runner.placeable for runner in log.runners.values())
            and all(folder.told for box in self.boxes for folder in box.disk.values() if folder.facts)
            and all(folder.acknowledged == folder.spooled for box in self.boxes for folder in box.disk.values())
        )

    def reconciled(self) -> None:
        log = self.platform.log
        for job in log.jobs.values():
            if not job.over:
                self.broken(f"{job.job_id} never ended: {JobState.Name(job.state)}")
            if self.outcomes.get(job.job_id) != 1:
                self.broken(f"{job.job_id} has {self.outcomes.get(job.job_id, 0)} outcomes")
        for runner in log.runners.values():
            if runner.status != RunnerStatus.RUNNER_STATUS_ONLINE or not runner.placeable:
                status = RunnerStatus.Name(runner.status)
                self.broken(f"{runner.runner_id} is {status} with {runner.live_attempts} when all is well again")
        for box in self.boxes:
            for folder in box.disk.values():
                if folder.facts and not folder.told:
                    self.broken(f"the end of {folder.attempt_id} was never told")
                if self.received.get(folder.attempt_id, 0) != folder.spooled:
                    self.broken(f"{self.received.get(folder.attempt_id, 0)} of {folder.spooled} records arrived")
        for attempt_id, truth in self.truths.items():
            self._charge(attempt_id, truth)

    def _charge(self, attempt_id: str, truth: Truth) -> None:
        charged = self.platform.log.charged_ms(attempt_id) * MS
        ran = truth.ended - truth.started if truth.started else 0
        # What a clock that is wrong by 1 % can do between two acknowledgements, the window at most.
        drift = int(abs(truth.box.rate - 1) * (self.platform.window_ms * MS + GRACE + 60 * SECOND))
        if charged > ran + truth.long + drift or (truth.exact and charged < ran - truth.short - drift):
            self.broken(f"{attempt_id} ran {ran / SECOND:.2f} s and is charged {charged / SECOND:.2f} s")
