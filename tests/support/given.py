"""Given: aggregates folded from the events that made them."""

from google.protobuf.message import Message

from protos.common.v1.inventory_pb2 import Gpu, Inventory
from protos.events.v1 import job_pb2, runner_pb2
from protos.scheduler.v1.session_pb2 import BoxMoment, Ended, Hello, Outcome, Report, Started
from protos.training.v1.training_pb2 import Architecture, Requirements, TrainingSpec
from services.scheduler.domain import job as jobs
from services.scheduler.domain import runner as runners
from services.scheduler.domain.job import Job
from services.scheduler.domain.kinds import Envelope
from services.scheduler.domain.runner import Runner

GIB = 1 << 30
T0 = 1_790_000_000_000
WINDOW_MS = 900_000


def runner(*events: Message, at_ms: int = T0) -> Runner:
    """A runner called `box`, registered, and then what happened to it."""
    state = None
    for version, event in enumerate((runner_pb2.RunnerRegistered(name="box"), *events), 1):
        state = runners.evolve(state, event, Envelope("rn_1", "ws_1", version, at_ms, "", version))
    assert state is not None
    return state


def job(*events: Message, at_ms: int = T0) -> Job:
    """A job, submitted, and then what happened to it."""
    submitted = job_pb2.JobSubmitted(name="job", spec=spec(), queue_expires_at_ms=T0 + 1000)
    state = None
    for version, event in enumerate((submitted, *events), 1):
        state = jobs.evolve(state, event, Envelope("jb_1", "ws_1", version, at_ms, "token:t", version))
    assert state is not None
    return state


def spec(vram_gib: int = 1) -> TrainingSpec:
    needs = Requirements(min_gpu_vram_bytes=vram_gib * GIB, recommended_gpu_vram_bytes=2 * vram_gib * GIB)
    return TrainingSpec(architecture=Architecture(architecture_id="net", requirements=needs))


def inventory(*gpus: str, vram_gib: int = 24) -> Inventory:
    found = [Gpu(uuid=f"GPU-{n}", type=gpu, vram_bytes=vram_gib * GIB) for n, gpu in enumerate(gpus)]
    return Inventory(gpus=found, cpu_ram_bytes=64 * GIB, hostname="host")


def connected(installation_id: str = "i-1", live: tuple[str, ...] = ()) -> runner_pb2.RunnerConnected:
    return runner_pb2.RunnerConnected(
        installation_id=installation_id, inventory=inventory("NVIDIA A10G"), live_attempts=live
    )


def online() -> runner_pb2.RunnerStatusChanged:
    return runner_pb2.RunnerStatusChanged(status=runner_pb2.RUNNER_STATUS_ONLINE)


def occupied(attempt_id: str = "at_1") -> runner_pb2.RunnerStatusChanged:
    status = runner_pb2.RUNNER_STATUS_OCCUPIED
    return runner_pb2.RunnerStatusChanged(status=status, attempt_id=attempt_id, job_id="jb_1")


def disconnected(last_contact_ms: int = T0) -> runner_pb2.RunnerDisconnected:
    return runner_pb2.RunnerDisconnected(epoch=2, last_contact_at_ms=last_contact_ms)


def assigned(attempt_id: str = "at_1") -> job_pb2.JobAssigned:
    return job_pb2.JobAssigned(
        attempt_id=attempt_id, runner_id="rn_1", runner_name="box", rate_micros=2_500_000, window_ms=WINDOW_MS
    )


def started(at_ms: int = T0) -> job_pb2.JobStarted:
    return job_pb2.JobStarted(attempt_id="at_1", started_at_ms=at_ms, report_sequence=1)


def unreachable(last_contact_ms: int = T0) -> job_pb2.JobUnreachable:
    deadline = last_contact_ms + WINDOW_MS
    return job_pb2.JobUnreachable(attempt_id="at_1", last_contact_at_ms=last_contact_ms, deadline_at_ms=deadline)


def moment(at_ms: int) -> BoxMoment:
    return BoxMoment(anchor_at_ms=T0, elapsed_ms=at_ms - T0)


def says_started(at_ms: int, sequence: int = 1) -> Report:
    return Report(attempt_id="at_1", job_id="jb_1", sequence=sequence, started=Started(at=moment(at_ms)))


def says_ended(start_ms: int, end_ms: int, stop_ms: int = 0, sequence: int = 2) -> Report:
    ended = Ended(outcome=Outcome.OUTCOME_FINISHED, started_at=moment(start_ms), ended_at=moment(end_ms))
    if stop_ms:
        ended.outcome = Outcome.OUTCOME_KILLED
        ended.stop_began_at.CopyFrom(moment(stop_ms))
    return Report(attempt_id="at_1", job_id="jb_1", sequence=sequence, ended=ended)


def hello(installation_id: str = "i-1", live: tuple[str, ...] = ()) -> Hello:
    return Hello(installation_id=installation_id, inventory=inventory("NVIDIA A10G"), live_attempts=live)


def types(events: object) -> list[str]:
    """Names of events, for comparing."""
    return [event.DESCRIPTOR.name for event in events]  # type: ignore[attr-defined]
