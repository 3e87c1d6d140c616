"""A control group with a limit of memory, in which the kernel kills for real. Needs root and a writable hierarchy."""

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

# Version 1 has a hierarchy for memory alone, version 2 one for all.
_ROOTS = ((Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"), (Path("/sys/fs/cgroup"), "memory.max"))


@contextlib.contextmanager
def memory_limit(limit_bytes: int) -> Iterator[tuple[str, ...] | None]:
    """A command that runs the one that follows it below the limit; None where this machine cannot."""
    for root, file in _ROOTS:
        group = root / f"tether-test-{uuid.uuid4().hex[:8]}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            (group / file).write_text(str(limit_bytes))
            without_swap = group / ("memory.swap.max" if file == "memory.max" else "memory.memsw.limit_in_bytes")
            if without_swap.exists():
                without_swap.write_text("0" if file == "memory.max" else str(limit_bytes))
        except OSError:
            group.rmdir()
            continue
        script = 'echo $$ > "$1/cgroup.procs" && shift && exec "$@"'
        try:
            yield ("sh", "-c", script, "sh", str(group))
        finally:
            # Of processes that the test has ended, the last may still be on its way out.
            for _ in range(1000):
                with contextlib.suppress(OSError):
                    group.rmdir()
                    break
                os.sched_yield()
        return
    yield None
