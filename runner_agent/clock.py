"""The box's clocks; the only module of the box that reads them. Standard library only."""

import time
from pathlib import Path


def boottime_ns() -> int:
    """Nanoseconds of CLOCK_BOOTTIME: since the boot, a suspended box included. Deadlines and charges use only this."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def wall_ms() -> int:
    """The box's wall clock in Unix milliseconds. It may be wrong: it orders what is shown, never what is charged."""
    return time.time_ns() // 1_000_000


def boot_id() -> str:
    """Names the boot to which CLOCK_BOOTTIME belongs."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
