"""Downloads an artifact to a file: goes on where a broken download ended, and checks the whole."""

import hashlib
import os
import time
from pathlib import Path

from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from protos.metrics.v1 import artifact_pb2 as pb
from services.cli.connection import Platform
from services.cli.errors import CliError, PlatformError
from services.cli.output import error_console

# Without one more byte from the platform; then the command ends, and the next one goes on.
_TRIES = 10
_PAUSE_S = 1.0
_READ_BYTES = 1 << 20


def fetch(platform: Platform, artifact: pb.Artifact, output: Path | None) -> tuple[Path, bool]:
    """Where the file is now, and whether it was there already. Raises CliError.

    What is not whole lies beside it as `NAME.<digest>.part`.
    """
    target = _target(artifact, output)
    try:
        if target.exists():
            if _digest(target).hexdigest() == artifact.sha256:
                return target, True
            raise CliError(f"{target} is another file; remove it, or name another with --output")
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f"{target.name}.{artifact.sha256[:12]}.part")
        with part.open("ab") as file:
            digest = _digest(part)
            _receive(platform, artifact, file.fileno(), digest)
            os.fsync(file.fileno())
        if digest.hexdigest() != artifact.sha256:
            part.unlink()
            raise CliError(f"{artifact.name} came damaged and was removed; download it again")
        part.replace(target)
    except OSError as error:
        raise CliError(f"{target} cannot be written ({error.strerror}); name another with --output") from None
    return target, False


def _target(artifact: pb.Artifact, output: Path | None) -> Path:
    if output is None:
        return Path(artifact.name)
    return output / artifact.name if output.is_dir() or str(output).endswith("/") else output


def _receive(platform: Platform, artifact: pb.Artifact, file: int, digest: "hashlib._Hash") -> None:
    """Append what is missing. Raises PlatformError once the platform is away for good."""
    aside, failures = error_console(), 0
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(
        *columns, TimeRemainingColumn(), console=aside, disable=not aside.is_terminal, transient=True
    ) as progress:
        offset = os.fstat(file).st_size
        task = progress.add_task(escape(artifact.name), total=artifact.bytes, completed=offset)
        while offset < artifact.bytes:
            try:
                request, before = pb.DownloadArtifactRequest(artifact_id=artifact.artifact_id, offset=offset), offset
                for response in platform.artifacts.DownloadArtifact(request):
                    os.write(file, response.chunk)
                    digest.update(response.chunk)
                    offset += len(response.chunk)
                    failures = failures if not response.chunk else 0
                    progress.update(task, completed=offset)
                if offset == before:
                    raise CliError(f"the platform has only {offset} of the {artifact.bytes} bytes of {artifact.name}")
            except PlatformError as error:
                failures += 1
                if not error.away or failures == _TRIES:
                    raise
                if failures == 1:
                    aside.print("reconnecting…")
                time.sleep(_PAUSE_S)


def _digest(path: Path) -> "hashlib._Hash":
    """SHA-256 of what is there."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_READ_BYTES):
            digest.update(chunk)
    return digest
