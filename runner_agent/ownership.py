"""Root works on another user's runner as that user, so that everything written stays readable for the runner."""

import contextlib
import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runner_agent.errors import BoxError


def account(name: str) -> pwd.struct_passwd:
    """Raises BoxError where there is no such user on this box."""
    try:
        return pwd.getpwnam(name)
    except KeyError:
        raise BoxError(f"there is no user {name!r} on this box; create it first, or name another one") from None


def become(user: int) -> None:
    """Let root act as this user from now on, but for `as_caller`. Anyone else, and root for root, stays as is."""
    if os.getuid() != 0 or user == os.geteuid():
        return
    try:
        entry = pwd.getpwuid(user)
    except KeyError:
        raise BoxError(f"the runner's files belong to the user number {user}, whom this box does not know") from None
    # A root that has lost its rights stays who it is, and is refused the files.
    with contextlib.suppress(PermissionError):
        os.initgroups(entry.pw_name, entry.pw_gid)
        os.setegid(entry.pw_gid)
        os.seteuid(entry.pw_uid)


def become_owner(folder: Path) -> None:
    """Let root act as the owner of a runner's state folder, if the folder is there."""
    if os.getuid() == 0 and folder.exists():
        become(folder.stat().st_uid)


def stay() -> None:
    """Be for good whom this process acts as."""
    if os.geteuid() != os.getuid():
        os.setresgid(os.getegid(), os.getegid(), os.getegid())
        os.setresuid(os.geteuid(), os.geteuid(), os.geteuid())


def child_ids() -> tuple[int | None, int | None]:
    """User and group that a child of `subprocess` is to be for good; None where this process acts as itself."""
    if os.geteuid() == os.getuid():
        return None, None
    return os.geteuid(), os.getegid()


@contextmanager
def as_caller() -> Iterator[None]:
    """Within it this process is again who called it."""
    acting, group = os.geteuid(), os.getegid()
    if acting == os.getuid():
        yield
        return
    os.seteuid(os.getuid())
    os.setegid(os.getgid())
    try:
        yield
    finally:
        os.setegid(group)
        os.seteuid(acting)
