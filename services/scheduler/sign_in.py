"""Signing in on the page: a code that opens it once, and the token that the page gets for the code."""

from collections.abc import Sequence

import grpc

from protos.common.v1 import errors_pb2
from protos.eventlog.v1.eventlog_pb2 import EventRecord
from protos.events.v1.workspace_pb2 import TokenCreated, TokenRevoked
from protos.scheduler.v1 import access_pb2 as pb
from services.clock import Clock
from services.eventlog.append import StreamAppend
from services.eventlog.catalogue import payload_of
from services.ids import new_id, new_secret, sha256
from services.rpc.errors import BadCredentials, InvalidField, LimitExceeded, Refused
from services.rpc.shell import Shell, caller, correlation_id
from services.scheduler.commands import Commands, Decision
from services.scheduler.domain.token import (
    CODE,
    MAX_CODES,
    MAX_SIGN_INS,
    SIGN_IN,
    Token,
    counted,
    ends_with,
    opens,
    until,
)
from services.scheduler.domain.workspace import Workspace
from services.scheduler.names import TokenNames, name_of
from services.scheduler.store import Store
from services.scheduler.views import token_view

# Characters; those that are made have half as many.
_MAX_CODE = 100


class NoSuchCode(BadCredentials):
    """A code opens the page once, within minutes, while the token that made it is valid. Which of it failed is not
    told: whoever holds no code learns nothing."""

    def __init__(self) -> None:
        super().__init__("unknown", "this sign-in code is unknown, used or expired; make a new one with `tether open`")


class NotSignedIn(Refused):
    """Only a sign-in is signed out."""

    code = grpc.StatusCode.FAILED_PRECONDITION

    def __init__(self, token_id: str) -> None:
        super().__init__(
            f"{token_id} is a token of its own and no sign-in, so there is nothing to sign out of; an admin revokes it "
            f"with `tether tokens revoke {token_id}`",
            errors_pb2.WrongState(kind="token", id=token_id, state="TOKEN"),
        )


class SignIns:
    """`code_ms` and `sign_in_ms`: how long a code and what it is changed for are valid."""

    def __init__(
        self,
        commands: Commands,
        store: Store,
        names: TokenNames,
        shell: Shell,
        clock: Clock,
        code_ms: int,
        sign_in_ms: int,
    ) -> None:
        self._commands, self._store, self._names = commands, store, names
        self._shell, self._clock = shell, clock
        self._code_ms, self._sign_in_ms = code_ms, sign_in_ms

    async def create_code(self, request: pb.CreateSignInCodeRequest) -> pb.CreateSignInCodeResponse:
        """Raises LimitExceeded."""
        who, code, code_id = caller(), new_secret("tc"), new_id("tok")

        async def decide() -> Decision:
            workspace, maker = await self._known(who.workspace_id, who.token_id)
            now_ms = self._clock.now_ms()
            if workspace is None or maker is None or not maker.living(now_ms):
                raise BadCredentials("revoked", "this token was revoked or has expired; ask an admin for a new one")
            waiting = counted(workspace.tokens, CODE, now_ms, maker.owner)
            if waiting >= MAX_CODES:
                way_out = "use one of them, or wait until they expire"
                raise LimitExceeded("unused sign-in codes of one token", waiting + 1, MAX_CODES, way_out)
            made = TokenCreated(
                token_id=code_id,
                role=maker.role,
                token_sha256=sha256(code),
                expires_at_ms=until(now_ms, self._code_ms, maker),
                kind=CODE,
            )
            return _next(workspace, made)

        def respond(records: Sequence[EventRecord]) -> pb.CreateSignInCodeResponse:
            made = payload_of(records[-1])
            assert isinstance(made, TokenCreated)
            return pb.CreateSignInCodeResponse(
                code_withheld=True, expires_at_ms=made.expires_at_ms, position=records[-1].position
            )

        answer, repeated = await self._commands.answer(
            request,
            request.request_id,
            pb.CreateSignInCodeResponse,
            decide,
            respond,
            # The log tells which token made a code, also where it is a sign-in and acts for a person's.
            actor=f"token:{who.token_id}",
        )
        if not repeated:
            answer.code, answer.code_withheld = code, False
        return answer

    async def sign_in(self, request: pb.SignInRequest) -> pb.SignInResponse:
        """Raises InvalidField, NoSuchCode, LimitExceeded."""
        if not request.code:
            raise InvalidField("code", "", "it must be the part after #code= of the address that `tether open` prints")
        if len(request.code) > _MAX_CODE:
            # Whoever asks need not be known, and the hash of megabytes takes long.
            shown = f"{len(request.code):,} characters long"
            raise InvalidField("code", shown, f"a code has at most {_MAX_CODE} characters")
        # In memory: nothing is written or locked for a code that does not exist.
        behind = await self._shell.behind_code(request.code)
        if behind is None:
            raise NoSuchCode
        _, code = await self._known(behind.workspace_id, behind.token_id)
        if code is None:
            raise NoSuchCode
        secret, token_id = new_secret("tt"), new_id("tok")

        async def decide() -> Decision:
            workspace, _ = await self._known(behind.workspace_id, behind.token_id)
            now_ms = self._clock.now_ms()
            found = opens(workspace.tokens, behind.token_id, now_ms) if workspace is not None else None
            if workspace is None or found is None:
                raise NoSuchCode
            known = counted(workspace.tokens, SIGN_IN, now_ms, found[0].person)
            if known >= MAX_SIGN_INS:
                way_out = "sign out somewhere, or revoke one: see `tether tokens list`"
                raise LimitExceeded("sign-ins of one token", known + 1, MAX_SIGN_INS, way_out)
            made = TokenCreated(
                token_id=token_id,
                role=found[0].role,
                token_sha256=sha256(secret),
                expires_at_ms=until(now_ms, self._sign_in_ms, found[1]),
                kind=SIGN_IN,
            )
            # Together, after the version that was looked at: of two who bring the same code, one gets through.
            return _next(workspace, TokenRevoked(token_id=behind.token_id), made)

        done = await self._commands.run(f"token:{code.made_by}", decide, correlation_id())
        assert done is not None  # it decides something or raises
        made = payload_of(done.records[-1])
        assert isinstance(made, TokenCreated)
        created_at_ms = done.records[-1].recorded_at_us // 1000
        token = Token(token_id, made.role, created_at_ms, made.expires_at_ms, kind=SIGN_IN, person=code.person)
        name = name_of(token, await self._names.of(behind.workspace_id))
        return pb.SignInResponse(token=token_view(token, name), secret=secret)

    async def sign_out(self) -> None:
        """Raises NotSignedIn."""
        who = caller()

        async def decide() -> Decision:
            workspace, token = await self._known(who.workspace_id, who.token_id)
            if workspace is None or token is None or token.revoked:
                # Signed out already, by a call at the same time.
                return Decision("", [])
            if token.kind != SIGN_IN:
                raise NotSignedIn(token.token_id)
            # Whoever signed in through this sign-in must be out with it.
            ended = [token.token_id, *ends_with(workspace.tokens, token.token_id, self._clock.now_ms())]
            return _next(workspace, *(TokenRevoked(token_id=token_id) for token_id in ended))

        await self._commands.run(who.subject, decide, correlation_id())

    async def _known(self, workspace_id: str, token_id: str) -> tuple[Workspace | None, Token | None]:
        """The workspace with a token that has been let in; read afresh where the one in memory does not know it yet."""
        workspace = await self._store.workspace(workspace_id)
        if workspace is not None and token_id not in workspace.tokens:
            self._store.forget("workspace", workspace_id)
            workspace = await self._store.workspace(workspace_id)
        return workspace, workspace.tokens.get(token_id) if workspace is not None else None


def _next(workspace: Workspace, *events: TokenCreated | TokenRevoked) -> Decision:
    stream = StreamAppend("workspace", workspace.workspace_id, workspace.version, events)
    return Decision(workspace.workspace_id, [stream])
