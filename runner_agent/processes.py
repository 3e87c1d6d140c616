"""Ties between processes. Standard library only: launcher and keeper use it between fork and exec."""

import ctypes
import os
import signal

# Has the launcher begin anew. Not SIGHUP, which a foreground one gets when its terminal is closed.
RESTART_SIGNAL = signal.SIGUSR1

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None)


def die_with_parent(parent_pid: int) -> None:
    """Have the kernel kill this process when the thread that spawned it ends; end at once if it is gone already.

    To be called in the child, after any change of user (which clears it).
    """
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:
        os._exit(1)


def become_subreaper() -> None:
    """Have every orphaned descendant handed to this process, so that none of them escapes its kill."""
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
