"""Short questions to keepers, for the launcher and the command line: blocking, without gRPC."""

import contextlib
import json
import socket
from pathlib import Path
from typing import Any

TIMEOUT_S = 2.0
MOST_LINE_BYTES = 256 * 1024


def ask(path: Path, **request: Any) -> dict[str, Any] | None:
    """The keeper's status after the request; None where no keeper answers."""
    with contextlib.suppress(OSError, ValueError), socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(TIMEOUT_S)
        connection.connect(str(path))
        connection.sendall(json.dumps(request).encode() + b"\n")
        with connection.makefile("rb") as lines:
            answer = json.loads(lines.readline(MOST_LINE_BYTES))
        if isinstance(answer, dict):
            return answer
    return None


def held(folder: Path) -> dict[Path, dict[str, Any]]:
    """Sockets and statuses of the keepers that hold an attempt."""
    found = {}
    for path in sorted(folder.glob("*.sock")):
        status = ask(path, cmd="status")
        if status is not None and status.get("attempt_id") and status.get("phase") != "ended":
            found[path] = status
    return found


def remove_stale(folder: Path) -> None:
    """Remove sockets whose keeper was killed: nobody listens on them any more."""
    for path in folder.glob("*.sock"):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(TIMEOUT_S)
            try:
                connection.connect(str(path))
            except ConnectionRefusedError:
                path.unlink(missing_ok=True)
            except OSError:
                continue
