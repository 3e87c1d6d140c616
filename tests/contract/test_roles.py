"""Every RPC with every role, and with another workspace's ids. An RPC without a row here fails."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from protos.eventlog.v1 import eventlog_pb2
from protos.events.v1.workspace_pb2 import Role
from protos.metrics.v1 import artifact_pb2, evaluation_pb2, ingest_pb2, metrics_pb2
from protos.quota.v1 import quota_pb2
from protos.scheduler.v1 import access_pb2, job_pb2, runner_pb2, session_pb2, workflow_pb2
from protos.training.v1.training_pb2 import Workflow
from services.metrics import bootstrap as metrics
from services.quota import bootstrap as quota
from services.rpc.roles import ROLES
from tests.support.box import hello
from tests.support.control import Control, control_plane
from tests.support.platform import DatabaseUrls
from tests.support.servers import OPERATOR_SHA256, OPERATOR_TOKEN, address, bearer, running

MODULES = (
    eventlog_pb2,
    access_pb2,
    runner_pb2,
    workflow_pb2,
    job_pb2,
    session_pb2,
    quota_pb2,
    ingest_pb2,
    metrics_pb2,
    evaluation_pb2,
    artifact_pb2,
)
READERS = {"viewer", "member", "admin", "analyst", "operator"}
PERSONS = READERS - {"operator"}
# `code` brings a sign-in code where a token belongs; `page` is a member who has signed in on the page.
EVERYBODY = [*sorted(READERS), "page", "runner", "nobody", "stranger", "code"]
UNKNOWN = {"nobody", "stranger", "code"}
# Needs no token, whoever calls.
OPEN = {"nobody"}


@dataclass(frozen=True)
class Row:
    """Who may call, with which fields, and how a thing of another workspace is refused (None: it names no thing)."""

    allowed: set[str]
    fields: dict[str, Any] = field(default_factory=dict)
    # Fields that name a thing; filled with ids of the other workspace they must be NOT_FOUND.
    foreign: dict[str, str] | None = None


JOB = {"job_id": "job"}
ROWS: dict[str, Row] = {
    "EventLogService/ReadEvents": Row({"admin", "analyst", "operator"}),
    "EventLogService/TailEvents": Row({"admin", "analyst", "operator"}),
    "EventLogService/GetHead": Row(READERS),
    "WebhookService/SetWebhook": Row({"admin"}),
    "WebhookService/GetWebhook": Row({"admin", "analyst"}),
    "WebhookService/RemoveWebhook": Row({"admin"}),
    "WebhookService/ReplayWebhook": Row({"admin"}),
    "AccessService/CreateWorkspace": Row({"operator"}, {"name": "another"}),
    "AccessService/CreateToken": Row({"admin"}, {"name": "t", "role": Role.ROLE_VIEWER}),
    "AccessService/RevokeToken": Row({"admin"}, {"token_id": "none"}, {"token_id": "token"}),
    "AccessService/EraseTokenName": Row({"admin"}, {"token_id": "none"}, {"token_id": "token"}),
    "AccessService/ListTokens": Row({"admin"}),
    "AccessService/CreateSignInCode": Row(PERSONS),
    "AccessService/SignIn": Row(OPEN),
    "AccessService/SignOut": Row(PERSONS),
    "AccessService/WhoAmI": Row(READERS | {"runner"}),
    "RunnerService/CreateRunner": Row({"admin"}, {"name": "new"}),
    "RunnerService/GetRunner": Row(READERS, {"runner_id": "none"}, {"runner_id": "runner"}),
    "RunnerService/ListRunners": Row(READERS),
    "RunnerService/WatchRunners": Row(READERS),
    "RunnerService/SuspendRunner": Row({"admin"}, {"runner_id": "none"}, {"runner_id": "runner"}),
    "RunnerService/ResumeRunner": Row({"admin"}, {"runner_id": "none"}, {"runner_id": "runner"}),
    "RunnerService/RegenerateSecretKey": Row({"admin"}, {"runner_id": "none"}, {"runner_id": "runner"}),
    "RunnerService/UninstallRunner": Row({"admin", "runner"}, {"runner_id": "none"}, {"runner_id": "runner"}),
    "RunnerSessionService/Connect": Row({"runner"}, {"hello": hello()}),
    "WorkflowService/CreateWorkflow": Row(
        {"member", "admin"}, {"workflow": Workflow(name="w", dataset_id="none", architecture_id="resnet-tiny")}
    ),
    "WorkflowService/ReviseWorkflow": Row({"member", "admin"}, {"workflow": Workflow(workflow_id="none")}),
    "WorkflowService/GetWorkflow": Row(READERS, {"workflow_id": "none"}, {"workflow_id": "workflow"}),
    "WorkflowService/ListWorkflows": Row(READERS),
    "WorkflowService/DeleteWorkflow": Row({"member", "admin"}, {"workflow_id": "none"}, {"workflow_id": "workflow"}),
    "WorkflowService/RegisterDataset": Row({"member", "admin"}, {"name": "d", "location": "/d"}),
    "WorkflowService/ListDatasets": Row(READERS),
    "WorkflowService/CheckDataset": Row({"member", "admin"}, {"dataset_id": "none"}, {"dataset_id": "dataset"}),
    "WorkflowService/ListArchitectures": Row(READERS),
    "WorkflowService/ListRates": Row(READERS),
    "JobService/SubmitJob": Row(
        {"member", "admin"}, {"dataset_id": "none", "architecture_id": "resnet-tiny"}, {"dataset_id": "dataset"}
    ),
    "JobService/ResumeJob": Row({"member", "admin"}, {"job_id": "none"}, JOB),
    "JobService/GetJob": Row(READERS, {"job_id": "none"}, JOB),
    "JobService/ListJobs": Row(READERS),
    "JobService/WatchJobs": Row(READERS, {}, JOB),
    "JobService/StopJob": Row({"member", "admin"}, {"job_id": "none"}, JOB),
    "QuotaService/SetQuota": Row({"admin"}),
    "QuotaService/GetUsage": Row(READERS),
    "QuotaService/WatchUsage": Row(READERS),
    "QuotaService/ListCharges": Row(READERS),
    "QuotaService/ExplainCharge": Row(READERS, {"job_id": "none"}, JOB),
    "QuotaService/AdjustMinutes": Row({"admin"}, {"milliminutes": 1, "reason": "a test", "job_id": "none"}, JOB),
    "QuotaService/VerifyUsage": Row({"member", "admin", "analyst", "operator"}),
    "IngestService/Report": Row({"runner"}),
    "MetricsService/ListSeries": Row(READERS, {"job_id": "none"}, JOB),
    "MetricsService/QueryMetrics": Row(READERS, {"job_id": "none"}, JOB),
    "MetricsService/WatchMetrics": Row(READERS, {"job_id": "none"}, JOB),
    "MetricsService/ReadPoints": Row(READERS, {"job_id": "none"}, JOB),
    "MetricsService/ReadLogs": Row(READERS, {"job_id": "none"}, JOB),
    "MetricsService/WatchLogs": Row(READERS, {"job_id": "none"}, JOB),
    "EvaluationService/ListEvaluations": Row(READERS, {"job_id": "none"}, JOB),
    "EvaluationService/GetConfusionMatrix": Row(READERS, {"job_id": "none"}, JOB),
    "EvaluationService/GetPreview": Row(READERS, {"job_id": "none"}, JOB),
    "EvaluationService/ListRecommendations": Row(READERS, {"job_id": "none"}, JOB),
    "ArtifactService/ListArtifacts": Row(READERS, {"job_id": "none"}, JOB),
    "ArtifactService/DownloadArtifact": Row(READERS | {"runner"}, {"artifact_id": "none"}),
    "ArtifactService/ExportModel": Row(
        {"member", "admin"}, {"job_id": "none", "kind": artifact_pb2.ARTIFACT_KIND_ONNX}, JOB
    ),
    "ArtifactService/UploadArtifact": Row({"runner"}),
    "ArtifactService/WatchExports": Row({"runner"}),
}


def methods() -> Iterator[tuple[str, MethodDescriptor]]:
    for module in MODULES:
        services: dict[str, ServiceDescriptor] = module.DESCRIPTOR.services_by_name
        for service in services.values():
            for method in service.methods:
                yield f"/{service.full_name}/{method.name}", method


def row_of(path: str) -> Row:
    return ROWS[path.rpartition(".")[2]]


def test_every_rpc_has_a_row_and_the_servers_table_says_the_same() -> None:
    paths = {path for path, _ in methods()}
    assert {path.rpartition(".")[2] for path in paths} == set(ROWS)
    assert {path: frozenset(row_of(path).allowed) for path in paths} == ROLES


class Platform:
    """All four services on one fresh database, a token for each role, and a second workspace with things of its own."""

    def __init__(self, control: Control, channels: dict[str, grpc.aio.Channel]) -> None:
        self.control, self._channels = control, channels
        self.tokens: dict[str, str] = {}
        self.foreign: dict[str, str] = {}

    async def prepare(self) -> None:
        control = self.control
        mine, other = control.token, await control.create_workspace("other")
        for role in ("viewer", "member", "admin", "analyst"):
            wanted = access_pb2.CreateTokenRequest(name=role, role=Role.Value(f"ROLE_{role.upper()}"))
            self.tokens[role] = (await control.access.CreateToken(wanted, metadata=bearer(mine))).secret
        self.tokens |= {"operator": OPERATOR_TOKEN, "stranger": "tt_stranger"}
        self.tokens["runner"] = (await control.create_runner("mine")).secret_key
        self.tokens["code"], used = [await control.sign_in_code(self.tokens["member"]) for _ in range(2)]
        self.tokens["page"] = (await control.sign_in(used)).secret
        control.token = other.secret
        runner = await control.create_runner("theirs")
        self.foreign = {
            "token": other.token.token_id,
            "runner": runner.runner.runner_id,
            "dataset": await control.dataset(),
            "workflow": await control.workflow(),
            "job": (await control.submit(runner="", queue=True)).job_id,
        }
        control.token = mine

    async def call(self, path: str, method: MethodDescriptor, fields: dict[str, Any], role: str) -> grpc.StatusCode:
        """Status of one call; a stream counts as OK with its first answer, or with its quiet end."""
        request: Message = GetMessageClass(method.input_type)(**fields)
        answer = GetMessageClass(method.output_type)
        channel = self._channels[path.split(".")[1]]
        metadata = bearer(self.tokens[role]) if role in self.tokens else ()
        serialize: Callable[[Any], bytes] = type(request).SerializeToString
        options: dict[str, Any] = {"request_serializer": serialize, "response_deserializer": answer.FromString}
        try:
            if method.client_streaming:
                stream = channel.stream_stream(path, **options)(metadata=metadata, timeout=10)
                await stream.write(request)
                await stream.done_writing()
                await stream.read()
                stream.cancel()
            elif method.server_streaming:
                answers = channel.unary_stream(path, **options)(request, metadata=metadata, timeout=10)
                await answers.read()
                answers.cancel()
            else:
                await channel.unary_unary(path, **options)(request, metadata=metadata, timeout=10)
        except grpc.aio.AioRpcError as error:
            return error.code()
        return grpc.StatusCode.OK


@pytest.fixture
async def platform(database: DatabaseUrls) -> AsyncIterator[Platform]:
    async with AsyncExitStack() as stack:
        control = await stack.enter_async_context(control_plane(database))
        channels = {"scheduler": control.channel}
        addresses = {"eventlog": control.eventlog_address}
        for name, module, url in (("quota", quota, database.quota), ("metrics", metrics, database.metrics)):
            settings = module.Settings(postgres_url=url, listen=address(), operator_token_sha256=OPERATOR_SHA256)
            addresses[name] = await stack.enter_async_context(running(module.serve, settings))
        for name, where in addresses.items():
            channels[name] = await stack.enter_async_context(grpc.aio.insecure_channel(where))
        prepared = Platform(control, channels)
        await prepared.prepare()
        yield prepared


async def test_each_rpc_answers_the_roles_of_its_row_and_refuses_all_others(platform: Platform) -> None:
    wrong = []
    for path, method in methods():
        row = row_of(path)
        for role in EVERYBODY:
            if role == "page" and path.endswith("/SignOut"):
                continue  # it would be out from there on
            code = await platform.call(path, method, row.fields, role)
            expected = None
            if row.allowed != OPEN and role in UNKNOWN:
                expected = grpc.StatusCode.UNAUTHENTICATED
            elif row.allowed != OPEN and (role if role != "page" else "member") not in row.allowed:
                expected = grpc.StatusCode.PERMISSION_DENIED
            refused = code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)
            broken = code in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.UNIMPLEMENTED)
            if (expected is None and (refused or broken)) or (expected is not None and code != expected):
                wrong.append(f"{path} as {role}: {code}, expected {expected or 'an answer'}")
    assert not wrong, "\n".join(wrong)


async def test_a_thing_of_another_workspace_does_not_exist(platform: Platform) -> None:
    wrong = []
    for path, method in methods():
        row = row_of(path)
        if row.foreign is None:
            continue
        fields = {**row.fields, **{name: platform.foreign[thing] for name, thing in row.foreign.items()}}
        for role in sorted(row.allowed - {"operator", "runner"}):
            code = await platform.call(path, method, fields, role)
            if code != grpc.StatusCode.NOT_FOUND:
                wrong.append(f"{path} as {role} with {fields}: {code}")
    assert not wrong, "\n".join(wrong)


async def test_lists_hold_nothing_of_another_workspace(platform: Platform) -> None:
    control = platform.control
    theirs = set(platform.foreign.values())
    runners = await control.runners.ListRunners(runner_pb2.ListRunnersRequest(), metadata=control.auth)
    assert [runner.name for runner in runners.runners] == ["mine"]
    datasets = await control.workflows.ListDatasets(workflow_pb2.ListDatasetsRequest(), metadata=control.auth)
    assert not datasets.datasets
    jobs = await control.jobs.ListJobs(job_pb2.ListJobsRequest(), metadata=control.auth)
    assert not jobs.jobs
    tokens = await control.access.ListTokens(access_pb2.ListTokensRequest(), metadata=control.auth)
    assert not theirs & {token.token_id for token in tokens.tokens}
    read = platform._channels["eventlog"].unary_stream(
        "/tether.eventlog.v1.EventLogService/ReadEvents",
        request_serializer=eventlog_pb2.ReadEventsRequest.SerializeToString,
        response_deserializer=eventlog_pb2.ReadEventsResponse.FromString,
    )(eventlog_pb2.ReadEventsRequest(), metadata=control.auth)
    async for page in read:
        assert {record.workspace_id for record in page.events} <= {control.workspace_id}
