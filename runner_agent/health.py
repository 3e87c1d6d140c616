"""Whether the box is fit for a new training. Pure: what was seen comes in, reasons for a suspension go out.

A reason stays word for word the same while its cause lasts: each other wording would be told as another suspension.
"""

from dataclasses import dataclass, field, replace
from typing import TypeAlias

from runner_agent import gpu_health
from runner_agent.gpu_health import GpuSeen

GIB = 1024**3
# Suspended below the first pair, fit again from the second on: the larger of bytes and share of the file system.
SUSPEND_BELOW = (1 * GIB, 0.02)
RECOVER_FROM = (2 * GIB, 0.04)
NVML_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class DiskSeen:
    """The file system of the state folder: what it holds, and what of it this user may still write."""

    total_bytes: int
    free_bytes: int


@dataclass(frozen=True, slots=True)
class DriverSeen:
    """What came of a look through NVML: no error and in time means that the driver is fine, and `gpus` were seen."""

    error: str = ""
    in_time: bool = True
    gpus: tuple[GpuSeen, ...] = ()
    # CLOCK_BOOTTIME of the look.
    now_ns: int = 0


@dataclass(frozen=True, slots=True)
class TorchSeen:
    """Why torch cannot use the runner's GPUs, one sentence with both versions; empty where it can."""

    problem: str = ""


@dataclass(frozen=True, slots=True)
class LeftoverSeen:
    """Processes of an attempt that has ended, which SIGKILL did not end, as words for people; empty: they are gone."""

    attempt_id: str
    processes: str = ""


Seen: TypeAlias = DiskSeen | DriverSeen | TorchSeen | LeftoverSeen


@dataclass(frozen=True, slots=True)
class Health:
    """Reasons against a new training, one sentence each; empty where there is none."""

    disk: str = ""
    driver: str = ""
    torch: str = ""
    gpus: gpu_health.GpuHealth = field(default_factory=gpu_health.GpuHealth)
    # Attempt id → sentence, in the order in which they came.
    leftovers: tuple[tuple[str, str], ...] = ()

    @property
    def reason(self) -> str | None:
        """All of them in one line; None for a box that is fit."""
        leftovers = (sentence for _, sentence in self.leftovers)
        reasons = (self.disk, self.driver, *self.gpus.reasons, self.torch, *leftovers)
        return "; ".join(one for one in reasons if one) or None


def judge(before: Health, seen: Seen) -> Health:
    """The box's health after one more look."""
    match seen:
        case DiskSeen():
            return replace(before, disk=_disk(before.disk, seen))
        case DriverSeen() if seen.error or not seen.in_time:
            # Nothing is known of the GPUs: what was wrong with them stays.
            return replace(before, driver=_driver(seen))
        case DriverSeen():
            return replace(before, driver="", gpus=gpu_health.judge(before.gpus, seen.gpus, seen.now_ns))
        case TorchSeen():
            return replace(before, torch=seen.problem)
        case LeftoverSeen():
            others = tuple(one for one in before.leftovers if one[0] != seen.attempt_id)
            held = tuple(one for one in before.leftovers if one[0] == seen.attempt_id)
            # Its state may change while it stays: it is told as it was first seen.
            new = held or ((seen.attempt_id, _leftover(seen)),)
            return replace(before, leftovers=(*others, *new) if seen.processes else others)


def _disk(before: str, seen: DiskSeen) -> str:
    least_bytes = _limit(RECOVER_FROM if before else SUSPEND_BELOW, seen.total_bytes)
    if seen.free_bytes >= least_bytes:
        return ""
    if before:
        return before
    enough_gib = _limit(RECOVER_FROM, seen.total_bytes) / GIB
    return (
        f"the disk of the runner's state is nearly full ({seen.free_bytes / GIB:.1f} GiB free); "
        f"free it up to {enough_gib:.1f} GiB, see `tether-runner disk` and `tether-runner prune`"
    )


def _limit(limit: tuple[int, float], total_bytes: int) -> int:
    least_bytes, share = limit
    return max(least_bytes, int(share * total_bytes))


def _driver(seen: DriverSeen) -> str:
    if not seen.in_time:
        return f"the NVIDIA driver did not answer within {NVML_TIMEOUT_S:g} s; see whether `nvidia-smi` works"
    return f"the NVIDIA driver reports {seen.error!r}; see whether `nvidia-smi` works"


def _leftover(seen: LeftoverSeen) -> str:
    return (
        f"{seen.processes} of the ended training {seen.attempt_id} cannot be killed, and may hold the GPU; "
        "if it stays, reboot the box"
    )
