"""Random histories of whole workspaces, as the log would hold them; the same choices give the same log.

    records = history(random.Random(7))             # a seed, for tests on real servers
    @given(histories())                             # hypothesis chooses, and shrinks

A history is a list of EventRecords in position order, complete with envelope: workspaces with quotas that are set and
raised and minutes that are adjusted, jobs with several attempts on boxes of mixed GPUs, lapses that end in time and
lapses that do not, presumed ends and their corrections days later. It lies around a month's end, a year's end, a leap
day or mid-month, and is cut at a random moment, so that some trainings still run at its end. Every prefix of it is a
history too. Moments are milliseconds of platform time and are never later than the record that tells them, except
deadlines.
"""

import random
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime

from google.protobuf.message import Message
from hypothesis import strategies as st

from protos.eventlog.v1.eventlog_pb2 import EventRecord
from protos.events.v1 import job_pb2 as job
from protos.events.v1 import workspace_pb2 as workspace
from protos.training.v1.training_pb2 import AdvancedEvaluation, Architecture, Dataset, EndReason, TrainingSpec

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
WINDOW_MS = 15 * MINUTE_MS
WORKSPACES = ("ws_1", "ws_2")
PEOPLE = ("token:tok_anna", "token:tok_boris", "token:tok_chen")
# Product names and multipliers (millionths) of a day; another day's table may differ.
GPUS = (("Tesla T4", 1_000_000), ("NVIDIA A10G", 2_500_000), ("Tesla P4", 700_000), ("NVIDIA H100 NVL", 10_000_000))


def _ms(*moment: int) -> int:
    return int(datetime(*moment, tzinfo=UTC).timestamp()) * 1000  # type: ignore[misc,arg-type]


# Where histories begin: before the end of a short month, of a year, around a leap day, and where nothing happens.
BEGINNINGS_MS = (
    _ms(2026, 11, 15, 12),
    _ms(2026, 11, 30, 23, 40),
    _ms(2026, 12, 31, 23, 59),
    _ms(2028, 2, 28, 23, 30),
    _ms(2028, 2, 29, 23, 50),
    _ms(2027, 2, 28, 22),
)


def histories(max_jobs: int = 5) -> st.SearchStrategy[list[EventRecord]]:
    """Histories for hypothesis."""
    jobs = st.integers(0, max_jobs)
    return st.builds(history, st.randoms(use_true_random=False), jobs)


def history(chance: random.Random, jobs: int = 5, begin_ms: int = 0) -> list[EventRecord]:
    """One history with `jobs` jobs; zero for `begin_ms`: one of BEGINNINGS_MS. About ten events a job."""
    told = Told(begin_ms or chance.choice(BEGINNINGS_MS))
    for workspace_id in WORKSPACES:
        _workspace(chance, told, workspace_id)
    for number in range(1, jobs + 1):
        _Life(chance, told, number).tell()
    # The end of what is known; mostly late enough for everything.
    last_ms = max(at_ms for at_ms, _ in told.facts)
    cut_ms = chance.choice((last_ms, last_ms, chance.randint(told.begin_ms, last_ms)))
    return told.records(cut_ms)


def record(
    position: int,
    event: Message,
    stream: tuple[str, str] = ("job", "jb_1"),
    version: int = 1,
    at_ms: int = BEGINNINGS_MS[0],
    workspace_id: str = WORKSPACES[0],
    actor: str = "service:test",
) -> EventRecord:
    """An event as a record. Its event id follows from the position."""
    made = EventRecord(
        position=position,
        event_id=str(uuid.UUID(int=position)),
        workspace_id=workspace_id,
        stream_kind=stream[0],
        stream_id=stream[1],
        stream_version=version,
        type=event.DESCRIPTOR.name,
        schema_version=1,
        recorded_at_us=at_ms * 1000,
        actor=actor,
        correlation_id=f"c{position}",
    )
    made.payload.type_url = f"type.googleapis.com/{event.DESCRIPTOR.full_name}"
    made.payload.value = event.SerializeToString()
    return made


class Told:
    """Facts as they are told, in any order of time; `records` puts them in order."""

    def __init__(self, begin_ms: int) -> None:
        self.begin_ms = begin_ms
        # Moment of the telling; workspace, stream, actor, event. The position of an earlier fact, for a correction.
        self.facts: list[tuple[int, tuple[str, tuple[str, str], str, Message]]] = []
        self._corrects: dict[int, int] = {}

    def say(self, at_ms: int, workspace_id: str, stream: tuple[str, str], actor: str, event: Message) -> int:
        """Returns the fact's number, for `corrects`."""
        self.facts.append((at_ms, (workspace_id, stream, actor, event)))
        return len(self.facts) - 1

    def corrects(self, correction: int, corrected: int) -> None:
        """The fact `correction` is to name the position of the fact `corrected`."""
        self._corrects[correction] = corrected

    def records(self, until_ms: int) -> list[EventRecord]:
        order = sorted(range(len(self.facts)), key=lambda number: self.facts[number][0])
        order = [number for number in order if self.facts[number][0] <= until_ms]
        positions = {number: position for position, number in enumerate(order, 1)}
        versions: dict[tuple[str, str], int] = {}
        made = []
        for number in order:
            at_ms, (workspace_id, stream, actor, event) = self.facts[number]
            if number in self._corrects:
                assert isinstance(event, job.JobOutcomeCorrected)
                event.corrects_position = positions[self._corrects[number]]
            versions[stream] = versions.get(stream, 0) + 1
            made.append(record(positions[number], event, stream, versions[stream], at_ms, workspace_id, actor))
        return made


def _workspace(chance: random.Random, told: Told, workspace_id: str) -> None:
    at_ms, stream = told.begin_ms, ("workspace", workspace_id)
    told.say(at_ms, workspace_id, stream, "operator", workspace.WorkspaceCreated(name=workspace_id))
    for _ in range(chance.randint(0, 3)):
        at_ms += chance.randint(0, 20 * DAY_MS)
        if chance.random() < 0.5:
            event: Message = workspace.QuotaSet(quota_milliminutes=chance.choice((None, 0, 5_000, 10**9)))
        else:
            month = datetime.fromtimestamp((at_ms - chance.choice((0, 31 * DAY_MS))) / 1000, UTC)
            event = workspace.MinutesAdjusted(
                period=f"{month:%Y-%m}",
                milliminutes=chance.choice((-90_500, -1, 1, 12_345)),
                reason="a box that stood still",
                job_id=chance.choice(("", "jb_1")) if workspace_id == WORKSPACES[0] else "",
            )
        told.say(at_ms, workspace_id, stream, chance.choice(PEOPLE), event)


class _Life:
    """A job from its submission to its last correction, told as it goes."""

    def __init__(self, chance: random.Random, told: Told, number: int) -> None:
        self._chance, self._told = chance, told
        self._workspace_id = WORKSPACES[0] if number == 1 else chance.choice(WORKSPACES)
        self._job_id, self._attempt = f"jb_{number}", 0
        self._at_ms = told.begin_ms + chance.choice((0, chance.randint(0, HOUR_MS), chance.randint(0, 20 * DAY_MS)))
        self._advanced = chance.random() < 0.4

    def tell(self) -> None:
        spec = TrainingSpec(
            dataset=Dataset(dataset_id=f"ds_{self._chance.randint(1, 2)}", name="digits"),
            architecture=Architecture(architecture_id=self._chance.choice(("resnet-tiny", "resnet-18"))),
            advanced_evaluation=AdvancedEvaluation(enabled=self._advanced),
        )
        submitted = job.JobSubmitted(name=f"job {self._job_id}", spec=spec, queued=True)
        self._say(submitted, self._chance.choice(PEOPLE))
        if self._chance.random() < 0.05:
            # Nobody took it: an end without an attempt.
            self._pass(DAY_MS)
            self._say(job.JobKilled(reason=EndReason.END_REASON_QUEUE_EXPIRED, interval=job.ChargedInterval()))
            return
        for retry in (True, True, False):
            if not self._one_attempt(retry and self._chance.random() < 0.5):
                return
            self._pass(self._duration_ms())

    @property
    def _attempt_id(self) -> str:
        return f"at_{self._job_id[3:]}{'abc'[self._attempt - 1]}"

    def _one_attempt(self, retry: bool) -> bool:
        """True if another one follows."""
        self._attempt += 1
        self._say(self._assigned())
        self._pass(self._chance.randint(0, 3000))
        if self._chance.random() < 0.1:
            nothing = job.ChargedInterval(ended_at_ms=self._at_ms)
            self._outcome(nothing, EndReason.END_REASON_INFRASTRUCTURE, retry)
            return retry
        start_ms = self._at_ms
        self._pass(self._chance.choice((0, 3, 2 * MINUTE_MS)))  # the report of the start may come late
        self._say(job.JobStarted(attempt_id=self._attempt_id, started_at_ms=start_ms, weights="random"))
        for _ in range(self._chance.choice((0, 0, 1, 2))):
            self._pass(self._duration_ms())
            if self._chance.random() < 0.3:
                self._say(job.EvaluationCompleted(attempt_id=self._attempt_id, step=9, metrics={"accuracy": 0.5}))
            if not self._lapse(start_ms):
                return False
        self._pass(self._duration_ms())
        # Stopped, perhaps, with the grace for a checkpoint; told a moment later.
        until_ms = end_ms = self._at_ms
        if self._chance.random() < 0.3:
            end_ms += self._chance.randint(0, 30_000)
            self._at_ms = end_ms
        self._pass(self._chance.randint(0, 500))
        charged = job.ChargedInterval(started_at_ms=start_ms, charged_until_ms=until_ms, ended_at_ms=end_ms)
        self._outcome(charged, EndReason.END_REASON_INFRASTRUCTURE if retry else self._reason(), retry)
        return retry

    def _assigned(self) -> job.JobAssigned:
        gpus = [
            job.ChargedGpu(uuid=f"GPU-{number}", type=name, multiplier_micros=micros)
            for number in range(self._chance.choice((1, 1, 2, 8)))
            for name, micros in [self._chance.choice(GPUS)]
        ]
        factor = 1_500_000 if self._advanced else 1_000_000
        runner = self._chance.randint(1, 3)
        return job.JobAssigned(
            attempt_id=self._attempt_id,
            runner_id=f"rn_{runner}",
            runner_name=f"box {runner}",
            gpus=gpus,
            evaluation_factor_micros=factor,
            rate_micros=sum(gpu.multiplier_micros for gpu in gpus) * factor // 1_000_000,
            window_ms=WINDOW_MS,
            simulated=runner == 3,
            attempt=self._attempt,
        )

    def _lapse(self, start_ms: int) -> bool:
        """The box is cut off. True if it is heard again before it had to stop."""
        contact_ms, deadline_ms = self._at_ms, self._at_ms + WINDOW_MS
        self._pass(15_000)
        self._say(
            job.JobUnreachable(
                attempt_id=self._attempt_id,
                last_contact_at_ms=contact_ms,
                deadline_at_ms=deadline_ms,
                reason=EndReason.END_REASON_CONNECTION_LOST,
            )
        )
        if self._chance.random() < 0.6:
            self._pass(self._chance.randint(0, WINDOW_MS - 15_000))
            self._say(job.JobReachable(attempt_id=self._attempt_id, cut_off_ms=self._at_ms - contact_ms))
            return True
        self._at_ms = deadline_ms + 53_000
        presumed = job.ChargedInterval(
            started_at_ms=start_ms, charged_until_ms=deadline_ms, ended_at_ms=deadline_ms, presumed=True
        )
        lost = EndReason.END_REASON_CONNECTION_LOST
        told = self._say(job.JobKilled(attempt_id=self._attempt_id, interval=presumed, reason=lost))
        for _ in range(self._chance.choice((0, 1, 1, 2))):
            self._pass(self._duration_ms())
            until_ms = self._chance.randint(start_ms, deadline_ms)
            truth = job.ChargedInterval(started_at_ms=start_ms, charged_until_ms=until_ms, ended_at_ms=until_ms)
            correction = job.JobOutcomeCorrected(attempt_id=self._attempt_id, interval=truth)
            if self._chance.random() < 0.5:
                correction.finished.CopyFrom(job.JobFinished(attempt_id=self._attempt_id, interval=truth, steps=9))
            else:
                correction.killed.CopyFrom(job.JobKilled(attempt_id=self._attempt_id, interval=truth, reason=lost))
            corrected, told = told, self._say(correction)
            self._told.corrects(told, corrected)
        return False

    def _outcome(self, charged: job.ChargedInterval, reason: EndReason.ValueType, will_retry: bool) -> None:
        if reason == EndReason.END_REASON_UNSPECIFIED:
            self._say(job.JobFinished(attempt_id=self._attempt_id, interval=charged, steps=9, epochs=1))
        elif reason == EndReason.END_REASON_INFRASTRUCTURE:
            failed = job.JobFailed(attempt_id=self._attempt_id, interval=charged, reason=reason, will_retry=will_retry)
            self._say(failed)
        else:
            self._say(job.JobKilled(attempt_id=self._attempt_id, interval=charged, reason=reason))

    def _reason(self) -> EndReason.ValueType:
        """How an attempt ends that is not tried again; unspecified: it finished."""
        reasons: Sequence[EndReason.ValueType] = (
            EndReason.END_REASON_UNSPECIFIED,
            EndReason.END_REASON_INFRASTRUCTURE,
            EndReason.END_REASON_STOPPED_BY_PERSON,
            EndReason.END_REASON_QUOTA_EXHAUSTED,
        )
        return self._chance.choice(reasons)

    def _duration_ms(self) -> int:
        """From nothing to two months; often up to a millisecond before, at or after the next midnight."""
        longest = self._chance.choice((0, 1000, HOUR_MS, 3 * DAY_MS, 60 * DAY_MS, -1))
        if longest >= 0:
            return self._chance.randint(0, longest)
        return DAY_MS - self._at_ms % DAY_MS + self._chance.randint(-1, 1)

    def _pass(self, ms: int) -> None:
        self._at_ms += ms

    def _say(self, event: Message, actor: str = "service:scheduler") -> int:
        return self._told.say(self._at_ms, self._workspace_id, ("job", self._job_id), actor, event)
