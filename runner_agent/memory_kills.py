"""Whether the kernel has killed for lack of memory. Standard library only."""

import contextlib
from pathlib import Path

PROC = Path("/proc")
CGROUPS = Path("/sys/fs/cgroup")


def counted() -> int:
    """Processes killed for lack of memory so far: in this process's control group where that counts them,
    otherwise on the whole machine since its boot. Only differences mean something."""
    for path in _counters():
        with contextlib.suppress(OSError, ValueError):
            for line in path.read_text().splitlines():
                if line.startswith("oom_kill "):
                    return int(line.split()[1])
    return 0


def _counters() -> list[Path]:
    """Files with a line `oom_kill N`, the most exact first."""
    found = []
    with contextlib.suppress(OSError):
        for line in (PROC / "self" / "cgroup").read_text().splitlines():
            _, controllers, group = line.split(":", 2)
            if "memory" in controllers.split(","):
                found.append(CGROUPS / "memory" / group.lstrip("/") / "memory.oom_control")
            elif not controllers:
                found.append(CGROUPS / group.lstrip("/") / "memory.events")
                found.append(CGROUPS / "unified" / group.lstrip("/") / "memory.events")
    return [*found, PROC / "vmstat"]


def hint(batch_size: int, image_size: int) -> str:
    """What was set, and the way out; a part of a sentence. 0 for what is not known."""
    known = [f"{name} is {value}" for name, value in (("batch_size", batch_size), ("image_size", image_size)) if value]
    what = f"{' and '.join(known)}: choose a smaller one" if known else "choose a smaller batch_size or image_size"
    return f"{what}, or a runner with more memory"
