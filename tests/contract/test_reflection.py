"""Any gRPC client can explore and call the platform: it needs an address and a token, and no file of ours."""

import itertools
from typing import Any

import grpc
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.json_format import MessageToDict
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from services.rpc.roles import ROLES
from tests.support.platform import SharedPlatform
from tests.support.servers import bearer

# What an empty request may be told; anything else means that the call itself did not work.
ANSWERS = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.PERMISSION_DENIED,
}
BUILT_IN = ("grpc.health.", "grpc.reflection.")


class GenericClient:
    """Knows a server by its reflection alone."""

    def __init__(self, address: str, token: str) -> None:
        self._channel = grpc.insecure_channel(address)
        self._metadata = bearer(token)
        self._database = ProtoReflectionDescriptorDatabase(self._channel)
        self.pool = DescriptorPool(self._database)

    def methods(self) -> list[str]:
        services = [name for name in self._database.get_services() if not name.startswith(BUILT_IN)]
        return [f"/{name}/{m.name}" for name in services for m in self.pool.FindServiceByName(name).methods]

    def call(self, path: str, answers: int = 1, **fields: object) -> tuple[grpc.StatusCode, list[dict[str, Any]]]:
        """Status of a call, and its first answers as JSON; fewer where the stream has no more."""
        _, service, name = path.split("/")
        method = self.pool.FindServiceByName(service).FindMethodByName(name)
        request, answer = GetMessageClass(method.input_type), GetMessageClass(method.output_type)
        shape = f"{'stream' if method.client_streaming else 'unary'}_{'stream' if method.server_streaming else 'unary'}"
        rpc = getattr(self._channel, shape)(
            path, request_serializer=request.SerializeToString, response_deserializer=answer.FromString
        )
        told = request(**fields)
        try:
            got = rpc(iter([told]) if method.client_streaming else told, metadata=self._metadata, timeout=10)
            told_back = [got]
            if method.server_streaming:
                told_back = list(itertools.islice(got, answers))
                got.cancel()
        except grpc.RpcError as error:
            return error.code(), []
        return grpc.StatusCode.OK, [MessageToDict(one, descriptor_pool=self.pool) for one in told_back]

    def close(self) -> None:
        self._channel.close()


def test_every_rpc_can_be_called_by_a_client_that_has_only_reflection(platform: SharedPlatform) -> None:
    called = set()
    for address in platform.endpoints.values():
        client = GenericClient(address, platform.token)
        for path in client.methods():
            code, _ = client.call(path)
            assert code in ANSWERS, f"{path}: {code}"
            called.add(path)
        client.close()
    assert called == set(ROLES)


def test_a_generic_client_reads_the_payloads_of_events(platform: SharedPlatform) -> None:
    client = GenericClient(platform.endpoints["eventlog"], platform.token)
    # The first page says where the range begins.
    _, pages = client.call("/tether.eventlog.v1.EventLogService/ReadEvents", answers=2)
    client.close()
    payloads = [event["payload"] for page in pages for event in page.get("events", [])]
    assert {"@type": "type.googleapis.com/tether.events.v1.WorkspaceCreated", "name": "default"} in payloads
