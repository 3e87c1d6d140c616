"""WebhookService: what a workspace's admins set, see, remove and replay."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import grpc
from google.protobuf.message import Message

from protos.eventlog.v1 import eventlog_pb2 as pb
from protos.eventlog.v1 import eventlog_pb2_grpc as pb_grpc
from services.eventlog import webhook_store as store
from services.eventlog.requests import first_answer, keep_answer
from services.eventlog.webhook_target import checked_url
from services.ids import new_secret
from services.postgres import Connection, Pool
from services.rpc.errors import InvalidField, NotFound
from services.rpc.requests import identity_of
from services.rpc.shell import caller

Answer = TypeVar("Answer", bound=Message)


class WebhookApi(pb_grpc.WebhookServiceServicer):
    """`changed` is called after each change, so that the deliveries need not be waited for."""

    def __init__(self, pool: Pool, allow_private: bool, changed: Callable[[], None]) -> None:
        self._pool, self._allow_private, self._changed = pool, allow_private, changed

    async def SetWebhook(
        self,
        request: pb.SetWebhookRequest,
        context: "grpc.aio.ServicerContext[pb.SetWebhookRequest, pb.SetWebhookResponse]",
    ) -> pb.SetWebhookResponse:
        url = checked_url(request.url, self._allow_private)
        for kind in request.kinds:
            if kind not in pb.WebhookKind.values() or kind == pb.WebhookKind.WEBHOOK_KIND_UNSPECIFIED:
                known = ", ".join(name.removeprefix("WEBHOOK_KIND_").lower() for name in pb.WebhookKind.keys()[1:])
                raise InvalidField("kinds", kind, f"it must be one of: {known}")
        kinds = sorted(set(request.kinds))
        secret = ""

        async def act(connection: Connection, workspace_id: str) -> pb.SetWebhookResponse:
            nonlocal secret
            known = await store.exists(connection, workspace_id)
            secret = new_secret("wh") if request.new_secret or not known else ""
            await store.set_hook(connection, workspace_id, url, kinds, secret)
            webhook = await store.read_view(connection, workspace_id)
            return pb.SetWebhookResponse(webhook=webhook, secret_withheld=bool(secret))

        answer, repeated = await self._once(request, request.request_id, pb.SetWebhookResponse, act)
        if not repeated:
            answer.secret, answer.secret_withheld = secret, False
        return answer

    async def GetWebhook(
        self,
        request: pb.GetWebhookRequest,
        context: "grpc.aio.ServicerContext[pb.GetWebhookRequest, pb.GetWebhookResponse]",
    ) -> pb.GetWebhookResponse:
        return pb.GetWebhookResponse(webhook=await store.read_view(self._pool, caller().workspace_id))

    async def RemoveWebhook(
        self,
        request: pb.RemoveWebhookRequest,
        context: "grpc.aio.ServicerContext[pb.RemoveWebhookRequest, pb.RemoveWebhookResponse]",
    ) -> pb.RemoveWebhookResponse:
        async def act(connection: Connection, workspace_id: str) -> pb.RemoveWebhookResponse:
            if not await store.remove(connection, workspace_id):
                raise _no_webhook(workspace_id)
            return pb.RemoveWebhookResponse()

        return (await self._once(request, request.request_id, pb.RemoveWebhookResponse, act))[0]

    async def ReplayWebhook(
        self,
        request: pb.ReplayWebhookRequest,
        context: "grpc.aio.ServicerContext[pb.ReplayWebhookRequest, pb.ReplayWebhookResponse]",
    ) -> pb.ReplayWebhookResponse:
        async def act(connection: Connection, workspace_id: str) -> pb.ReplayWebhookResponse:
            if not await store.exists(connection, workspace_id):
                raise _no_webhook(workspace_id)
            head: int = await connection.fetchval("select coalesce(max(position), 0) from eventlog.events")
            if not 1 <= request.from_position <= head:
                rule = f"the log has the positions 1 to {head}"
                raise InvalidField("from_position", request.from_position, rule)
            await store.replay(connection, workspace_id, request.from_position)
            return pb.ReplayWebhookResponse(webhook=await store.read_view(connection, workspace_id))

        return (await self._once(request, request.request_id, pb.ReplayWebhookResponse, act))[0]

    async def _once(
        self,
        request: Message,
        request_id: str,
        answer_type: type[Answer],
        act: Callable[[Connection, str], Awaitable[Answer]],
    ) -> tuple[Answer, bool]:
        """Act in a transaction; a repeat of the request gets the first answer, which must hold no secret."""
        identity = identity_of(request, request_id)
        async with self._pool.acquire() as connection, connection.transaction():
            if identity is not None and (stored := await first_answer(connection, identity)) is not None:
                return answer_type.FromString(stored), True
            answer = await act(connection, caller().workspace_id)
            if identity is not None:
                await keep_answer(connection, identity, answer.SerializeToString())
        self._changed()
        return answer, False


def _no_webhook(workspace_id: str) -> NotFound:
    return NotFound("webhook", workspace_id, "set one with `tether webhook set URL`")
