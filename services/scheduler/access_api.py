"""AccessService: workspaces, tokens, and signing in on the page."""

from collections.abc import Sequence

import grpc

from protos.eventlog.v1.eventlog_pb2 import EventRecord
from protos.events.v1.workspace_pb2 import Role, TokenCreated, TokenRevoked, WorkspaceCreated
from protos.scheduler.v1 import access_pb2 as pb
from protos.scheduler.v1 import access_pb2_grpc as pb_grpc
from services.clock import Clock
from services.eventlog.append import StreamAppend
from services.ids import new_id, new_secret, sha256
from services.rpc.errors import InvalidField, LimitExceeded, NotFound, checked_name
from services.rpc.shell import caller
from services.scheduler.commands import Commands, Decision
from services.scheduler.domain.token import CODE, MAX_TOKENS, TOKEN, Token, counted, ends_with
from services.scheduler.domain.workspace import Workspace
from services.scheduler.names import TokenNames, name_of
from services.scheduler.sign_in import SignIns
from services.scheduler.store import Store
from services.scheduler.views import token_view

_FIRST_TOKEN = "first admin"


class AccessApi(pb_grpc.AccessServiceServicer):
    def __init__(self, commands: Commands, store: Store, names: TokenNames, clock: Clock, sign_ins: SignIns) -> None:
        self._commands, self._store, self._names, self._clock = commands, store, names, clock
        self._sign_ins = sign_ins

    async def CreateWorkspace(
        self,
        request: pb.CreateWorkspaceRequest,
        context: "grpc.aio.ServicerContext[pb.CreateWorkspaceRequest, pb.CreateWorkspaceResponse]",
    ) -> pb.CreateWorkspaceResponse:
        name = checked_name("name", request.name)
        workspace_id, secret = new_id("ws"), new_secret("tt")
        token = _token_created(Role.ROLE_ADMIN, 0, secret)

        async def decide() -> Decision:
            events = [WorkspaceCreated(name=name), token]
            return Decision(workspace_id, [StreamAppend("workspace", workspace_id, 0, events)])

        def respond(records: Sequence[EventRecord]) -> pb.CreateWorkspaceResponse:
            last = records[-1]
            return pb.CreateWorkspaceResponse(
                workspace_id=workspace_id,
                token=_view(token, last),
                secret_withheld=True,
                position=last.position,
            )

        answer, repeated = await self._commands.answer(
            request, request.request_id, pb.CreateWorkspaceResponse, decide, respond
        )
        if not repeated:
            await self._names.keep(workspace_id, token.token_id, _FIRST_TOKEN)
            answer.secret, answer.secret_withheld = secret, False
        answer.token.name = _FIRST_TOKEN
        return answer

    async def CreateToken(
        self,
        request: pb.CreateTokenRequest,
        context: "grpc.aio.ServicerContext[pb.CreateTokenRequest, pb.CreateTokenResponse]",
    ) -> pb.CreateTokenResponse:
        name = checked_name("name", request.name)
        if request.role not in Role.values() or request.role == Role.ROLE_UNSPECIFIED:
            roles = ", ".join(role.removeprefix("ROLE_").lower() for role in Role.keys()[1:])
            raise InvalidField("role", request.role, f"it must be one of: {roles}")
        if request.expires_at_ms and request.expires_at_ms <= self._clock.now_ms():
            raise InvalidField("expires_at_ms", request.expires_at_ms, "it must lie in the future, or be 0 for never")
        secret = new_secret("tt")
        token = _token_created(request.role, request.expires_at_ms, secret)

        async def decide() -> Decision:
            workspace = await self._workspace()
            known = counted(workspace.tokens, TOKEN, self._clock.now_ms())
            if known >= MAX_TOKENS:
                raise LimitExceeded("tokens per workspace", known + 1, MAX_TOKENS, "revoke one that is not used")
            # Other services append to this stream too, and nothing of theirs touches tokens: no version is expected.
            append = StreamAppend("workspace", workspace.workspace_id, None, [token])
            return Decision(workspace.workspace_id, [append])

        def respond(records: Sequence[EventRecord]) -> pb.CreateTokenResponse:
            view = _view(token, records[-1])
            return pb.CreateTokenResponse(token=view, secret_withheld=True, position=records[-1].position)

        answer, repeated = await self._commands.answer(
            request, request.request_id, pb.CreateTokenResponse, decide, respond
        )
        if not repeated:
            # After the commit: a name without a token could never be erased, a token without a name shows its id.
            await self._names.keep(caller().workspace_id, token.token_id, name)
            answer.secret, answer.secret_withheld = secret, False
        # Not from the stored answer, which holds no name: it could not be erased there.
        answer.token.name = name
        return answer

    async def RevokeToken(
        self,
        request: pb.RevokeTokenRequest,
        context: "grpc.aio.ServicerContext[pb.RevokeTokenRequest, pb.RevokeTokenResponse]",
    ) -> pb.RevokeTokenResponse:
        async def decide() -> Decision:
            workspace = await self._workspace()
            token = workspace.tokens.get(request.token_id)
            if token is None:
                raise NotFound("token", request.token_id, "see `tether tokens list`")
            if token.revoked:
                return Decision("", [])
            # Who signed in with it on the page must be out with it, whoever signs in at this moment.
            ended = [request.token_id, *ends_with(workspace.tokens, request.token_id, self._clock.now_ms())]
            events = [TokenRevoked(token_id=token_id) for token_id in ended]
            append = StreamAppend("workspace", workspace.workspace_id, workspace.version, events)
            return Decision(workspace.workspace_id, [append])

        def respond(records: Sequence[EventRecord]) -> pb.RevokeTokenResponse:
            return pb.RevokeTokenResponse(position=records[-1].position if records else 0)

        answer, _ = await self._commands.answer(request, request.request_id, pb.RevokeTokenResponse, decide, respond)
        return answer

    async def EraseTokenName(
        self,
        request: pb.EraseTokenNameRequest,
        context: "grpc.aio.ServicerContext[pb.EraseTokenNameRequest, pb.EraseTokenNameResponse]",
    ) -> pb.EraseTokenNameResponse:
        workspace = await self._workspace()
        if request.token_id not in workspace.tokens:
            raise NotFound("token", request.token_id, "see `tether tokens list`")
        await self._names.erase(workspace.workspace_id, request.token_id)
        return pb.EraseTokenNameResponse()

    async def ListTokens(
        self,
        request: pb.ListTokensRequest,
        context: "grpc.aio.ServicerContext[pb.ListTokensRequest, pb.ListTokensResponse]",
    ) -> pb.ListTokensResponse:
        workspace = await self._workspace()
        names = await self._names.of(workspace.workspace_id)
        now_ms = self._clock.now_ms()
        shown = [
            token
            for token in workspace.tokens.values()
            if token.kind == TOKEN or (token.kind != CODE and token.living(now_ms))
        ]
        return pb.ListTokensResponse(tokens=[token_view(token, name_of(token, names)) for token in shown])

    async def CreateSignInCode(
        self,
        request: pb.CreateSignInCodeRequest,
        context: "grpc.aio.ServicerContext[pb.CreateSignInCodeRequest, pb.CreateSignInCodeResponse]",
    ) -> pb.CreateSignInCodeResponse:
        return await self._sign_ins.create_code(request)

    async def SignIn(
        self, request: pb.SignInRequest, context: "grpc.aio.ServicerContext[pb.SignInRequest, pb.SignInResponse]"
    ) -> pb.SignInResponse:
        return await self._sign_ins.sign_in(request)

    async def SignOut(
        self, request: pb.SignOutRequest, context: "grpc.aio.ServicerContext[pb.SignOutRequest, pb.SignOutResponse]"
    ) -> pb.SignOutResponse:
        await self._sign_ins.sign_out()
        return pb.SignOutResponse()

    async def WhoAmI(
        self, request: pb.WhoAmIRequest, context: "grpc.aio.ServicerContext[pb.WhoAmIRequest, pb.WhoAmIResponse]"
    ) -> pb.WhoAmIResponse:
        who = caller()
        workspace = await self._store.workspace(who.workspace_id) if who.workspace_id else None
        token = workspace.tokens.get(who.token_id) if workspace is not None else None
        name = name_of(token, await self._names.of(who.workspace_id)) if token is not None else ""
        return pb.WhoAmIResponse(
            kind=who.subject.partition(":")[0],
            subject_id=who.subject_id,
            workspace_id=who.workspace_id,
            workspace_name=workspace.name if workspace is not None else "",
            role=getattr(Role, f"ROLE_{who.role.upper()}", Role.ROLE_UNSPECIFIED),
            expires_at_ms=who.expires_at_ms,
            name=name,
            now_ms=self._clock.now_ms(),
        )

    async def _workspace(self) -> Workspace:
        workspace = await self._store.workspace(caller().workspace_id)
        if workspace is None:
            raise NotFound("workspace", caller().workspace_id)
        return workspace


def _token_created(role: Role.ValueType, expires_at_ms: int, secret: str) -> TokenCreated:
    return TokenCreated(token_id=new_id("tok"), role=role, token_sha256=sha256(secret), expires_at_ms=expires_at_ms)


def _view(token: TokenCreated, record: EventRecord) -> pb.Token:
    created_at_ms = record.recorded_at_us // 1000
    return token_view(Token(token.token_id, token.role, created_at_ms, token.expires_at_ms), "")
