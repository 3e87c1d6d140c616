"""Who may enter: tokens and runner keys, as the log tells them. Every process keeps its own directory in memory."""

import hashlib
import heapq
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
# Who makes the calls that need no token.
NOBODY = "nobody"

_TOKEN = workspace_pb2.TokenKind.TOKEN_KIND_UNSPECIFIED
_CODE = workspace_pb2.TokenKind.TOKEN_KIND_SIGN_IN_CODE
_SIGN_IN = workspace_pb2.TokenKind.TOKEN_KIND_SIGN_IN


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls. `subject` is `token:<id>`, `runner:<id>` or `operator`.

    Who has signed in on the page is told by the token that he signed in with: what he does there is done by him.
    """

    subject: str
    workspace_id: str
    # `viewer`, `member`, `admin`, `analyst`, `runner` or `operator`.
    role: str
    secret_sha256: bytes
    expires_at_ms: int = 0
    # Of the secret itself; empty where it is no token's.
    token_id: str = ""

    @property
    def subject_id(self) -> str:
        return self.subject.partition(":")[2]


class Directory:
    """Secrets by their SHA-256. `on_change` is called when one is added or withdrawn."""

    def __init__(self, operator_sha256: bytes | None, on_change: Callable[[], None] = lambda: None) -> None:
        self._principals: dict[bytes, Principal] = {}
        # Sign-in codes open nothing but the page, so they are kept apart.
        self._codes: dict[bytes, Principal] = {}
        # Of codes and sign-ins, by expiry, with their subjects: what has expired is forgotten.
        self._expiries: list[tuple[int, str]] = []
        self._keys_of: dict[str, set[bytes]] = {}
        # Position of the last event taken in for each subject: own commits arrive before the subscription repeats them.
        self._positions: dict[str, int] = {}
        self._on_change = on_change
        if operator_sha256:
            self._principals[operator_sha256] = Principal(OPERATOR, "", OPERATOR, operator_sha256)

    def find(self, secret: str, now_ms: int) -> Principal | None:
        """The principal that the secret opens, or None where it is unknown, withdrawn or expired."""
        return self._valid(hashlib.sha256(secret.encode()).digest(), now_ms)

    def find_code(self, code: str, now_ms: int) -> Principal | None:
        """Whom a sign-in code lets in: his token's id, workspace and role. None as in `find`, and for a used code."""
        principal = self._codes.get(hashlib.sha256(code.encode()).digest())
        return principal if principal is not None and principal.expires_at_ms > now_ms else None

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
            self._create(event, record)
        elif isinstance(event, workspace_pb2.TokenRevoked):
            self._withdraw(subject)
        elif isinstance(event, runner_pb2.RunnerRegistered):
            self._add(subject, Principal(subject, record.workspace_id, "runner", event.key_sha256))
        elif isinstance(event, runner_pb2.RunnerSecretKeyRegenerated):
            self._withdraw(subject, event.old_key_valid_until_ms)
            self._add(subject, Principal(subject, record.workspace_id, "runner", event.key_sha256))
        elif isinstance(event, runner_pb2.RunnerUninstalled):
            self._withdraw(subject)
        return True

    def _create(self, event: workspace_pb2.TokenCreated, record: EventRecord) -> None:
        if event.kind not in (_TOKEN, _CODE, _SIGN_IN):
            # Of a newer version: what it may open is not known here.
            return
        own = f"token:{event.token_id}"
        # A code is made by a person, and a sign-in for the person who made its code.
        subject = own if event.kind == _TOKEN else self._person(record.actor)
        role = workspace_pb2.Role.Name(event.role).removeprefix("ROLE_").lower()
        principal = Principal(
            subject, record.workspace_id, role, event.token_sha256, event.expires_at_ms, event.token_id
        )
        self._add(own, principal, self._codes if event.kind == _CODE else self._principals)
        if event.kind != _TOKEN:
            self._forget_expired(record.recorded_at_us // 1000)
            heapq.heappush(self._expiries, (event.expires_at_ms, own))

    def _person(self, actor: str) -> str:
        """Behind a sign-in stands a person's token; any other subject stands for itself."""
        held = (self._principals.get(digest) for digest in self._keys_of.get(actor, ()))
        return next((principal.subject for principal in held if principal is not None), actor)

    def _forget_expired(self, now_ms: int) -> None:
        """A repeat of their events would add them again, expired as they are."""
        while self._expiries and self._expiries[0][0] <= now_ms:
            _, subject = heapq.heappop(self._expiries)
            self._withdraw(subject)
            self._positions.pop(subject, None)

    def _add(self, key: str, principal: Principal, to: dict[bytes, Principal] | None = None) -> None:
        (self._principals if to is None else to)[principal.secret_sha256] = principal
        self._keys_of.setdefault(key, set()).add(principal.secret_sha256)

    def _withdraw(self, key: str, valid_until_ms: int = 0) -> None:
        for digest in self._keys_of.pop(key, set()):
            self._codes.pop(digest, None)
            principal = self._principals.pop(digest, None)
            if principal is not None and valid_until_ms:
                self._add(key, replace(principal, expires_at_ms=valid_until_ms))
