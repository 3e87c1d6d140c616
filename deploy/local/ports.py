"""Free ports on loopback that stay the same from one start to the next."""

import json
import secrets
import socket
from collections.abc import Sequence
from pathlib import Path

from deploy.local.errors import LocalError
from deploy.local.files import write_private

# Below the range from which Linux takes ports for outgoing connections (32768 and up): nothing takes one by chance.
FIRST, LAST = 20000, 32000
TRIES = 200


def is_free(port: int) -> bool:
    """Whether a server could listen on 127.0.0.1:`port` now. Connections that are still closing do not count."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port(taken: Sequence[int] = ()) -> int:
    """A free port that is not in `taken`, at random, so that two platforms that start at once hardly meet."""
    for _ in range(TRIES):
        port = FIRST + secrets.randbelow(LAST - FIRST)
        if port not in taken and is_free(port):
            return port
    raise LocalError(f"no free port between {FIRST} and {LAST}; stop some servers on this machine and try again")


def remembered(file: Path) -> dict[str, int]:
    """The ports of the last start by process. Raises LocalError when the file is not what we wrote."""
    if not file.exists():
        return {}
    try:
        return {str(name): int(port) for name, port in json.loads(file.read_text()).items()}
    except (ValueError, TypeError, AttributeError):
        raise LocalError(f"{file} is not a JSON object of ports; correct it or delete it to get new ports") from None


def assign(names: Sequence[str], file: Path, first: int = 0) -> tuple[dict[str, int], list[str]]:
    """A free port for each name, the last start's where possible; also the names whose old port is now taken.

    A new platform gets the ports from `first` on where they are free (zero: any free ones), so that the address of a
    machine's only platform is known beforehand.
    """
    old = remembered(file)
    ports: dict[str, int] = {}
    moved = []
    for name in names:
        if name in old and is_free(old[name]):
            ports[name] = old[name]
            continue
        moved += [name] if name in old else []
        taken = [*ports.values(), *old.values()]
        wanted = first + names.index(name)
        ports[name] = wanted if first and wanted not in taken and is_free(wanted) else free_port(taken)
    write_private(file, json.dumps(ports, indent=2) + "\n")
    return ports, moved
