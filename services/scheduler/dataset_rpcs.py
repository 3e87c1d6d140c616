"""WorkflowService: datasets."""

import asyncio
import re
from collections.abc import Sequence
from pathlib import PurePosixPath

import grpc

from protos.eventlog.v1.eventlog_pb2 import EventRecord
from protos.events.v1.workspace_pb2 import DatasetRegistered
from protos.scheduler.v1 import session_pb2
from protos.scheduler.v1 import workflow_pb2 as pb
from protos.scheduler.v1 import workflow_pb2_grpc as pb_grpc
from protos.training.v1.training_pb2 import Dataset, DatasetFormat
from services.eventlog.append import StreamAppend
from services.ids import new_id
from services.rpc.errors import AlreadyExists, InvalidField, LimitExceeded, NotFound, Unavailable, checked_name
from services.rpc.shell import caller
from services.scheduler.commands import Commands, Decision
from services.scheduler.domain.refusals import RunnerNotConnected
from services.scheduler.making import dataset_of, workspace_of
from services.scheduler.queries import Queries
from services.scheduler.sessions import Sessions
from services.scheduler.store import Store

MAX_DATASETS = 1000
_MAX_LOCATION = 4096
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]{0,30}")
# A box reads every image once; a million files on a slow disk take minutes.
_CHECK_TIMEOUT_S = 600


class DatasetRpcs(pb_grpc.WorkflowServiceServicer):
    def __init__(self, commands: Commands, store: Store, queries: Queries, sessions: Sessions) -> None:
        self._commands, self._store, self._queries, self._sessions = commands, store, queries, sessions

    async def RegisterDataset(
        self,
        request: pb.RegisterDatasetRequest,
        context: "grpc.aio.ServicerContext[pb.RegisterDatasetRequest, pb.RegisterDatasetResponse]",
    ) -> pb.RegisterDatasetResponse:
        dataset = Dataset(
            dataset_id=new_id("ds"),
            name=checked_name("name", request.name),
            location=_checked_location(request.location),
            format=request.format or DatasetFormat.DATASET_FORMAT_IMAGE_FOLDER,
        )
        if dataset.format not in DatasetFormat.values():
            names = ", ".join(name.removeprefix("DATASET_FORMAT_").lower() for name in DatasetFormat.keys()[1:])
            raise InvalidField("format", request.format, f"it must be one of: {names}")

        async def decide() -> Decision:
            workspace = await workspace_of(self._store)
            if any(known.name == dataset.name for known in workspace.datasets.values()):
                raise AlreadyExists("dataset", dataset.name)
            if len(workspace.datasets) >= MAX_DATASETS:
                raise LimitExceeded("datasets per workspace", MAX_DATASETS + 1, MAX_DATASETS, "use another workspace")
            # The version is expected: two datasets of the same name must not both get through.
            events = [DatasetRegistered(dataset=dataset)]
            stream = StreamAppend("workspace", workspace.workspace_id, workspace.version, events)
            return Decision(workspace.workspace_id, [stream])

        def respond(records: Sequence[EventRecord]) -> pb.RegisterDatasetResponse:
            return pb.RegisterDatasetResponse(dataset=dataset, position=records[-1].position)

        answer, _ = await self._commands.answer(
            request, request.request_id, pb.RegisterDatasetResponse, decide, respond
        )
        return answer

    async def ListDatasets(
        self,
        request: pb.ListDatasetsRequest,
        context: "grpc.aio.ServicerContext[pb.ListDatasetsRequest, pb.ListDatasetsResponse]",
    ) -> pb.ListDatasetsResponse:
        workspace = await self._store.workspace(caller().workspace_id)
        found = workspace.datasets.values() if workspace is not None else ()
        return pb.ListDatasetsResponse(datasets=sorted(found, key=lambda dataset: dataset.name))

    async def CheckDataset(
        self,
        request: pb.CheckDatasetRequest,
        context: "grpc.aio.ServicerContext[pb.CheckDatasetRequest, pb.CheckDatasetResponse]",
    ) -> pb.CheckDatasetResponse:
        dataset = dataset_of(await self._store.workspace(caller().workspace_id), request.dataset_id)
        runner_id = await self._queries.runner_id(caller().workspace_id, request.runner_id)
        runner = await self._store.runner(runner_id) if runner_id is not None else None
        if runner is None:
            raise NotFound("runner", request.runner_id, "see `tether runners list`")
        session = self._sessions.of(runner.runner_id)
        if session is None:
            raise RunnerNotConnected(runner.runner_id, runner.name)
        check_id = new_id("req")
        answered: asyncio.Future[session_pb2.DatasetChecked] = asyncio.get_running_loop().create_future()
        session.checks[check_id] = answered
        ask = session_pb2.CheckDatasetOnBox(check_id=check_id, dataset=dataset)
        session.say(session_pb2.ConnectResponse(check_dataset=ask))
        session.wake()
        try:
            async with asyncio.timeout(_CHECK_TIMEOUT_S):
                checked = await answered
        except TimeoutError:
            raise Unavailable(
                f"runner {runner.name} did not finish the check in {_CHECK_TIMEOUT_S} s; is its disk reachable?"
            ) from None
        finally:
            session.checks.pop(check_id, None)
        return pb.CheckDatasetResponse(report=checked.report)


def _checked_location(location: str) -> str:
    """An absolute path on the box, or a URL. Raises InvalidField."""
    if len(location) > _MAX_LOCATION:
        raise InvalidField("location", location, f"a path has at most {_MAX_LOCATION} characters")
    scheme, separator, rest = location.partition("://")
    if separator:
        if not _SCHEME.fullmatch(scheme) or not rest:
            raise InvalidField("location", location, "a URL has the form s3://bucket/folder")
        if "@" in rest.partition("/")[0]:
            rule = "secrets have no place in the log; keep them in the box's own configuration and leave them out here"
            raise InvalidField("location", f"{scheme}://…", rule)
    elif not PurePosixPath(location).is_absolute():
        rule = (
            "it must be an absolute path on the box, for example /data/digits, or a URL, for example s3://bucket/digits"
        )
        raise InvalidField("location", location, rule)
    if "\0" in location or ".." in PurePosixPath(rest or location).parts:
        raise InvalidField("location", location, "it must not contain `..`")
    return location
