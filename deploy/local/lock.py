"""One data directory is used by one process of ours at a time: a platform, a backup of a stopped one, or a restore."""

import fcntl
from typing import BinaryIO

from deploy.local.errors import LocalError
from deploy.local.home import Home
from deploy.local.state import PlatformState


class AlreadyRunning(LocalError):
    """One data directory is used by one platform at a time."""

    def __init__(self, home: Home) -> None:
        state = PlatformState.load(home.state)
        if state is None or not state.supervisor.alive():
            super().__init__(f"another tether command works in {home.root} (a start, a backup, a restore); wait for it")
            return
        super().__init__(
            f"a platform is already running in {home.root} (process {state.supervisor.pid}); see it with "
            f"`tether status`, or stop it with `tether down --data-dir {home.root}`"
        )


def take_lock(home: Home) -> BinaryIO:
    """Held until it is closed. Raises AlreadyRunning."""
    # Not inherited by the processes we start, so it is free as soon as we are gone, however that happens.
    lock = home.lock.open("ab")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise AlreadyRunning(home) from None
    return lock
