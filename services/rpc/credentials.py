"""Who may enter: tokens and runner keys, as the log tells them. Every process keeps its own directory in memory."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from protos.eventlog.v1.eventlog_pb2 import EventRecord
from protos.events.v1 import runner_pb2, workspace_pb2
from services.eventlog.catalogue import payload_of

# The events that change who may enter; the log has an index of its own for them.
CREDENTIAL_EVENTS = (
    "TokenCreated",
    "TokenRevoked",
    "RunnerRegistered",
    "RunnerSecretKeyRegenerated",
    "RunnerUninstalled",
)

OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls. `subject` is `token:<id>`, `runner:<id>` or `operator`."""

    subject: str
    workspace_id: str
    # `viewer`, `member`, `admin`, `analyst`, `runner` or `operator`.
    role: str
    secret_sha256: bytes
    expires_at_ms: int = 0

    @property
    def subject_id(self) -> str:
        return self.subject.partition(":")[2]


class Directory:
    """Secrets by their SHA-256. `on_change` is called when one is added or withdrawn."""

    def __init__(self, operator_sha256: bytes | None, on_change: Callable[[], None] = lambda: None) -> None:
        self._principals: dict[bytes, Principal] = {}
        self._keys_of: dict[str, set[bytes]] = {}
        # Position of the last event taken in for each subject: own commits arrive before the subscription repeats them.
        self._positions: dict[str, int] = {}
        self._on_change = on_change
        if operator_sha256:
            self._principals[operator_sha256] = Principal(OPERATOR, "", OPERATOR, operator_sha256)

    def find(self, secret: str, now_ms: int) -> Principal | None:
        """The principal that the secret opens, or None where it is unknown, withdrawn or expired."""
        return self._valid(hashlib.sha256(secret.encode()).digest(), now_ms)

    def still_valid(self, principal: Principal, now_ms: int) -> bool:
        """Whether an open stream of this principal may go on."""
        return self._valid(principal.secret_sha256, now_ms) is not None

    def _valid(self, digest: bytes, now_ms: int) -> Principal | None:
        principal = self._principals.get(digest)
        if principal is None or (principal.expires_at_ms and principal.expires_at_ms <= now_ms):
            return None
        return principal

    def apply(self, records: Sequence[EventRecord]) -> None:
        """Take in events; one that was taken in before, or was overtaken by a later one, is dropped."""
        changed = [record for record in records if record.type in CREDENTIAL_EVENTS and self._apply(record)]
        if changed:
            self._on_change()

    def _apply(self, record: EventRecord) -> bool:
        event = payload_of(record)
        if isinstance(event, workspace_pb2.TokenCreated | workspace_pb2.TokenRevoked):
            subject = f"token:{event.token_id}"
        else:
            subject = f"runner:{record.stream_id}"
        if record.position <= self._positions.get(subject, 0):
            return False
        self._positions[subject] = record.position
        if isinstance(event, workspace_pb2.TokenCreated):
            role = workspace_pb2.Role.Name(event.role).removeprefix("ROLE_").lower()
            self._add(subject, record.workspace_id, role, event.token_sha256, event.expires_at_ms)
        elif isinstance(event, workspace_pb2.TokenRevoked):
            self._withdraw(subject)
        elif isinstance(event, runner_pb2.RunnerRegistered):
            self._add(subject, record.workspace_id, "runner", event.key_sha256)
        elif isinstance(event, runner_pb2.RunnerSecretKeyRegenerated):
            self._withdraw(subject, event.old_key_valid_until_ms)
            self._add(subject, record.workspace_id, "runner", event.key_sha256)
        elif isinstance(event, runner_pb2.RunnerUninstalled):
            self._withdraw(subject)
        return True

    def _add(self, subject: str, workspace_id: str, role: str, digest: bytes, expires_at_ms: int = 0) -> None:
        self._principals[digest] = Principal(subject, workspace_id, role, digest, expires_at_ms)
        self._keys_of.setdefault(subject, set()).add(digest)

    def _withdraw(self, subject: str, valid_until_ms: int = 0) -> None:
        for digest in self._keys_of.pop(subject, set()):
            if valid_until_ms:
                self._principals[digest] = replace(self._principals[digest], expires_at_ms=valid_until_ms)
                self._keys_of.setdefault(subject, set()).add(digest)
            else:
                del self._principals[digest]
