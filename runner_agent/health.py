"""Whether the box is fit for a new training. Pure: what was seen comes in, reasons for a suspension go out.

A reason stays word for word the same while its cause lasts: each other wording would be told as another suspension.
"""

from dataclasses import dataclass, replace

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
    """What came of a call to NVML: no error and in time means that it is fine."""

    error: str = ""
    in_time: bool = True


@dataclass(frozen=True, slots=True)
class Health:
    """Reasons against a new training, one sentence each; empty where there is none."""

    disk: str = ""
    driver: str = ""

    @property
    def reason(self) -> str | None:
        """All of them in one line; None for a box that is fit."""
        return "; ".join(one for one in (self.disk, self.driver) if one) or None


def judge(before: Health, seen: DiskSeen | DriverSeen) -> Health:
    """The box's health after one more look."""
    match seen:
        case DiskSeen():
            return replace(before, disk=_disk(before.disk, seen))
        case DriverSeen():
            return replace(before, driver=_driver(seen))


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
    return f"the NVIDIA driver reports {seen.error!r}; see whether `nvidia-smi` works" if seen.error else ""
