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
        from services.words.format import label

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


def workflow(context: typer.Context, incomplete: str) -> Offers:
    """Names of saved workflows, with what they train."""

    def ask() -> Iterable[tuple[str, str]]:
        from protos.scheduler.v1.workflow_pb2 import ListWorkflowsRequest
        from services.cli.connection import connect

        found = connect(context, _DEADLINE_S).workflows.ListWorkflows(ListWorkflowsRequest()).workflows
        return [(one.workflow.name, f"{one.workflow.architecture_id} on {one.dataset_name}") for one in found]

    return _offer(ask, incomplete)


def job(context: typer.Context, incomplete: str) -> Offers:
    """`last`, and ids of the newest jobs, with their names."""

    def ask() -> Iterable[tuple[str, str]]:
        from protos.scheduler.v1.job_pb2 import ListJobsRequest
        from services.cli.connection import connect

        found = connect(context, _DEADLINE_S).jobs.ListJobs(ListJobsRequest(page_size=_MOST)).jobs
        return [("last", "the newest job"), *((one.job_id, one.name) for one in found)]

    return _offer(ask, incomplete)


def checkpoint(context: typer.Context, incomplete: str) -> Offers:
    """Names of the checkpoints of the job that was typed before, newest first."""
    return _offer(lambda: _checkpoints(context, str(context.params.get("job") or "last")), incomplete)


def artifact(context: typer.Context, incomplete: str) -> Offers:
    """Names of the files of the job that was typed before, newest first."""

    def ask() -> Iterable[tuple[str, str]]:
        from protos.metrics.v1.artifact_pb2 import ArtifactKind, ListArtifactsRequest
        from services.cli import pick
        from services.cli.connection import connect
        from services.words.format import size, words

        platform = connect(context, _DEADLINE_S)
        job_id = pick.job_id(platform, str(context.params.get("job") or "last"))
        found = platform.artifacts.ListArtifacts(ListArtifactsRequest(job_id=job_id)).artifacts
        return [(one.name, f"{words(ArtifactKind, one.kind, 'ARTIFACT_KIND_')}, {size(one.bytes)}") for one in found]

    return _offer(ask, incomplete)


def job_checkpoint(context: typer.Context, incomplete: str) -> Offers:
    """Jobs, and behind a slash the names of the job's checkpoints."""
    typed, slash, _ = incomplete.partition("/")
    if not slash:
        return job(context, incomplete)
    return _offer(lambda: [(f"{typed}/{name}", help_) for name, help_ in _checkpoints(context, typed)], incomplete)


def augmentation(context: typer.Context, incomplete: str) -> Offers:
    """What can be changed of the images."""

    def ask() -> Iterable[tuple[str, str]]:
        from protos.training.v1.training_pb2 import Augmentations

        keys = [field.name.replace("_", "-") for field in Augmentations.DESCRIPTOR.fields]
        return [("none", "leave all of the architecture's out"), *((f"{key}=", "") for key in keys)]

    return _offer(ask, incomplete)


def _checkpoints(context: typer.Context, named: str) -> list[tuple[str, str]]:
    from services.cli import pick
    from services.cli.connection import connect
    from services.words.format import metrics

    found = pick.job(connect(context, _DEADLINE_S), named).checkpoints
    return [(one.name, metrics(one.metrics) + (" best" if one.best else "")) for one in reversed(found)]


def series(context: typer.Context, incomplete: str) -> Offers:
    """Names of the series of the job that was typed before, with how many points each has."""

    def ask() -> Iterable[tuple[str, str]]:
        from protos.metrics.v1.metrics_pb2 import ListSeriesRequest
        from services.cli import pick
        from services.cli.connection import connect

        platform = connect(context, _DEADLINE_S)
        job_id = pick.job_id(platform, context.params["job"])
        found = platform.metrics.ListSeries(ListSeriesRequest(job_id=job_id)).series
        return [(one.name, f"{one.points:,} points") for one in found]

    return _offer(ask, incomplete)


def _offer(ask: Callable[[], Iterable[tuple[str, str]]], incomplete: str) -> Offers:
    try:
        return [(value, help_) for value, help_ in ask() if value.startswith(incomplete)][:_MOST]
    except Exception:
        # An error would be printed into the line that the person is typing.
        return []
