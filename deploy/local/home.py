"""The data directory of a platform on this machine: what lies where."""

import os
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from deploy.local.errors import LocalError


def default_home() -> Path:
    return Path(platformdirs.user_data_dir("tether"))


@dataclass(frozen=True)
class Home:
    """Everything that the platform keeps lies below `root`, which is closed to other users."""

    root: Path

    @property
    def postgres(self) -> Path:
        return self.root / "postgres"

    @property
    def nats(self) -> Path:
        return self.root / "nats"

    @property
    def gateway(self) -> Path:
        return self.root / "gateway"

    @property
    def artifacts(self) -> Path:
        return self.root / "artifacts"

    @property
    def uploads(self) -> Path:
        """Files that have not come whole into the artifact store yet."""
        return self.root / "uploads"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def ports(self) -> Path:
        return self.root / "ports.json"

    @property
    def secrets(self) -> Path:
        return self.root / "secrets.json"

    @property
    def client(self) -> Path:
        return self.root / "client.toml"

    @property
    def lock(self) -> Path:
        return self.root / "up.lock"

    @property
    def state(self) -> Path:
        return self.root / "platform.json"

    @property
    def restoring(self) -> Path:
        """Where a restore builds; it is there only while one runs, or after one that was interrupted."""
        return self.root / "restoring"

    @property
    def holds_platform(self) -> bool:
        """Whether something would be lost if another platform took this folder."""
        return self.postgres.exists() or self.secrets.exists()

    def log(self, name: str) -> Path:
        return self.logs / f"{name}.log"

    def prepare(self) -> None:
        """Makes the folders. Raises LocalError when that is not allowed, or when the folder holds something else."""
        try:
            if not self.lock.exists() and self.root.exists() and any(self.root.iterdir()):
                raise LocalError(
                    f"{self.root} holds files that are not Tether's; name an empty or a new folder with --data-dir"
                )
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not os.access(self.root, os.W_OK | os.X_OK):
                raise PermissionError(13, os.strerror(13))
            # First of all: by this file the folder is known as ours.
            self.lock.touch(mode=0o600)
            for folder in (self.artifacts, self.logs):
                folder.mkdir(mode=0o700, exist_ok=True)
            self.root.chmod(0o700)
        except OSError as error:
            raise LocalError(
                f"{self.root} cannot be used for the platform's data ({error.strerror}); "
                "name a folder of your own with --data-dir"
            ) from None

    def refuse_half_restored(self) -> None:
        """Raises LocalError where a restore was interrupted: what lies here may be of two platforms."""
        if self.restoring.exists():
            raise LocalError(
                f"a restore into {self.root} did not come to its end; run it again: "
                f"tether restore FILE --force --data-dir {self.root}"
            )
