"""Whether GPUs are fit for a new training, by what NVML tells of them. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

SECOND_NS = 1_000_000_000
MIB = 1024**2
# A critical error suspends for so long after it was reported last: some mend themselves with a reset of the driver's.
CRITICAL_ERROR_NS = 600 * SECOND_NS
# A program that holds less than the larger of the two is let be: a desktop, a monitor.
FOREIGN_FROM = (512 * MIB, 0.05)
MOST_NAMED = 3
# XID errors that a program causes, or that only note something: a sick GPU is told by others, or by its counters.
# https://docs.nvidia.com/deploy/xid-errors
HARMLESS_XIDS = frozenset({13, 31, 43, 45, 63, 68, 92, 109})
XID_WORDS = {
    48: "double-bit memory error",
    64: "a memory row could not be remapped",
    74: "NVLink error",
    79: "the GPU has fallen off the bus",
    94: "contained memory error",
    95: "uncontained memory error",
    119: "its GSP firmware timed out",
    120: "its GSP firmware failed",
}


@dataclass(frozen=True, slots=True)
class Holder:
    """A program that computes on a GPU and is none of the runner's."""

    pid: int
    program: str
    used_bytes: int


@dataclass(frozen=True, slots=True)
class GpuSeen:
    """One GPU at one look. What it does not support is 0, False or empty."""

    # For people, for example `GPU 0 (NVIDIA A10G)`.
    name: str
    vram_bytes: int = 0
    # XID errors since the last look.
    xids: tuple[int, ...] = ()
    # Memory errors since the driver was loaded that could not be corrected.
    uncorrectable_errors: int = 0
    # Memory pages or rows wait to be taken out of use, which a reset does.
    repair_pending: bool = False
    # Rows could not be taken out of use.
    repair_failed: bool = False
    holders: tuple[Holder, ...] = ()


@dataclass(frozen=True, slots=True)
class GpuHealth:
    faults: tuple[str, ...] = ()
    # Programs that hold a GPU, as words for people.
    foreign: tuple[str, ...] = ()
    # GPU, XID, and until when it suspends (CLOCK_BOOTTIME).
    critical: tuple[tuple[str, int, int], ...] = ()
    # Holders at the last look: only who is there twice is told.
    suspects: frozenset[str] = frozenset()

    @property
    def reasons(self) -> tuple[str, ...]:
        return (*self.faults, *self.foreign)


def judge(before: GpuHealth, gpus: Sequence[GpuSeen], now_ns: int) -> GpuHealth:
    """The GPUs' health after a look at all of them."""
    critical = {(name, xid): until_ns for name, xid, until_ns in before.critical if until_ns > now_ns}
    for gpu in gpus:
        for xid in gpu.xids:
            if xid not in HARMLESS_XIDS:
                critical[gpu.name, xid] = now_ns + CRITICAL_ERROR_NS
    faults = [_critical(name, xid) for name, xid in sorted(critical)]
    for gpu in gpus:
        if gpu.repair_failed:
            faults.append(f"{gpu.name} has memory that cannot be repaired; have the GPU replaced")
        elif gpu.uncorrectable_errors:
            faults.append(f"{gpu.name} has had memory errors that cannot be corrected; reset it or reboot the box")
        elif gpu.repair_pending:
            faults.append(f"{gpu.name} waits for a reset to take bad memory out of use; reboot the box")
    held = {gpu.name: [_held_by(one) for one in gpu.holders if one.used_bytes >= _threshold(gpu)] for gpu in gpus}
    suspects = frozenset(f"{name} {one}" for name, ones in held.items() for one in ones)
    foreign = []
    for name, ones in held.items():
        twice = [one for one in ones if f"{name} {one}" in before.suspects]
        if twice:
            foreign.append(f"{name} is held by {_listed(twice)}; end it, or suspend the runner while you need the GPU")
    remembered = tuple((name, xid, until_ns) for (name, xid), until_ns in critical.items())
    return GpuHealth(tuple(faults), tuple(foreign), remembered, suspects)


def _critical(name: str, xid: int) -> str:
    words = f", {XID_WORDS[xid]}" if xid in XID_WORDS else ""
    return f"{name} has reported a critical error (XID {xid}{words}); if it comes again, reset it or reboot the box"


def _threshold(gpu: GpuSeen) -> int:
    least_bytes, share = FOREIGN_FROM
    return max(least_bytes, int(share * gpu.vram_bytes))


def _held_by(holder: Holder) -> str:
    return f"{holder.program} (pid {holder.pid})"


def _listed(programs: list[str]) -> str:
    more = len(programs) - MOST_NAMED
    return ", ".join(programs[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
