"""The whole platform on one machine: PostgreSQL, NATS, the services and the gateway, each its own process."""

import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import BinaryIO

from deploy.local.credentials import Credentials, load_or_make
from deploy.local.database import SERVICES, create_database, create_roles
from deploy.local.errors import LocalError, StartFailed
from deploy.local.first_start import ensure_workspace, write_client
from deploy.local.gateway import EmbeddedGateway
from deploy.local.health import probe_grpc
from deploy.local.home import Home
from deploy.local.lock import take_lock
from deploy.local.nats import EmbeddedNats
from deploy.local.ports import assign
from deploy.local.postgres import EmbeddedPostgres
from deploy.local.process import ProcessIdentity, Program, end
from deploy.local.state import PlatformState, ProcessState
from deploy.local.supervised import STOP_GRACE_S, Supervised

DATABASE = "tether"
GATEWAY = "gateway"
# In the order in which they start.
PROCESSES = ("postgres", "nats", *SERVICES, GATEWAY)
# The gateway's is the address that people type, so it gets the first.
PORTS = (GATEWAY, *PROCESSES[:-1])


def service_argv(service: str) -> tuple[str, ...]:
    # -P: a folder named `services` where we happen to stand must not be taken for ours.
    return (sys.executable, "-P", "-m", f"services.{service}")


class Platform:
    """Starts everything, keeps it running, and stops it; as an asynchronous context manager or by `start` and `stop`.

    `say` is told of each step in one line. `settings` are further environment variables for the services. The thread
    that calls `start` must outlive the platform: the kernel ends the processes with it.
    """

    def __init__(
        self,
        home: Home,
        say: Callable[[str], None] = lambda line: None,
        settings: Mapping[str, str] | None = None,
        argv: Callable[[str], Sequence[str]] = service_argv,
        first_port: int = 0,
    ) -> None:
        self.home, self._first_port = home, first_port
        self._say = say
        self._settings = dict(settings or {})
        self._argv = argv
        self._processes: list[Supervised] = []
        self._phase = "starting"
        self._lock: BinaryIO | None = None
        self._ports: dict[str, int] = {}
        self._postgres: EmbeddedPostgres | None = None
        # Why there is no gateway; empty where there is one.
        self._no_gateway = ""
        # An admin token of the workspace that the first start made; known once started.
        self.token = ""

    async def __aenter__(self) -> "Platform":
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def endpoints(self) -> dict[str, str]:
        """Address of each service, and of the gateway where it runs, host:port."""
        names = SERVICES if self._no_gateway else (*SERVICES, GATEWAY)
        return {name: f"127.0.0.1:{self._ports[name]}" for name in names}

    def process(self, name: str) -> Supervised:
        return next(process for process in self._processes if process.program.name == name)

    async def start(self) -> None:
        """Returns when every process is healthy and client.toml tells how to reach them.

        Raises LocalError with one sentence otherwise; nothing is then left running.
        """
        self.home.prepare()
        self._lock = take_lock(self.home)
        try:
            self.home.refuse_half_restored()
            await self._start()
        except OSError as error:
            await self.stop()
            raise LocalError(f"the platform could not be started: {error}") from None
        except BaseException:
            await self.stop()
            raise

    async def _start(self) -> None:
        await self._end_leftovers()
        credentials = load_or_make(self.home.secrets)
        self._ports, moved = assign(PORTS, self.home.ports, self._first_port)
        for name in moved:
            self._say(f"{name}'s old port is taken by another program; it moves to {self._ports[name]}")
        postgres = self._postgres = EmbeddedPostgres(
            self.home.postgres, self._ports["postgres"], credentials.postgres_superuser
        )
        await self._run(await postgres.prepare())
        await create_database(postgres.url("postgres"), DATABASE)
        await create_roles(postgres.url(DATABASE), credentials.postgres_services)
        nats = EmbeddedNats(self.home.nats, self._ports["nats"], credentials.nats)
        await self._run(await nats.prepare())
        for service in SERVICES:
            await self._run(self._service(service, postgres, nats, credentials))
        if not credentials.workspace_token:
            self._say("making the workspace `default`")
        credentials = await ensure_workspace(self.endpoints["scheduler"], credentials, self.home.secrets)
        await self._start_gateway()
        write_client(self.home.client, credentials, self.endpoints)
        self.token = credentials.workspace_token
        self._phase = "running"
        self._save()

    async def _start_gateway(self) -> None:
        """Everything but the page works without it, so where it cannot run that is said, and remembered."""
        services = {service: f"127.0.0.1:{self._ports[service]}" for service in SERVICES}
        hosts = {**os.environ, **self._settings}.get("TETHER_HOSTS", "")
        gateway = EmbeddedGateway(self.home.gateway, self._ports[GATEWAY], services, hosts=hosts)
        try:
            await self._run(await gateway.prepare())
        except LocalError as error:
            if self._processes[-1].program.name == GATEWAY:
                self._processes.pop()
            self._no_gateway = error.sentence if isinstance(error, StartFailed) else str(error)
            self._say(f"there is no page and no gateway: {self._no_gateway}; everything else works")

    async def stop(self) -> None:
        """Stops what runs, the last started first; returns when all of it is gone. Stopping twice does no harm."""
        if self._lock is None:
            return
        self._phase = "stopping"
        while self._processes:
            process = self._processes[-1]
            self._say(f"stopping {process.program.name}")
            await process.stop()
            self._processes.pop()
        if self._postgres is not None:
            await self._postgres.release()
        self.home.state.unlink(missing_ok=True)
        self._lock.close()
        self._lock = None

    def _service(
        self, service: str, postgres: EmbeddedPostgres, nats: EmbeddedNats, credentials: Credentials
    ) -> Program:
        address = self.endpoints[service]
        password = credentials.postgres_services[service]
        return Program(
            name=service,
            argv=tuple(self._argv(service)),
            address=address,
            probe=partial(probe_grpc, address),
            cwd=self.home.root,
            env={
                **self._settings,
                "TETHER_POSTGRES_URL": postgres.url(DATABASE, f"tether_{service}", password),
                "TETHER_NATS_URL": nats.url,
                "TETHER_LISTEN": address,
                "TETHER_OPERATOR_TOKEN_SHA256": credentials.operator_token_sha256,
                **({"TETHER_INGEST_ADDRESS": self.endpoints["metrics"]} if service == "scheduler" else {}),
                **(self._artifact_folders() if service == "metrics" else {}),
            },
        )

    def _artifact_folders(self) -> dict[str, str]:
        """In the data directory, unless the operator has named a place of his own."""
        folders = {"TETHER_ARTIFACT_STORE": self.home.artifacts, "TETHER_ARTIFACT_UPLOADS": self.home.uploads}
        named = {**os.environ, **self._settings}
        return {name: str(folder) for name, folder in folders.items() if not named.get(name)}

    async def _run(self, program: Program) -> None:
        self._say(f"starting {program.name} on {program.address}")
        process = Supervised(program, self.home.log(program.name), self._save, self._say)
        self._processes.append(process)
        await process.start()

    async def _end_leftovers(self) -> None:
        """Processes of a supervisor that was killed end by themselves; this makes sure, and waits for it."""
        state = PlatformState.load(self.home.state)
        for process in reversed(state.processes if state is not None else ()):
            if process.identity is not None and process.identity.alive():
                self._say(f"ending {process.name}, left over from a platform that was killed")
                await end(process.identity, first=signal.SIGQUIT, grace_s=STOP_GRACE_S)

    def _save(self) -> None:
        supervisor = ProcessIdentity.of(os.getpid())
        assert supervisor is not None, "this process runs"
        processes = [
            ProcessState(
                process.program.name, process.program.address, str(process.log), process.restarts, process.identity
            )
            for process in self._processes
        ]
        if self._no_gateway:
            processes.append(ProcessState(GATEWAY, "-", str(self.home.log(GATEWAY)), 0, None, self._no_gateway))
        PlatformState(self._phase, supervisor, tuple(processes)).save(self.home.state)
