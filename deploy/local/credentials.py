"""The secrets of a platform on this machine: made once, kept in secrets.json (0600)."""

import hashlib
import json
import secrets
import uuid
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from deploy.local.database import SERVICES
from deploy.local.errors import LocalError
from deploy.local.files import write_private


@dataclass(frozen=True)
class Credentials:
    """Passwords by service, and tokens. `workspace_token` is empty until the first workspace has been made."""

    postgres_superuser: str
    postgres_services: dict[str, str]
    nats: str
    operator_token: str
    workspace_request_id: str
    workspace_token: str = ""

    @property
    def operator_token_sha256(self) -> str:
        return hashlib.sha256(self.operator_token.encode()).hexdigest()

    def save(self, file: Path) -> None:
        write_private(file, json.dumps(asdict(self), indent=2) + "\n")

    def with_workspace_token(self, token: str) -> "Credentials":
        return replace(self, workspace_token=token)

    def with_new_request(self) -> "Credentials":
        return replace(self, workspace_request_id=str(uuid.uuid4()))


def load_or_make(file: Path) -> Credentials:
    """The secrets in the file; new ones, saved before they are returned, if there is none yet."""
    if file.exists():
        try:
            return Credentials(**json.loads(file.read_text()))
        except (ValueError, TypeError):
            raise LocalError(
                f"{file} is not what `tether up` wrote; restore it, because the database opens with no other passwords"
            ) from None
    made = Credentials(
        postgres_superuser=secrets.token_urlsafe(32),
        postgres_services={service: secrets.token_urlsafe(32) for service in SERVICES},
        nats=secrets.token_urlsafe(32),
        operator_token=f"tt_{secrets.token_urlsafe(32)}",
        workspace_request_id=str(uuid.uuid4()),
    )
    made.save(file)
    return made
