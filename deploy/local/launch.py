"""Becomes another program that cannot outlive the process which asked for it.

    python -I -S launch.py PARENT_PID DEATH_SIGNAL UID GID PROGRAM [ARGUMENT…]

The kernel sends DEATH_SIGNAL when the parent dies. Changing the user clears that request, hence the order here: user
first, then the request, then a look whether the parent was quicker. UID `-` keeps the user. Standard library only,
because it runs without the environment's packages. It also keeps the parent free of work between fork and exec, which
is not safe once gRPC has started threads there.
"""

import ctypes
import os
import resource
import sys

PR_SET_PDEATHSIG = 1


def main(parent_pid: int, death_signal: int, uid: str, gid: str, command: list[str]) -> None:
    if uid != "-":
        os.setgroups([])
        os.setgid(int(gid))
        os.setuid(int(uid))
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0) != 0:
        sys.exit(f"{command[0]}: the kernel refused PR_SET_PDEATHSIG ({os.strerror(ctypes.get_errno())})")
    if os.getppid() != parent_pid:
        sys.exit(f"{command[0]}: not started, because its supervisor is gone")
    # Each client is an open file, and many systems permit 1,024 of them until a process asks for more.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    try:
        os.execv(command[0], command)
    except OSError as error:
        sys.exit(f"{command[0]}: cannot be run ({error.strerror})")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4], sys.argv[5:])
