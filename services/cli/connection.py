"""Channels to the platform's services: token, deadlines, retries, and errors as sentences."""

import json
import uuid
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any, Generic, NamedTuple, TypeVar

import grpc
import typer

from protos.eventlog.v1.eventlog_pb2_grpc import EventLogServiceStub, WebhookServiceStub
from protos.metrics.v1.artifact_pb2_grpc import ArtifactServiceStub
from protos.metrics.v1.evaluation_pb2_grpc import EvaluationServiceStub
from protos.metrics.v1.metrics_pb2_grpc import MetricsServiceStub
from protos.quota.v1.quota_pb2_grpc import QuotaServiceStub
from protos.scheduler.v1.access_pb2_grpc import AccessServiceStub
from protos.scheduler.v1.job_pb2_grpc import JobServiceStub
from protos.scheduler.v1.runner_pb2_grpc import RunnerServiceStub
from protos.scheduler.v1.workflow_pb2_grpc import WorkflowServiceStub
from services.cli.errors import from_rpc
from services.cli.settings import Address, Settings, environment, load

# A unary call that names no other deadline.
DEADLINE_S = 30.0

# Every mutating request carries a request id, so a repeat of one that got through changes nothing.
_RETRY = {
    "maxAttempts": 4,
    "initialBackoff": "0.2s",
    "maxBackoff": "1s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}
_OPTIONS: list[tuple[str, Any]] = [
    ("grpc.service_config", json.dumps({"methodConfig": [{"name": [{}], "retryPolicy": _RETRY}]})),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.max_receive_message_length", 64 << 20),
]

R = TypeVar("R")


def new_request_id() -> str:
    """Names one intention, so that its repeats are one request."""
    return str(uuid.uuid4())


class Stream(Generic[R]):
    """A server's stream; ends with PlatformError unless the server ends it well."""

    def __init__(self, call: Any, address: str) -> None:
        self._call, self._address = call, address

    def __iter__(self) -> Iterator[R]:
        try:
            yield from self._call
        except grpc.RpcError as error:
            raise from_rpc(error, self._address) from None

    def cancel(self) -> None:
        self._call.cancel()


class _Details(NamedTuple):
    method: str
    timeout: float | None
    metadata: Sequence[tuple[str, str]] | None
    credentials: grpc.CallCredentials | None
    wait_for_ready: bool | None
    compression: grpc.Compression | None


class _Calls(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):
    """Adds token and deadline to each call, and makes its error a sentence."""

    def __init__(self, address: str, token: str, deadline_s: float) -> None:
        self._address, self._token, self._deadline_s = address, token, deadline_s

    def intercept_unary_unary(self, continuation: Callable[..., Any], details: Any, request: Any) -> Any:
        timeout = details.timeout or self._deadline_s
        call = continuation(self._authorized(details, timeout), request)
        error = call.exception()
        if isinstance(error, grpc.RpcError):
            raise from_rpc(error, self._address)
        return call

    def intercept_unary_stream(self, continuation: Callable[..., Any], details: Any, request: Any) -> Any:
        return Stream(continuation(self._authorized(details, details.timeout), request), self._address)

    def _authorized(self, details: Any, timeout: float | None) -> grpc.ClientCallDetails:
        metadata = (*(details.metadata or ()), ("authorization", f"Bearer {self._token}"))
        return _Details(  # type: ignore[return-value]
            details.method, timeout, metadata, details.credentials, details.wait_for_ready, details.compression
        )


class Platform:
    """Stubs of every service. Unary calls raise PlatformError; streams are `Stream`s. Connects at the first call."""

    def __init__(self, settings: Settings, deadline_s: float = DEADLINE_S) -> None:
        self.settings = settings
        self._deadline_s = deadline_s
        self._channels: dict[tuple[Address, str], grpc.Channel] = {}

    @cached_property
    def access(self) -> AccessServiceStub:
        return AccessServiceStub(self._channel("scheduler"))

    @cached_property
    def operator_access(self) -> AccessServiceStub:
        """As the operator, where this is the platform's own machine."""
        return AccessServiceStub(self._channel("scheduler", self.settings.operator_token or self.settings.token))

    @cached_property
    def runners(self) -> RunnerServiceStub:
        return RunnerServiceStub(self._channel("scheduler"))

    @cached_property
    def jobs(self) -> JobServiceStub:
        return JobServiceStub(self._channel("scheduler"))

    @cached_property
    def workflows(self) -> WorkflowServiceStub:
        return WorkflowServiceStub(self._channel("scheduler"))

    @cached_property
    def quota(self) -> QuotaServiceStub:
        return QuotaServiceStub(self._channel("quota"))

    @cached_property
    def metrics(self) -> MetricsServiceStub:
        return MetricsServiceStub(self._channel("metrics"))

    @cached_property
    def evaluations(self) -> EvaluationServiceStub:
        return EvaluationServiceStub(self._channel("metrics"))

    @cached_property
    def artifacts(self) -> ArtifactServiceStub:
        return ArtifactServiceStub(self._channel("metrics"))

    @cached_property
    def eventlog(self) -> EventLogServiceStub:
        return EventLogServiceStub(self._channel("eventlog"))

    @cached_property
    def webhooks(self) -> WebhookServiceStub:
        return WebhookServiceStub(self._channel("eventlog"))

    def _channel(self, service: str, token: str = "") -> grpc.Channel:
        address = self.settings.endpoints[service]
        token = token or self.settings.token
        if (address, token) not in self._channels:
            channel = _open(address)
            calls = _Calls(str(address), token, self._deadline_s)
            self._channels[address, token] = grpc.intercept_channel(channel, calls)
        return self._channels[address, token]


def connect(context: typer.Context, deadline_s: float = DEADLINE_S) -> Platform:
    """The platform that the command line and the environment name. Raises NotConfigured."""
    given = context.find_root().params
    settings = load(given.get("server"), given.get("token_file"), bool(given.get("insecure")), environment())
    return Platform(settings, deadline_s)


def _open(address: Address) -> grpc.Channel:
    # A proxy is for addresses elsewhere.
    options = [*_OPTIONS, ("grpc.enable_http_proxy", 0 if address.loopback else 1)]
    if address.tls:
        return grpc.secure_channel(address.target, grpc.ssl_channel_credentials(), options)
    return grpc.insecure_channel(address.target, options)
