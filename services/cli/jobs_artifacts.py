"""`tether jobs artifacts`, `download` and `export`: files that trainings leave."""

import json
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from protos.metrics.v1 import artifact_pb2 as pb
from protos.scheduler.v1 import job_pb2
from services.cli import completion, download, pick
from services.cli.connection import Platform, connect, new_request_id
from services.cli.errors import CliError
from services.cli.output import console, error_console, print_json, to_json
from services.cli.parameters import AsJson, JobArgument
from services.cli.tables import table
from services.clock import PlatformClock
from services.words import format as fmt

_LOOK_S = 0.5
_STYLES = {"PENDING": "yellow", "READY": "green", "FAILED": "red"}

Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="PATH", help="A file or a folder; default: here, under its own name."),
]


class Format(StrEnum):
    """What a model is exported as, as it is typed."""

    ONNX = "onnx"
    SAFETENSORS = "safetensors"


def register(group: typer.Typer) -> None:
    """Adds the commands to `tether jobs`."""
    group.command("artifacts", epilog="Example: tether jobs artifacts last")(artifacts)
    group.command(
        "download",
        epilog="Examples: tether jobs download last\n\n"
        "tether jobs download last step-00000100.safetensors --output models/\n\n"
        "The same command again goes on where a broken download ended.",
    )(download_)
    group.command(
        "export",
        epilog="Examples: tether jobs export last --format onnx\n\n"
        "tether jobs export last --format safetensors --checkpoint step-00000100.safetensors --output models/",
    )(export)


def artifacts(context: typer.Context, job: JobArgument, as_json: AsJson = False) -> None:
    """List the files of a training that the platform has: checkpoints and exports."""
    platform = connect(context)
    response = platform.artifacts.ListArtifacts(pb.ListArtifactsRequest(job_id=pick.job_id(platform, job)))
    if as_json:
        print_json(response)
    elif not response.artifacts:
        console().print("The platform has no file of it yet. Its box sends checkpoints while it trains, best first.")
    else:
        console().print(_table(list(response.artifacts), PlatformClock().now_ms()))


def download_(
    context: typer.Context,
    job: JobArgument,
    name: Annotated[
        str,
        typer.Argument(
            metavar="[NAME]",
            help="Name or id of a file; default: the best checkpoint.",
            autocompletion=completion.artifact,
        ),
    ] = "",
    output: Output = None,
    as_json: AsJson = False,
) -> None:
    """Download a checkpoint or an export, and check it. Goes on where a broken download ended."""
    platform = connect(context)
    artifact = _named(platform, pick.job(platform, job), name)
    _fetch(platform, artifact, output, as_json)


def export(
    context: typer.Context,
    job: JobArgument,
    format_: Annotated[Format, typer.Option("--format", "-f", help="What to make of it.")],
    checkpoint: Annotated[
        str, typer.Option(help="Name of a checkpoint; default: the best.", autocompletion=completion.checkpoint)
    ] = "",
    output: Output = None,
    as_json: AsJson = False,
) -> None:
    """Have a box turn a checkpoint into ONNX or weights alone, and download it. Ctrl-C only ends the waiting."""
    platform = connect(context)
    request = pb.ExportModelRequest(
        request_id=new_request_id(),
        job_id=pick.job_id(platform, job),
        checkpoint=checkpoint,
        kind=pb.ArtifactKind.Value(f"ARTIFACT_KIND_{format_.name}"),
    )
    artifact = platform.artifacts.ExportModel(request).artifact
    if artifact.state == pb.ARTIFACT_STATE_PENDING:
        artifact = _made(platform, artifact)
    if artifact.state != pb.ARTIFACT_STATE_READY:
        raise CliError(f"{artifact.checkpoint} cannot be exported: {artifact.message}")
    _fetch(platform, artifact, output, as_json)


def _made(platform: Platform, artifact: pb.Artifact) -> pb.Artifact:
    """The artifact once it is no longer pending."""
    aside, said = error_console(), ""
    hint = f"get it later: tether jobs download {fmt.short_id(artifact.job_id)} {artifact.name}"
    try:
        with aside.status(f"{escape(artifact.checkpoint)}: {escape(artifact.message)}…") as status:
            while artifact.state == pb.ARTIFACT_STATE_PENDING:
                if artifact.message != said:
                    said = artifact.message
                    line = f"{escape(artifact.checkpoint)}: {escape(said)}…"
                    status.update(line) if aside.is_terminal else aside.print(line)
                time.sleep(_LOOK_S)
                found = platform.artifacts.ListArtifacts(pb.ListArtifactsRequest(job_id=artifact.job_id)).artifacts
                artifact = next((one for one in found if one.artifact_id == artifact.artifact_id), artifact)
    except KeyboardInterrupt:
        aside.print(f"[dim]{escape(hint)}[/]")
        raise
    return artifact


def _fetch(platform: Platform, artifact: pb.Artifact, output: Path | None, as_json: bool) -> None:
    path, there = download.fetch(platform, artifact, output)
    if as_json:
        print(json.dumps({**json.loads(to_json(artifact)), "path": str(path)}, ensure_ascii=False, indent=2))
    elif there:
        console().print(f"{escape(str(path))} is there already, whole and the same.")
    else:
        console().print(f"{escape(str(path))}  {fmt.size(artifact.bytes)}, checked  [dim]sha256 {artifact.sha256}[/]")


def _named(platform: Platform, job: job_pb2.Job, name: str) -> pb.Artifact:
    """The file that is meant, on the platform. Raises CliError."""
    known = platform.artifacts.ListArtifacts(pb.ListArtifactsRequest(job_id=job.job_id)).artifacts
    wanted = name or _best(job)
    if not wanted:
        raise CliError(f"{job.name} has no checkpoint yet; see `tether jobs show {fmt.short_id(job.job_id)}`")
    found = next((one for one in known if wanted in (one.name, one.artifact_id)), None)
    if found is not None and found.state == pb.ARTIFACT_STATE_READY:
        return found
    names = ", ".join(one.name for one in known if one.state == pb.ARTIFACT_STATE_READY)
    there = f"it has {names}" if names else "it has no file of this training"
    if found is not None:
        raise CliError(f"the platform has not got {wanted} yet ({found.message or 'its box sends it'}); {there}")
    raise CliError(f"the platform has no file {wanted[:100]!r} of {job.name}; {there}")


def _best(job: job_pb2.Job) -> str:
    """Name of the best checkpoint, or else of the newest; empty where there is none."""
    best = [one.name for one in job.checkpoints if one.best]
    return (best or [one.name for one in job.checkpoints] or [""])[-1]


def _table(found: list[pb.Artifact], now_ms: int) -> Table:
    made = table("name", "kind", "state", "size", "step", "created", "id", right=("size", "step"), keep=("name", "id"))
    for one in found:
        state = fmt.label(pb.ArtifactState, one.state, "ARTIFACT_STATE_")
        text = Text(state.lower(), _STYLES.get(state, ""))
        made.add_row(
            Text(one.name, "bold"),
            fmt.words(pb.ArtifactKind, one.kind, "ARTIFACT_KIND_"),
            text.append(f": {one.message}" if one.message else "", "dim"),
            fmt.size(one.bytes) if one.bytes else "",
            f"{one.step:,}",
            fmt.ago(one.created_at_ms, now_ms),
            Text(one.artifact_id, "dim"),
        )
    return made
