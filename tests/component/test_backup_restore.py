"""A platform comes back from its backup as it was at one moment, under a new log id, and goes on."""

import asyncio
import json
import stat
import tomllib
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import nats
import pytest

from deploy.local.archive import reading
from deploy.local.credentials import load_or_make
from deploy.local.database import SERVICES
from deploy.local.home import Home
from deploy.local.postgres_programs import wheel_programs
from protos.eventlog.v1 import eventlog_pb2 as log_pb
from protos.eventlog.v1.eventlog_pb2_grpc import EventLogServiceStub, WebhookServiceStub
from protos.events.v1.runner_pb2 import RunnerStatus
from protos.events.v1.workspace_pb2 import Role
from protos.quota.v1 import quota_pb2
from protos.quota.v1.quota_pb2_grpc import QuotaServiceStub
from protos.scheduler.v1 import access_pb2
from protos.scheduler.v1.job_pb2 import JobState
from protos.scheduler.v1.session_pb2 import BoxMoment, Ended, Outcome, Started
from services.eventlog.relay import STREAM
from tests.support.box import Box, hello
from tests.support.control import Control
from tests.support.eventually import eventually
from tests.support.log import appender_on, create_log, created
from tests.support.platform import DatabaseUrls, SharedPostgres, password
from tests.support.servers import bearer
from tests.support.typed import commands, environment, typed

ROOT = Path(__file__).parent.parent.parent
PAGE = "how-to/back-up-and-restore.md"
# On the box's clock; the platform holds it to what is possible, so the end is when it is reported.
AT, LATER = BoxMoment(anchor_at_ms=1), BoxMoment(anchor_at_ms=1, elapsed_ms=1 << 50)
FINISHED = Ended(outcome=Outcome.OUTCOME_FINISHED, started_at=AT, ended_at=LATER)


@dataclass
class Reached:
    """A platform that runs somewhere, as its admin sees it."""

    home: Home
    control: Control
    log: Any
    webhooks: Any
    quota: Any

    async def head(self) -> log_pb.GetHeadResponse:
        answer: log_pb.GetHeadResponse = await self.log.GetHead(log_pb.GetHeadRequest(), metadata=self.control.auth)
        return answer

    async def settled(self) -> list[quota_pb2.Charge]:
        """What trainings that are over were charged."""
        request = quota_pb2.ListChargesRequest(min_position=(await self.head()).position)
        answer = await self.quota.ListCharges(request, metadata=self.control.auth)
        return [charge for charge in answer.charges if charge.attempts[0].ended_position]

    async def events(self, to: int) -> list[log_pb.EventRecord]:
        request = log_pb.ReadEventsRequest(to_position=to)
        pages = self.log.ReadEvents(request, metadata=bearer(self.operator))
        return [record async for page in pages for record in page.events]

    @property
    def operator(self) -> str:
        return load_or_make(self.home.secrets).operator_token

    async def superuser(self) -> "asyncpg.Connection[asyncpg.Record]":
        port = json.loads(self.home.ports.read_text())["postgres"]
        secret = load_or_make(self.home.secrets).postgres_superuser
        return await asyncpg.connect(f"postgresql://postgres:{secret}@127.0.0.1:{port}/tether")

    async def value(self, statement: str) -> Any:
        connection = await self.superuser()
        try:
            return await connection.fetchval(statement)
        finally:
            await connection.close()


@asynccontextmanager
async def reached(folder: Path) -> AsyncIterator[Reached]:
    home = Home(folder)
    client = tomllib.loads(home.client.read_text())
    async with (
        grpc.aio.insecure_channel(client["endpoints"]["scheduler"]) as scheduler,
        grpc.aio.insecure_channel(client["endpoints"]["eventlog"]) as log,
        grpc.aio.insecure_channel(client["endpoints"]["quota"]) as quota,
    ):
        control = Control(scheduler, client["endpoints"]["eventlog"])
        control.token = client["token"]
        yield Reached(home, control, EventLogServiceStub(log), WebhookServiceStub(log), QuotaServiceStub(quota))


@dataclass
class Seeded:
    """What the history left running."""

    key: str
    other_key: str
    job_id: str
    attempt_id: str


async def seed(platform: Reached) -> Seeded:
    """Two trainings that were charged, one that runs, a box that is free, a token, a webhook."""
    control = platform.control
    await control.dataset()
    first, other = await control.create_runner("box"), await control.create_runner("other")
    box = Box(control.channel, first.secret_key)
    await box.connect()
    for number in range(3):
        job = await control.submit(name=f"job {number}")
        assignment = await box.assignment()
        await box.report(assignment, 1, started=Started(at=AT))
        if number < 2:
            await box.report(assignment, 2, ended=FINISHED)
    await control.access.CreateToken(
        access_pb2.CreateTokenRequest(name="ci", role=Role.ROLE_VIEWER), metadata=control.auth
    )
    await platform.webhooks.SetWebhook(log_pb.SetWebhookRequest(url="https://example.org/"), metadata=control.auth)
    box.drop()
    return Seeded(first.secret_key, other.secret_key, job.job_id, assignment.attempt_id)


async def append_until_cancelled(control: Control) -> None:
    while True:
        await control.dataset(f"while it is written {uuid.uuid4()}")


async def after_the_backup(platform: Reached, seeded: Seeded) -> str:
    """A training that the backup does not know begins on the other box."""
    box = Box(platform.control.channel, seeded.other_key)
    await box.connect(hello(installation_id="i-2"))
    await platform.control.submit(runner="other")
    assignment = await box.assignment()
    await box.report(assignment, 1, started=Started(at=AT))
    box.drop()
    return assignment.attempt_id


async def boxes_come_back(platform: Reached, seeded: Seeded, unknown: str) -> None:
    """The one whose training the log knows goes on with it; the other's is not wanted, and the box is free."""
    control = platform.control
    box, other = Box(control.channel, seeded.key), Box(control.channel, seeded.other_key)
    await box.connect(hello(live_attempts=[seeded.attempt_id]))
    assignment = await box.assignment()
    assert assignment.attempt_id == seeded.attempt_id
    assert not assignment.stop_reason
    assert not (await box.report(assignment, 2, ended=FINISHED)).rejected
    assert (await control.job(seeded.job_id)).state == JobState.JOB_STATE_FINISHED

    await other.connect(hello(installation_id="i-2", live_attempts=[unknown]))
    assert not (await other.next("directive")).directive.HasField("attempt")
    stranger = type(assignment)(attempt_id=unknown, job_id="jb_unknown")
    assert (await other.report(stranger, 2, started=Started())).rejected
    assert not (await other.report(stranger, 3, ended=Ended(outcome=Outcome.OUTCOME_KILLED))).rejected
    assert (await control.runner("other")).status == RunnerStatus.RUNNER_STATUS_ONLINE
    await control.submit(runner="other")
    assert (await other.assignment()).attempt_id != unknown
    box.drop()
    other.drop()


async def stream_in_nats(home: Home) -> tuple[str, list[int]]:
    """The log id that NATS' stream names, and the positions in it."""
    secret, port = load_or_make(home.secrets).nats, json.loads(home.ports.read_text())["nats"]
    client = await nats.connect(f"nats://tether:{secret}@127.0.0.1:{port}", connect_timeout=2)
    try:
        stream = client.jetstream()
        info = await stream.stream_info(STREAM)
        span = range(info.state.first_seq, info.state.last_seq + 1)
        messages = [await stream.get_msg(STREAM, seq=number) for number in span]
        positions = [log_pb.EventRecord.FromString(message.data or b"").position for message in messages]
        return (info.config.metadata or {})["log_id"], positions
    finally:
        await client.close()


@pytest.mark.timeout(240)
async def test_the_commands_of_the_page_bring_a_platform_back_to_one_moment_and_it_goes_on(tmp_path: Path) -> None:
    lines = commands(PAGE)
    folder = tmp_path / "platform"
    variables = environment(TETHER_HOME=str(folder))
    in_place = lines.index("tether down")
    assert lines[0] == "tether backup tether.backup"
    try:
        await typed("tether up --detach", tmp_path, variables, 110)
        async with reached(folder) as platform:
            seeded = await seed(platform)
            appending = asyncio.create_task(append_until_cancelled(platform.control))
            low = (await platform.head()).position
            assert "everything up to event #" in await typed(lines[0], tmp_path, variables)
            appending.cancel()
            with reading(tmp_path / "tether.backup") as archive:
                saved = archive.manifest
            head = await platform.head()
            assert low <= saved.position <= head.position
            assert saved.log_id == head.log_id
            assert stat.S_IMODE((tmp_path / "tether.backup").stat().st_mode) == 0o600
            unknown = await after_the_backup(platform, seeded)
            known = await platform.events(saved.position)
            charges = await platform.settled()
            assert len(charges) == 2
            assert all(charge.milliminutes >= 0 and charge.attempts[0].interval.charged_until_ms for charge in charges)

        for line in lines[1 : in_place - 1]:
            shown = await typed(line, tmp_path, variables, 110)
        assert "✔ equal" in shown, "the last one verifies"
        async with reached(tmp_path / "restored") as platform:
            assert await platform.events(saved.position) == known
            now = await platform.head()
            assert now.log_id not in ("", saved.log_id)
            assert await platform.settled() == charges
            await boxes_come_back(platform, seeded, unknown)
            grown = (await platform.head()).position
            assert grown > saved.position
            rebuilt = "select bool_and(log_id = (select log_id from eventlog.log)) from quota.checkpoints"
            assert await platform.value(rebuilt)

            async def refilled() -> bool:
                log_id, positions = await stream_in_nats(platform.home)
                return log_id == now.log_id and positions == list(range(1, (await platform.head()).position + 1))

            await eventually(refilled, 20, "the whole log in NATS")
        await typed(lines[in_place - 1], tmp_path, variables)
    finally:
        for home in (folder, tmp_path / "restored"):
            if home.exists():
                await typed(f"tether down --data-dir {home}", tmp_path, variables)


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_a_stopped_platform_is_backed_up_and_put_back_in_its_place(tmp_path: Path) -> None:
    lines = commands(PAGE)
    in_place = lines[lines.index("tether down") :]
    folder = tmp_path / "platform"
    variables = environment(TETHER_HOME=str(folder))
    try:
        await typed("tether up --detach", tmp_path, variables, 110)
        async with reached(folder) as platform:
            await seed(platform)
        await typed("tether down", tmp_path, variables)
        await typed(lines[0], tmp_path, variables)
        with reading(tmp_path / "tether.backup") as archive:
            saved = archive.manifest
        await typed("tether up --detach", tmp_path, variables, 110)
        async with reached(folder) as platform:
            await platform.control.dataset("after the backup")
            ahead = (await platform.head()).position
        for line in in_place:
            shown = await typed(line, tmp_path, variables, 110)
        assert "✔ equal" in shown
        async with reached(folder) as platform:
            now = await platform.head()
            assert now.log_id != saved.log_id
            assert saved.position <= now.position
            names = [record.type for record in await platform.events(now.position)]
            assert names.count("DatasetRegistered") == 1, "what came after the backup is gone"
            await platform.control.dataset("goes on")
            assert ahead > saved.position
        assert (folder / "before-restore-1" / "postgres" / "data").is_dir()
    finally:
        await typed(f"tether down --data-dir {folder}", tmp_path, variables)


async def test_the_lines_for_a_postgres_of_your_own_bring_its_database_back_under_a_new_id(
    database: DatabaseUrls, postgres: SharedPostgres, tmp_path: Path
) -> None:
    dump, restore = commands(PAGE, "sh")
    await create_log(database)
    async with appender_on(database.eventlog) as appender:
        for _ in range(3):
            await appender.append(created("ws_1"))
    admin, name = database.admin.rsplit("/", 1)
    passwords = {f"{service.upper()}_PASSWORD": password(service) for service in SERVICES}
    variables = environment(ADMIN=admin, **passwords)
    variables["PATH"] = f"{wheel_programs()}:{variables['PATH']}"
    to = f"{name}_restored"
    try:
        await typed(dump.replace('/tether"', f'/{name}"'), tmp_path, variables)
        shown = await typed(
            restore.replace("tether_restored", to).replace("deploy/", f"{ROOT}/deploy/"), tmp_path, variables
        )
        before, after = await asyncpg.connect(database.eventlog), await asyncpg.connect(f"{admin}/{to}")
        try:
            rows = "select * from eventlog.events order by position"
            assert await after.fetch(rows) == await before.fetch(rows)
            ids = [await one.fetchval("select log_id::text from eventlog.log") for one in (before, after)]
            assert ids[0] != ids[1]
            assert ids[1] in shown
        finally:
            await before.close()
            await after.close()
        own = database.eventlog.replace(f"/{name}", f"/{to}")
        async with appender_on(own) as appender:
            assert (await appender.append(created("ws_1"))).position == 4, "as the service's own role"
        with pytest.raises(AssertionError, match="append-only"):
            await typed(f'psql --dbname="$ADMIN/{to}" --command="truncate eventlog.events"', tmp_path, variables)
    finally:
        await postgres.drop_database(to)
