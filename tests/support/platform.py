"""Real PostgreSQL, NATS and whole platforms for tests; tests/conftest.py offers them to every test."""

import itertools
import os
import signal
import tomllib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest

from deploy.local.database import SERVICES, create_database, create_roles
from deploy.local.home import Home
from deploy.local.nats import EmbeddedNats
from deploy.local.platform import Platform
from deploy.local.ports import free_port
from deploy.local.postgres import EmbeddedPostgres
from deploy.local.supervised import Supervised, answers
from tests.support.eventually import eventually
from tests.support.loop_thread import LoopThread

TEMPLATE = "tether_template"


@dataclass(frozen=True)
class DatabaseUrls:
    """One fresh database: a URL for each service's role, and the superuser's."""

    name: str
    eventlog: str
    scheduler: str
    quota: str
    metrics: str
    admin: str


class SharedServer:
    """A supervised server on the session's loop. `kill` is followed by a restart; `stop` lasts until `start`."""

    def __init__(self, loop: LoopThread, supervised: Supervised) -> None:
        self._loop = loop
        self._supervised = supervised
        self._stopped = False
        # The process that `kill` struck, as long as `start` has not seen the next one.
        self._killed = 0

    @property
    def pid(self) -> int:
        identity = self._supervised.identity
        assert identity is not None, f"{self._supervised.program.name} is between a death and its restart"
        return identity.pid

    @property
    def restarts(self) -> int:
        return self._supervised.restarts

    @property
    def log(self) -> Path:
        return self._supervised.log

    def kill(self) -> None:
        self._killed = self.pid
        os.kill(self._killed, signal.SIGKILL)

    async def stop(self) -> None:
        self._stopped = True
        await self._loop.run(self._supervised.stop())

    async def start(self) -> None:
        """Returns when it answers again; nothing happens when it runs.

        One that was killed is started again by its supervisor, never a second time here: two on one folder would meet.
        """
        if self._stopped:
            await self._loop.run(self._supervised.start())
        elif self._killed:
            await eventually(self._back, 60, f"{self._supervised.program.name} after it was killed")
        self._stopped, self._killed = False, 0

    async def _back(self) -> bool:
        identity = self._supervised.identity
        return identity is not None and identity.pid != self._killed and await answers(self._supervised.program)


class SharedPostgres(SharedServer):
    """One cluster for the whole test session; tests keep apart by databases."""

    def __init__(self, loop: LoopThread, supervised: Supervised, cluster: EmbeddedPostgres) -> None:
        super().__init__(loop, supervised)
        self._cluster = cluster
        self._names = (f"test_{number}" for number in itertools.count(1))

    async def fresh_database(self) -> DatabaseUrls:
        """An empty database with all roles and schemas, copied from a template (about 50 ms)."""
        name = next(self._names)
        await self._administer(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}")
        urls = {service: self._cluster.url(name, f"tether_{service}", password(service)) for service in SERVICES}
        return DatabaseUrls(name=name, admin=self._cluster.url(name), **urls)

    async def drop_database(self, name: str) -> None:
        """Drops it, whoever is still connected."""
        await self._administer(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    async def _administer(self, statement: str) -> None:
        connection = await asyncpg.connect(self._cluster.url("postgres"), timeout=10, command_timeout=60)
        try:
            await connection.execute(statement)
        finally:
            await connection.close(timeout=10)


class SharedNats(SharedServer):
    """One NATS server for the whole test session; a test that needs it empty asks for `own_nats`."""

    def __init__(self, loop: LoopThread, supervised: Supervised, server: EmbeddedNats) -> None:
        super().__init__(loop, supervised)
        self.url = server.url
        self.store = server.folder / "jetstream"


def password(service: str) -> str:
    return f"password-of-{service}"


@pytest.fixture(scope="session")
def shared_loop() -> Iterator[LoopThread]:
    loop = LoopThread()
    yield loop
    loop.close()


@pytest.fixture(scope="session")
def postgres(shared_loop: LoopThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedPostgres]:
    folder = tmp_path_factory.mktemp("postgres")
    cluster = EmbeddedPostgres(folder / "cluster", free_port(), "password-of-postgres")
    supervised = Supervised(shared_loop.call(cluster.prepare()), folder / "postgres.log")
    shared_loop.call(supervised.start())
    try:
        shared_loop.call(create_database(cluster.url("postgres"), TEMPLATE))
        shared_loop.call(create_roles(cluster.url(TEMPLATE), {service: password(service) for service in SERVICES}))
        yield SharedPostgres(shared_loop, supervised, cluster)
    finally:
        shared_loop.call(supervised.stop())


@pytest.fixture
async def database(postgres: SharedPostgres) -> AsyncIterator[DatabaseUrls]:
    """A fresh database for one test."""
    await postgres.start()
    urls = await postgres.fresh_database()
    yield urls
    await postgres.start()
    await postgres.drop_database(urls.name)


@pytest.fixture(scope="session")
def nats(shared_loop: LoopThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedNats]:
    server, supervised = nats_server(shared_loop, tmp_path_factory.mktemp("nats"))
    yield SharedNats(shared_loop, supervised, server)
    shared_loop.call(supervised.stop())


@pytest.fixture
def own_nats(shared_loop: LoopThread, tmp_path: Path) -> Iterator[SharedNats]:
    """A NATS server of the test's own, which it may stop, kill and empty."""
    server, supervised = nats_server(shared_loop, tmp_path / "nats")
    yield SharedNats(shared_loop, supervised, server)
    shared_loop.call(supervised.stop())


def nats_server(loop: LoopThread, folder: Path) -> tuple[EmbeddedNats, Supervised]:
    folder.mkdir(exist_ok=True)
    server = EmbeddedNats(folder / "server", free_port(), "password-of-nats")
    supervised = Supervised(loop.call(server.prepare()), folder / "nats.log")
    loop.call(supervised.start())
    return server, supervised


class SharedPlatform:
    """The whole platform with its real services, in a temporary data directory."""

    def __init__(self, loop: LoopThread, platform: Platform) -> None:
        self._loop = loop
        self._platform = platform
        client = tomllib.loads(platform.home.client.read_text())
        self.home = platform.home
        self.endpoints: dict[str, str] = client["endpoints"]
        self.token: str = client["token"]
        self.operator_token: str = client["operator_token"]

    def pid(self, name: str) -> int:
        identity = self._platform.process(name).identity
        assert identity is not None, f"{name} is between a death and its restart"
        return identity.pid

    def kill(self, name: str) -> None:
        """SIGKILL; the supervisor starts it again."""
        os.kill(self.pid(name), signal.SIGKILL)

    def restarts(self, name: str) -> int:
        return self._platform.process(name).restarts

    async def stop(self, name: str) -> None:
        """Stops one process and keeps it away until `start`."""
        await self._loop.run(self._platform.process(name).stop())

    async def start(self, name: str) -> None:
        """Returns when the process answers its health probe."""
        await self._loop.run(self._platform.process(name).start())

    async def healthy(self, name: str) -> bool:
        return await answers(self._platform.process(name).program)


@pytest.fixture(scope="session")
def platform(shared_loop: LoopThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedPlatform]:
    """One for the whole test session; who disturbs it leaves it healthy."""
    yield from whole_platform(shared_loop, tmp_path_factory.mktemp("platform") / "home")


@pytest.fixture
def own_platform(shared_loop: LoopThread, tmp_path: Path) -> Iterator[SharedPlatform]:
    """One for a single test, with which it may do as it likes."""
    yield from whole_platform(shared_loop, tmp_path / "platform")


def whole_platform(loop: LoopThread, folder: Path) -> Iterator[SharedPlatform]:
    started = Platform(Home(folder), lambda line: None)
    loop.call(started.start())
    try:
        yield SharedPlatform(loop, started)
    finally:
        loop.call(started.stop())
