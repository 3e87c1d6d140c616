"""PostgreSQL 18 from a wheel, under our own supervision.

Root may not run PostgreSQL, so for root it runs as `nobody`. That account often cannot walk to our data (a home folder
is 0700), and opening folders that are not ours is out of the question. So the server is started *in* its data folder
and knows it as /proc/self/cwd, which needs no walk. Its program files have no such way around, because PostgreSQL
resolves their real path; see `postgres_programs`.
"""

import contextlib
import os
import shutil
import signal
from functools import partial
from pathlib import Path

from deploy.local.files import write_private
from deploy.local.health import probe_postgres
from deploy.local.postgres_programs import ProgramFiles, run_as
from deploy.local.process import Account, ProcessIdentity, Program, end, unprivileged_account

SUPERUSER = "postgres"
HERE = "/proc/self/cwd"
ORPHAN_GRACE_S = 5.0
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "password_encryption": "scram-sha-256",
    "shared_buffers": "256MB",
    "synchronous_commit": "on",
    "wal_level": "replica",
    "wal_buffers": "16MB",
    "min_wal_size": "256MB",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "10min",
    "checkpoint_completion_target": "0.9",
    "jit": "off",
    "log_timezone": "UTC",
    "timezone": "UTC",
    "log_line_prefix": "%m [%p] %q%u@%d ",
}


class EmbeddedPostgres:
    """One cluster below `folder`, which belongs to it alone and is made when it is missing (0700)."""

    def __init__(self, folder: Path, port: int, superuser_password: str) -> None:
        self.folder = folder.absolute()
        self.data = self.folder / "data"
        self.port = port
        self._password = superuser_password
        self._account = unprivileged_account()
        self._programs = ProgramFiles(self.folder, self._account)

    def url(self, database: str, user: str = SUPERUSER, password: str | None = None) -> str:
        return f"postgresql://{user}:{password or self._password}@127.0.0.1:{self.port}/{database}"

    async def prepare(self) -> Program:
        """Makes the cluster if there is none yet and returns the program to run. A half-made one is made anew."""
        make_private(self.folder, self._account)
        programs = await self._programs.locate()
        if not self.data.exists():
            await self._initialise(programs)
        settings = [part for name, value in SETTINGS.items() for part in ("-c", f"{name}={value}")]
        return Program(
            name="postgres",
            argv=(str(programs / "postgres"), "-D", HERE, "-p", str(self.port), *settings),
            address=f"127.0.0.1:{self.port}",
            probe=partial(probe_postgres, self.url("postgres")),
            cwd=self.data,
            env={"LC_ALL": "C"},
            account=self._account,
            # Fast shutdown for `down`; an immediate one, which is bounded, if the supervisor dies.
            stop_signal=signal.SIGINT,
            death_signal=signal.SIGQUIT,
            before_start=self._clear_orphans,
        )

    async def release(self) -> None:
        """To be called when the program has ended: removes what only a running one needs."""
        await self._end_servers()
        self._programs.discard()

    async def _initialise(self, programs: Path) -> None:
        fresh = self.folder / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)
        make_private(fresh, self._account)
        password_file = self.folder / "password"
        write_private(password_file, self._password + "\n")
        give(password_file, self._account)
        try:
            await run_as(
                self._account,
                fresh,
                [
                    *(str(programs / "initdb"), "-D", HERE, "-U", SUPERUSER, "--pwfile", "../password"),
                    *("--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C"),
                    *("--locale-provider", "builtin", "--builtin-locale", "C.UTF-8"),
                ],
            )
        finally:
            password_file.unlink()
        fresh.replace(self.data)

    async def _clear_orphans(self) -> None:
        """After a postmaster was killed its children may work on, and the next one refuses to start beside them.

        The pid file stays: the next postmaster frees its predecessor's shared memory by it. Unless the pid is a
        stranger's by now, which PostgreSQL takes for a running server.
        """
        await self._end_servers()
        pid_file = self.data / "postmaster.pid"
        with contextlib.suppress(FileNotFoundError, ValueError, IndexError):
            if ProcessIdentity.of(int(pid_file.read_text().splitlines()[0])) is not None:
                pid_file.unlink()

    async def _end_servers(self) -> None:
        for server in servers_in(self.data):
            await end(server, signal.SIGKILL, ORPHAN_GRACE_S)


def servers_in(data: Path) -> list[ProcessIdentity]:
    """The PostgreSQL processes that work in a data folder. Someone's shell in that folder is not one of them."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "exe").readlink().name.startswith("postgres") and (process / "cwd").samefile(data):
                identity = ProcessIdentity.of(int(process.name))
                found += [identity] if identity is not None else []
    return found


def make_private(folder: Path, account: Account | None) -> None:
    """The folder exists, belongs to the account and is closed to everyone else."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    give(folder, account)


def give(path: Path, account: Account | None) -> None:
    if account is not None:
        os.chown(path, account.uid, account.gid)
