"""What is configured on a box, and where it lies: one state folder for each runner."""

import hashlib
import json
import os
import re
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from runner_agent import files
from runner_agent.errors import BoxError

# sun_path of a unix socket holds 108 bytes, the closing zero included.
LONGEST_SOCKET_PATH_BYTES = 107
# Names a folder, a systemd unit, and the runner in commands.
NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
PROTOCOL_PATTERN = re.compile(r"[a-z][a-z0-9+.-]{0,30}")
KEY_PATTERN = re.compile(r"tk_[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True)
class Server:
    """The platform's address; `tls` for `https://host:port`."""

    target: str
    tls: bool

    @property
    def loopback(self) -> bool:
        host = self.target.rsplit(":", 1)[0].strip("[]")
        return host in {"localhost", "::1"} or host.startswith("127.")


def parse_server(text: str) -> Server:
    """`host:port` (plain) or `https://host:port`. Raises ValueError with a sentence."""
    parts = urlsplit(text if "://" in text else f"plain://{text}")
    try:
        port = parts.port
    except ValueError:
        port = None
    if parts.scheme not in {"plain", "http", "https"} or not parts.hostname or not port or parts.path not in {"", "/"}:
        raise ValueError(f"the server {text!r} is not an address; write host:port, for example 192.0.2.10:50061")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return Server(f"{host}:{port}", parts.scheme == "https")


class BoxConfig(BaseModel):
    """`config.toml` of a runner."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    server: str
    # The runner's GPUs by NVML UUID; empty means all of the box, or simulated ones.
    gpu_uuids: tuple[str, ...] = ()
    # For example `NVIDIA A10G:2`; empty on a box with real GPUs.
    simulate_gpus: str = ""
    # File of the systemd unit that was written for it; empty without one.
    unit: str = ""
    # What may wait on the box for its delivery, in bytes, of one attempt and of all; 0 goes by the size of the disk.
    spool_attempt_bytes: int = Field(default=0, ge=0)
    spool_box_bytes: int = Field(default=0, ge=0)
    # Whether checkpoints are sent to the platform as well.
    upload: bool = True
    # Absolute paths of the folders below which datasets may lie; empty means any.
    dataset_roots: tuple[str, ...] = ()
    # Protocols of the URLs at which datasets may lie, as fsspec names them: file, s3 and so on.
    dataset_protocols: tuple[str, ...] = ("file",)
    # What datasets that were fetched from URLs may take on the box, in bytes; 0 goes by what is free on the disk.
    dataset_cache_bytes: int = Field(default=0, ge=0)

    @field_validator("server")
    @classmethod
    def _server_is_an_address(cls, value: str) -> str:
        parse_server(value)
        return value

    @field_validator("dataset_roots")
    @classmethod
    def _roots_are_absolute(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for root in value:
            if not root.startswith("/"):
                raise ValueError(f"{root!r} is not an absolute path; write for example /data")
        return value

    @field_validator("dataset_protocols")
    @classmethod
    def _protocols_are_names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for protocol in value:
            if not PROTOCOL_PATTERN.fullmatch(protocol):
                raise ValueError(f"{protocol!r} is not a protocol; write for example file, s3 or https")
        return value


class StateFolder:
    """Names of everything below the state folder of one runner."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.config = self.root / "config.toml"
        self.secret_key = self.root / "secret_key"
        self.installation_id = self.root / "installation_id"
        self.lock = self.root / "lock"
        self.agent_lock = self.root / "agent.lock"
        self.launcher_pid = self.root / "launcher.pid"
        self.agent_log = self.root / "agent.log"
        self.launcher_log = self.root / "launcher.log"
        # What the processes print before or beside their logs: tracebacks of crashes.
        self.error_output = self.root / "stderr.log"
        self.status = self.root / "status.json"
        # What the box had when its driver answered last.
        self.inventory = self.root / "inventory.pb"
        self.suspension = self.root / "suspension.json"
        self.attempts = self.root / "attempts"
        # Datasets that were fetched from URLs.
        self.datasets = self.root / "datasets"
        # An export while it is made.
        self.exports = self.root / "exports"

    @property
    def keepers(self) -> Path:
        """Folder of the keepers' sockets; below the system's temporary folder where the state path is too long."""
        folder = self.root / "keepers"
        if len(os.fsencode(folder / f"{'x' * 16}.sock")) <= LONGEST_SOCKET_PATH_BYTES:
            return folder
        digest = hashlib.sha256(os.fsencode(self.root)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"tether-{os.geteuid()}-{digest}"

    def make_keepers(self) -> Path:
        """The same folder, made for this user alone. Raises BoxError where somebody else holds its name."""
        folder = self.keepers
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
        if found.st_uid != os.geteuid() or found.st_mode & 0o077 or folder.is_symlink():
            raise BoxError(f"{folder} is not private to this user; remove it, or choose a shorter --state-dir")
        return folder

    def load(self) -> BoxConfig:
        """Raises BoxError where no runner is installed here or its file is damaged."""
        try:
            return BoxConfig.model_validate(tomllib.loads(self.config.read_text()))
        except FileNotFoundError:
            raise BoxError(f"no runner is installed in {self.root}; run `tether-runner install` first") from None
        except PermissionError:
            raise BoxError(f"{self.root} belongs to another user; run the command as that user, or as root") from None
        except ValidationError as error:
            wrong = error.errors()[0]
            field = ".".join(str(part) for part in wrong["loc"])
            raise BoxError(f"{self.config}: {field}: {wrong['msg']}; correct it, or install the runner again") from None
        except (OSError, ValueError) as error:
            raise BoxError(f"cannot read {self.config}: {error}; correct it, or install the runner again") from None

    def save(self, config: BoxConfig) -> None:
        lines = []
        for name, value in config.model_dump().items():
            # A JSON string or list of strings is one in TOML as well.
            lines.append(f"{name} = {json.dumps(value, ensure_ascii=False)}\n")
        files.replace(self.config, "".join(lines).encode())

    def read_key(self) -> str:
        try:
            return self.secret_key.read_text().strip()
        except OSError as error:
            raise BoxError(f"cannot read {self.secret_key}: {error.strerror}; install the runner again") from None

    def read_installation_id(self) -> str:
        try:
            return self.installation_id.read_text().strip()
        except OSError as error:
            raise BoxError(f"cannot read {self.installation_id}: {error.strerror}; install the runner again") from None


def runners_root() -> Path:
    """Folder that holds the state folders of this user's runners."""
    return Path(platformdirs.user_data_dir("tether-runner"))


def find_state(state_dir: Path | None, name: str) -> StateFolder:
    """The state folder that a command means: `state_dir`, the runner `name`, or the only one that is installed.

    Raises BoxError where that is none, or more than one.
    """
    if state_dir is not None:
        return StateFolder(state_dir)
    installed = {state.root.name: state for state in installed_runners()}
    names = ", ".join(installed)
    if name in installed:
        return installed[name]
    if not installed:
        raise BoxError("no runner is installed on this box; run `tether-runner install` first")
    if name:
        raise BoxError(f"there is no runner {name!r} of yours on this box; choose one with --name: {names}")
    if len(installed) > 1:
        raise BoxError(f"several runners are installed ({names}); choose one with --name")
    return next(iter(installed.values()))


def installed_runners() -> list[StateFolder]:
    """State folders with a configuration below the user's own folder, by name.

    Root's may be links to those of runners that it has installed for others.
    """
    root = runners_root()
    if not root.is_dir():
        return []
    folders = [path.parent for path in sorted(root.glob("*/config.toml"))]
    return [StateFolder(folder.resolve() if folder.is_symlink() else folder) for folder in folders]
