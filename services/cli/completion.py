"""What the Tab key offers. Asks the platform for at most a second, and offers nothing where that fails."""

from collections.abc import Callable, Iterable

import typer

Offers = list[tuple[str, str]]

_DEADLINE_S = 1.0
_MOST = 50


def runner(context: typer.Context, incomplete: str) -> Offers:
    """Names of runners, with their status."""

    def ask() -> Iterable[tuple[str, str]]:
        from protos.events.v1.runner_pb2 import RunnerStatus
        from protos.scheduler.v1.runner_pb2 import ListRunnersRequest
        from services.cli.connection import connect
        from services.cli.format import label

        found = connect(context, _DEADLINE_S).runners.ListRunners(ListRunnersRequest()).runners
        return [(one.name, label(RunnerStatus, one.status, "RUNNER_STATUS_")) for one in found]

    return _offer(ask, incomplete)


def dataset(context: typer.Context, incomplete: str) -> Offers:
    """Names of datasets, with their location."""

    def ask() -> Iterable[tuple[str, str]]:
        from protos.scheduler.v1.workflow_pb2 import ListDatasetsRequest
        from services.cli.connection import connect

        found = connect(context, _DEADLINE_S).workflows.ListDatasets(ListDatasetsRequest()).datasets
        return [(one.name, one.location) for one in found]

    return _offer(ask, incomplete)


def architecture(context: typer.Context, incomplete: str) -> Offers:
    """Ids of the catalogue, with their description."""

    def ask() -> Iterable[tuple[str, str]]:
        from protos.scheduler.v1.workflow_pb2 import ListArchitecturesRequest
        from services.cli.connection import connect

        found = connect(context, _DEADLINE_S).workflows.ListArchitectures(ListArchitecturesRequest()).architectures
        return [(one.architecture_id, one.description) for one in found]

    return _offer(ask, incomplete)


def job(context: typer.Context, incomplete: str) -> Offers:
    """`last`, and ids of the newest jobs, with their names."""

    def ask() -> Iterable[tuple[str, str]]:
        from protos.scheduler.v1.job_pb2 import ListJobsRequest
        from services.cli.connection import connect

        found = connect(context, _DEADLINE_S).jobs.ListJobs(ListJobsRequest(page_size=_MOST)).jobs
        return [("last", "the newest job"), *((one.job_id, one.name) for one in found)]

    return _offer(ask, incomplete)


def _offer(ask: Callable[[], Iterable[tuple[str, str]]], incomplete: str) -> Offers:
    try:
        return [(value, help_) for value, help_ in ask() if value.startswith(incomplete)][:_MOST]
    except Exception:
        # An error would be printed into the line that the person is typing.
        return []
