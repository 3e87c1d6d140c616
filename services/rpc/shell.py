"""What happens around every RPC: the caller is known, the role allows it, and every error is told in one sentence."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import ContextVar
from typing import Any

import grpc
import structlog
from google.protobuf.message import DecodeError

from services.clock import Clock
from services.eventlog.append import Conflict, LogUnavailable, RequestIdReused
from services.ids import new_id
from services.postgres import LOST
from services.rpc.credentials import NOBODY, Directory, Principal
from services.rpc.errors import BadCredentials, InvalidField, RoleRequired, Unavailable, code_of, to_status
from services.rpc.roles import ROLES

_log = structlog.get_logger()
_principal: ContextVar[Principal] = ContextVar("principal")
_correlation: ContextVar[str] = ContextVar("correlation")
_NOBODY = Principal(NOBODY, "", NOBODY, b"")

# Open to everyone: what any gRPC client needs to look around.
_OPEN = ("/grpc.health.v1.Health/", "/grpc.reflection.")

# An empty response this often shows that a stream is alive; its principal is checked again each second.
KEEP_ALIVE_S = 15.0
RECHECK_S = 1.0


def caller() -> Principal:
    """Who makes the call that is being handled."""
    return _principal.get()


def correlation_id() -> str:
    """Shared by everything that this call causes: events, log lines."""
    return _correlation.get()


class Shell(grpc.aio.ServerInterceptor):
    """Authenticates, authorises and translates errors. `catch_up` reads credentials that the directory has not seen."""

    def __init__(self, directory: Directory, catch_up: Callable[[], Awaitable[None]], clock: Clock) -> None:
        self._directory, self._catch_up, self._clock = directory, catch_up, clock

    async def intercept_service(self, continuation: Any, details: grpc.HandlerCallDetails) -> Any:
        handler = await continuation(details)
        if handler is None or details.method.startswith(_OPEN):
            return handler
        wrap = _unary if not handler.response_streaming else _streaming
        inner = handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
        behaviour = wrap(inner, lambda: self._enter(details.method, details.invocation_metadata), details.method)
        make = {
            (False, False): grpc.unary_unary_rpc_method_handler,
            (False, True): grpc.unary_stream_rpc_method_handler,
            (True, False): grpc.stream_unary_rpc_method_handler,
            (True, True): grpc.stream_stream_rpc_method_handler,
        }[handler.request_streaming, handler.response_streaming]
        return make(behaviour, _tolerant(handler.request_deserializer), handler.response_serializer)

    async def _enter(self, method: str, metadata: Any) -> None:
        """Set the caller and the correlation id. Raises BadCredentials or RoleRequired."""
        values = dict(metadata or ())
        given = values.get("x-correlation-id", "")
        # Shown in logs and events: nothing long, nothing that could be mistaken for more than an id.
        _correlation.set(
            given if 0 < len(given) <= 64 and given.isascii() and given.isprintable() else new_id("jb")[3:]
        )
        allowed = ROLES.get(method, frozenset())
        if NOBODY in allowed:
            _principal.set(_NOBODY)
            return
        scheme, _, secret = str(values.get("authorization", "")).partition(" ")
        if scheme.lower() != "bearer" or not secret:
            raise BadCredentials("missing", "this call needs a token: send metadata `authorization: Bearer <token>`")
        if secret.startswith("tc_"):
            raise BadCredentials("sign_in_code", "this is a sign-in code, which opens the page once and is no token")
        principal = self._directory.find(secret, self._clock.now_ms())
        if principal is None:
            await self._catch_up()
            principal = self._directory.find(secret, self._clock.now_ms())
        if principal is None:
            raise BadCredentials("unknown", "this token is unknown, revoked or expired; ask an admin for a new one")
        if principal.role not in allowed:
            raise RoleRequired(method, principal.role, sorted(allowed))
        _principal.set(principal)

    async def behind_code(self, code: str) -> Principal | None:
        """Whom a sign-in code lets in; None where it is unknown, used or expired."""
        found = self._directory.find_code(code, self._clock.now_ms())
        if found is None:
            await self._catch_up()
            found = self._directory.find_code(code, self._clock.now_ms())
        return found

    def still_valid(self, principal: Principal, now_ms: int | None = None) -> bool:
        """Whether an open stream may go on; ask each `RECHECK_S`. `now_ms`: where many are asked about at once."""
        return self._directory.still_valid(principal, self._clock.now_ms() if now_ms is None else now_ms)

    def check_still_valid(self, principal: Principal) -> None:
        """Raises BadCredentials once the stream's token is withdrawn."""
        if not self.still_valid(principal):
            raise BadCredentials("revoked", "this token was revoked or has expired; ask an admin for a new one")


class _Undecodable:
    """Stands for bytes that are no message, until the call is set up and can say so."""


def _tolerant(deserialize: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    def tolerant(data: bytes) -> Any:
        try:
            return deserialize(data)
        except DecodeError:
            return _Undecodable()

    return tolerant


def _refuse_undecodable(request: Any) -> None:
    if isinstance(request, _Undecodable):
        raise InvalidField("request", "bytes", "they are not a message of this call; is the client of this version?")


def _readable(request: Any) -> Any:
    """The request, or the stream of them. Raises InvalidField where one is not a message."""
    _refuse_undecodable(request)
    return _readable_stream(request) if hasattr(request, "__aiter__") else request


async def _readable_stream(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for request in requests:
        yield _readable(request)


Enter = Callable[[], Awaitable[None]]


def _unary(inner: Callable[..., Awaitable[Any]], enter: Enter, method: str) -> Callable[..., Awaitable[Any]]:
    async def behaviour(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        try:
            await enter()
            return await inner(_readable(request), context)
        except Exception as error:
            await _tell(error, method, context)

    return behaviour


def _streaming(inner: Callable[..., Any], enter: Enter, method: str) -> Callable[..., Awaitable[None]]:
    async def behaviour(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        try:
            await enter()
            if inspect.isasyncgenfunction(inner):
                responses: AsyncIterator[Any] = inner(_readable(request), context)
                async for response in responses:
                    await context.write(response)
            else:
                await inner(_readable(request), context)
        except Exception as error:
            await _tell(error, method, context)

    return behaviour


async def _tell(error: Exception, method: str, context: grpc.aio.ServicerContext[Any, Any]) -> None:
    """End the call with the status that fits the error. Always raises."""
    if isinstance(error, grpc.aio.AbortError):
        raise error
    refused = _refusal(error)
    code = code_of(refused)
    if code is None:
        _log.exception("a call failed", method=method, correlation_id=_correlation.get(""))
        await context.abort(
            grpc.StatusCode.INTERNAL,
            f"{method.rsplit('/', 1)[-1]} failed inside the platform; "
            f"its operator finds why in the service's log under {_correlation.get('')}",
        )
    else:
        await context.abort_with_status(to_status(code, refused))


def _refusal(error: Exception) -> Exception:
    """The kernel's errors in the words of a caller; any other as it is."""
    if isinstance(error, RequestIdReused):
        return InvalidField("request_id", error.request_id, "it was used for another request; make a new one")
    if isinstance(error, LogUnavailable):
        return Unavailable(str(error))
    if isinstance(error, Conflict):
        return Unavailable(f"others changed the same thing at the same time ({error}); repeat the request")
    if isinstance(error, LOST):
        return Unavailable("the platform's database does not answer at the moment; repeat the request in a second")
    return error


async def next_request(context: grpc.aio.ServicerContext[Any, Any]) -> Any:
    """The next request of a stream, or None at its end; cheaper than the iterator that a handler is given.

    Raises InvalidField where it is not a message.
    """
    request: Any = await context.read()
    if request is grpc.aio.EOF:
        return None
    _refuse_undecodable(request)
    return request


async def settle(task: "asyncio.Task[Any]") -> None:
    """Cancel a task and wait until it has ended."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
