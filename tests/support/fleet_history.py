"""What a fleet at work leaves in the log: full lives of jobs on many boxes, interleaved as they happen; seeded."""

import base64
import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from random import Random
from typing import TypeAlias

from google.protobuf.message import Message

from protos.common.v1.inventory_pb2 import Gpu, Inventory
from protos.events.v1 import job_pb2 as job
from protos.events.v1 import runner_pb2 as runner
from protos.training.v1 import training_pb2 as training
from protos.training.v1.training_pb2 import EndReason

# One command's events: when (ms), by whom, and for each event its stream's kind and id.
Step: TypeAlias = tuple[int, str, Sequence[tuple[str, str, Message]]]

HOUR_MS = 3_600_000
WINDOW_MS = 900_000
MEAN_CYCLE_MS = round(4.3 * HOUR_MS)

_GIB = 1 << 30
_MULTIPLIERS = {
    "NVIDIA T4": 1_000_000,
    "NVIDIA A10G": 2_500_000,
    "NVIDIA L4": 1_800_000,
    "NVIDIA GeForce RTX 4090": 4_500_000,
    "NVIDIA A100-SXM4-80GB": 5_500_000,
}
_PEOPLE = tuple(f"token:tok_person{number:02d}xxxxxx" for number in range(12))
_ARCHITECTURES = ("resnet-tiny", "resnet-50", "convnext-small", "vit-base")


@dataclass(frozen=True, slots=True)
class Box:
    """A runner of the fleet, with what JobAssigned says of it."""

    runner_id: str
    name: str
    gpus: Sequence[job.ChargedGpu]


def fleet_history(seed: int, boxes: int, start_ms: int) -> Iterator[Step]:
    """The steps of all boxes in the order of their times, without end. The same arguments make the same history.

    Of 1000 trainings about 930 finish, 30 fail for the user's reasons, 20 are stopped, 10 fail with their box and are
    repeated, and 10 are presumed to have ended after the window, of which nine are put right later; one in 20 is cut
    off for a while. A training has about ten events, its share of the runner's included.
    """
    fleet = [_Life(Random(f"{seed}/{number}"), number) for number in range(boxes)]
    return heapq.merge(*(life.steps(start_ms) for life in fleet), key=itemgetter(0))


class _Life:
    """One box and its trainings, one after the other."""

    def __init__(self, random: Random, number: int) -> None:
        self._random = random
        name = f"box-{number:04d}"
        kinds = random.choices(tuple(_MULTIPLIERS), k=random.choice((1, 1, 1, 2, 4)))
        gpus = [
            job.ChargedGpu(uuid=f"GPU-{number:04d}-{index}", type=kind, multiplier_micros=_MULTIPLIERS[kind])
            for index, kind in enumerate(kinds)
        ]
        self._box = Box(self._id("rn"), name, gpus)
        self._actor = f"runner:{self._box.runner_id}"
        self._rate_micros = sum(gpu.multiplier_micros for gpu in gpus)
        self._session = 0

    def steps(self, at_ms: int) -> Iterator[Step]:
        random = self._random
        at_ms += random.randrange(HOUR_MS)
        registered = runner.RunnerRegistered(name=self._box.name, key_sha256=random.randbytes(32))
        yield at_ms, "service:scheduler", [self._of_runner(registered)]
        yield at_ms + 2000, self._actor, [self._of_runner(self._connected()), self._status(runner.RUNNER_STATUS_ONLINE)]
        while True:
            at_ms += round(random.expovariate(1 / (0.3 * HOUR_MS))) + 5000
            for step in self._training(at_ms):
                at_ms = step[0]
                yield step

    def _training(self, at_ms: int) -> Iterator[Step]:
        random = self._random
        job_id, attempt_id = self._id("jb"), self._id("at")
        submitted = job.JobSubmitted(
            name=f"{random.choice(_ARCHITECTURES)}-{random.randrange(10_000)}",
            spec=_spec(random),
            runner_id=self._box.runner_id,
            queue_expires_at_ms=at_ms + 24 * HOUR_MS,
        )
        yield at_ms, random.choice(_PEOPLE), [("job", job_id, submitted), *self._assigned(job_id, attempt_id, 1)]
        retried = random.random() < 0.01
        if retried:
            until_ms = at_ms + random.randrange(HOUR_MS)
            charged = _interval(at_ms + 1200, until_ms)
            failed = job.JobFailed(
                attempt_id=attempt_id,
                interval=charged,
                reason=EndReason.END_REASON_INFRASTRUCTURE,
                message="the GPU fell off the bus",
                will_retry=True,
                report_sequence=2,
            )
            yield at_ms + 1200, self._actor, [("job", job_id, _started(attempt_id, at_ms + 1200))]
            yield until_ms, self._actor, [("job", job_id, failed), self._freed(job_id, attempt_id)]
            at_ms, attempt_id = until_ms + 30_000, self._id("at")
            yield at_ms, "service:scheduler", self._assigned(job_id, attempt_id, 2)
        yield from self._attempt(at_ms, job_id, attempt_id)

    def _attempt(self, at_ms: int, job_id: str, attempt_id: str) -> Iterator[Step]:
        random = self._random
        start_ms = at_ms + random.randrange(800, 2000)
        yield start_ms, self._actor, [("job", job_id, _started(attempt_id, start_ms))]
        at_ms = start_ms
        evaluations = random.choice((1, 1, 2, 2, 3))
        for number in range(1, evaluations + 1):
            at_ms += round(random.expovariate(evaluations / (3.8 * HOUR_MS))) + 1000
            yield at_ms, self._actor, self._measured(job_id, attempt_id, number)
        if random.random() < 0.05:
            at_ms += random.randrange(HOUR_MS // 2)
            for step in self._lapse(at_ms, job_id, attempt_id):
                at_ms = step[0]
                yield step
        at_ms += random.randrange(60_000)
        if random.random() < 0.01:
            yield from self._lost(at_ms, job_id, attempt_id, start_ms)
        else:
            yield from self._ended(at_ms, job_id, attempt_id, start_ms)

    def _measured(self, job_id: str, attempt_id: str, number: int) -> Sequence[tuple[str, str, Message]]:
        random = self._random
        metrics = {name: random.random() for name in ("val/accuracy", "val/loss", "val/f1", "train/loss")}
        evaluated = job.EvaluationCompleted(
            attempt_id=attempt_id, step=number * 500, epoch=number, metrics=metrics, report_sequence=2 * number
        )
        name = f"step-{number * 500:08d}.safetensors"
        checkpoint = training.Checkpoint(
            name=name,
            path=f"/var/lib/tether-runner/attempts/{attempt_id}/checkpoints/{name}",
            step=number * 500,
            epoch=number,
            bytes=random.randrange(10**7, 10**9),
            sha256=random.randbytes(32).hex(),
            metrics=metrics,
            best=random.random() < 0.5,
        )
        saved = job.CheckpointSaved(attempt_id=attempt_id, checkpoint=checkpoint, report_sequence=2 * number + 1)
        return [("job", job_id, evaluated), ("job", job_id, saved)]

    def _lapse(self, at_ms: int, job_id: str, attempt_id: str) -> Iterator[Step]:
        yield at_ms, "service:scheduler", self._silent(at_ms, job_id, attempt_id)
        cut_off_ms = self._random.randrange(20_000, WINDOW_MS - 60_000)
        reachable = job.JobReachable(attempt_id=attempt_id, cut_off_ms=cut_off_ms)
        back = [self._of_runner(self._connected(attempt_id)), ("job", job_id, reachable)]
        yield at_ms + cut_off_ms, self._actor, back

    def _silent(self, at_ms: int, job_id: str, attempt_id: str) -> Sequence[tuple[str, str, Message]]:
        last_ms = at_ms - 15_000
        gone = runner.RunnerDisconnected(
            epoch=self._session, last_contact_at_ms=last_ms, reason="it was silent for 15 s"
        )
        unreachable = job.JobUnreachable(
            attempt_id=attempt_id,
            last_contact_at_ms=last_ms,
            deadline_at_ms=last_ms + WINDOW_MS,
            reason=EndReason.END_REASON_CONNECTION_LOST,
        )
        return [self._of_runner(gone), ("job", job_id, unreachable)]

    def _lost(self, at_ms: int, job_id: str, attempt_id: str, start_ms: int) -> Iterator[Step]:
        """Not heard of again within the window; nine of ten boxes tell the truth later."""
        yield at_ms, "service:scheduler", self._silent(at_ms, job_id, attempt_id)
        deadline_ms = at_ms - 15_000 + WINDOW_MS
        killed = job.JobKilled(
            attempt_id=attempt_id,
            interval=_interval(start_ms, deadline_ms, presumed=True),
            reason=EndReason.END_REASON_CONNECTION_LOST,
            message="the box was not heard of within the window",
        )
        yield deadline_ms + 53_000, "service:scheduler", [("job", job_id, killed)]
        at_ms = deadline_ms + self._random.randrange(60_000, 6 * HOUR_MS)
        yield at_ms, self._actor, [self._of_runner(self._connected()), self._freed(job_id, attempt_id)]
        if self._random.random() < 0.9:
            truth = _interval(start_ms, deadline_ms - self._random.randrange(WINDOW_MS))
            corrected = job.JobOutcomeCorrected(
                attempt_id=attempt_id, interval=truth, finished=job.JobFinished(steps=1500, epochs=3), report_sequence=9
            )
            yield at_ms + 1000, self._actor, [("job", job_id, corrected)]

    def _ended(self, at_ms: int, job_id: str, attempt_id: str, start_ms: int) -> Iterator[Step]:
        random, charged = self._random, _interval(start_ms, at_ms)
        fate = random.random()
        ended: Message
        if fate < 0.03:
            reason, message = EndReason.END_REASON_DATASET, "12 images cannot be read; run `tether datasets check`"
            ended = job.JobFailed(
                attempt_id=attempt_id, interval=charged, reason=reason, message=message, report_sequence=8
            )
        elif fate < 0.05:
            reason = EndReason.END_REASON_STOPPED_BY_PERSON
            yield at_ms - 900, random.choice(_PEOPLE), [("job", job_id, job.JobKillRequested(reason=reason))]
            ended = job.JobKilled(attempt_id=attempt_id, interval=charged, reason=reason, report_sequence=8)
        else:
            metrics = {"val/accuracy": random.random(), "val/loss": random.random()}
            ended = job.JobFinished(
                attempt_id=attempt_id, interval=charged, steps=1500, epochs=3, metrics=metrics, report_sequence=8
            )
        yield at_ms, self._actor, [("job", job_id, ended), self._freed(job_id, attempt_id)]

    def _assigned(self, job_id: str, attempt_id: str, number: int) -> Sequence[tuple[str, str, Message]]:
        assigned = job.JobAssigned(
            attempt_id=attempt_id,
            runner_id=self._box.runner_id,
            runner_name=self._box.name,
            gpus=self._box.gpus,
            evaluation_factor_micros=1_000_000,
            rate_micros=self._rate_micros,
            window_ms=WINDOW_MS,
            attempt=number,
        )
        return [("job", job_id, assigned), self._status(runner.RUNNER_STATUS_OCCUPIED, attempt_id, job_id)]

    def _status(
        self, status: runner.RunnerStatus.ValueType, attempt_id: str = "", job_id: str = "", ended_attempt_id: str = ""
    ) -> tuple[str, str, Message]:
        changed = runner.RunnerStatusChanged(
            status=status, attempt_id=attempt_id, job_id=job_id, ended_attempt_id=ended_attempt_id
        )
        return self._of_runner(changed)

    def _freed(self, job_id: str, attempt_id: str) -> tuple[str, str, Message]:
        return self._status(runner.RUNNER_STATUS_ONLINE, ended_attempt_id=attempt_id)

    def _connected(self, *live_attempts: str) -> Message:
        self._session += 1
        inventory = Inventory(
            gpus=[Gpu(uuid=gpu.uuid, type=gpu.type, vram_bytes=24 * _GIB) for gpu in self._box.gpus],
            driver_version="580.95.05",
            cpu_ram_bytes=128 * _GIB,
            cpu_cores=16,
            hostname=self._box.name,
        )
        return runner.RunnerConnected(
            installation_id=f"installation-of-{self._box.name}", inventory=inventory, live_attempts=live_attempts
        )

    def _of_runner(self, event: Message) -> tuple[str, str, Message]:
        return "runner", self._box.runner_id, event

    def _id(self, prefix: str) -> str:
        return f"{prefix}_{base64.b32encode(self._random.randbytes(10)).decode().lower()}"


def _started(attempt_id: str, at_ms: int) -> Message:
    return job.JobStarted(attempt_id=attempt_id, started_at_ms=at_ms, weights="random", report_sequence=1)


def _interval(start_ms: int, until_ms: int, presumed: bool = False) -> job.ChargedInterval:
    ended_ms = until_ms + (0 if presumed else 900)
    return job.ChargedInterval(
        started_at_ms=start_ms, charged_until_ms=until_ms, ended_at_ms=ended_ms, presumed=presumed
    )


def _spec(random: Random) -> training.TrainingSpec:
    number = random.randrange(40)
    return training.TrainingSpec(
        dataset=training.Dataset(
            dataset_id=f"ds_dataset{number:02d}xxxxxxx", name=f"parts-{number}", location=f"/data/parts/{number}"
        ),
        architecture=training.Architecture(
            architecture_id=_ARCHITECTURES[number % 4], task=training.TASK_CLASSIFICATION, family="resnet"
        ),
        hyperparameters=training.Hyperparameters(batch_size=64, image_size=224, learning_rate=0.001, seed=number),
        checkpoint_strategy=training.CheckpointStrategy(evaluation_interval_steps=500, keep_best=2),
        limits=training.Limits(epochs=3, retries=1),
    )
