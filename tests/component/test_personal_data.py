"""What names a person stays out of the log, and can be erased."""

import json
import shutil
from pathlib import Path

import asyncpg
import grpc
import pytest

from protos.events.v1.workspace_pb2 import Role, TokenCreated, WorkspaceCreated
from protos.scheduler.v1 import access_pb2 as pb
from protos.scheduler.v1.session_pb2 import BoxMoment, Ended, Outcome, Started
from services.eventlog.append import Append, StreamAppend
from services.ids import sha256
from services.migrations import migrate
from services.postgres import Pool
from services.scheduler import bootstrap as scheduler
from services.scheduler.domain.token import Token
from services.scheduler.domain.workspace import Workspace
from services.scheduler.serde import dump, load
from tests.support.cli import served
from tests.support.control import Control
from tests.support.log import appender_on, create_log, pool_on
from tests.support.platform import DatabaseUrls
from tests.support.servers import bearer, running, scheduler_settings

NAMES = ("Ada Lovelace's laptop", "Grace Hopper (phone)")


async def tables_with(pool: Pool, text: str) -> set[str]:
    """Tables of all services in which the text stands, in words or in bytes."""
    tables = await pool.fetch(
        "select format('%I.%I', schemaname, tablename) as name from pg_tables "
        "where schemaname in ('eventlog', 'scheduler', 'quota', 'metrics')"
    )
    found = set()
    for table in tables:
        there = (
            f"select exists (select from {table['name']} t where strpos(t::text, $1) > 0 or strpos(t::text, $2) > 0)"
        )
        if await pool.fetchval(there, text, text.encode().hex()):
            found.add(table["name"])
    return found


async def make_token(control: Control, name: str) -> pb.CreateTokenResponse:
    request = pb.CreateTokenRequest(request_id=sha256(name).hex(), name=name, role=Role.ROLE_MEMBER)
    return await control.access.CreateToken(request, metadata=control.auth)


async def a_history(control: Control, person: str) -> None:
    """Something of everything that a person does: events of every stream, caused by his token."""
    owner, control.token = control.token, person
    await control.dataset()
    control.token = owner
    _, box = await control.box()
    await box.connect()
    control.token = person
    await control.submit()
    at, assignment = BoxMoment(anchor_at_ms=1), await box.assignment()
    await box.report(assignment, 1, started=Started(at=at))
    await box.report(assignment, 2, ended=Ended(outcome=Outcome.OUTCOME_FINISHED, started_at=at, ended_at=at))
    box.drop()
    control.token = owner


async def test_a_persons_name_is_in_one_table_and_in_no_event(database: DatabaseUrls, tmp_path: Path) -> None:
    async with served(database, tmp_path) as (control, tether), pool_on(database.admin) as pool:
        made = [await make_token(control, name) for name in NAMES]
        assert [one.token.name for one in made] == list(NAMES)
        await a_history(control, made[0].secret)
        by_person = "select count(*) from eventlog.events where actor = $1"
        assert await pool.fetchval(by_person, f"token:{made[0].token.token_id}") >= 2
        for name in NAMES:
            assert await tables_with(pool, name) == {"scheduler.token_names"}
        assert (await make_token(control, NAMES[0])).token.name == NAMES[0], "a repeat is answered as before"

        token_id = made[0].token.token_id
        done = await tether("tokens", "erase-name", token_id)
        assert (done.code, done.out) == (0, f"The name of {token_id} is erased; backups made before still hold it.\n")
        assert await tables_with(pool, NAMES[0]) == set()
        assert await tables_with(pool, NAMES[1]) == {"scheduler.token_names"}
        listed = (await tether("tokens", "list")).out
        assert f"{token_id}  erased" in " ".join(listed.split("\n")).replace("   ", "  ")
        assert NAMES[1] in listed
        who = await control.access.WhoAmI(pb.WhoAmIRequest(), metadata=bearer(made[0].secret))
        assert who.subject_id == token_id, "it works on"
        assert "there is no token 'tok_none'" in (await tether("tokens", "erase-name", "tok_none")).error


async def test_a_name_that_an_older_version_wrote_into_the_log_is_shown_until_it_is_erased(
    database: DatabaseUrls,
) -> None:
    await create_log(database)
    admin = TokenCreated(token_id="tok_a", name=NAMES[0], role=Role.ROLE_ADMIN, token_sha256=sha256("tt_a"))
    other = TokenCreated(token_id="tok_b", name=NAMES[1], role=Role.ROLE_VIEWER, token_sha256=sha256("tt_b"))
    async with appender_on(database.eventlog) as appender:
        events = [WorkspaceCreated(name="w"), admin, other]
        await appender.append(Append("ws_old", [StreamAppend("workspace", "ws_old", 0, events)], "operator"))
    settings = scheduler_settings(database.scheduler)

    async def names() -> list[str]:
        listed = await control.access.ListTokens(pb.ListTokensRequest(), metadata=control.auth)
        return [token.name for token in listed.tokens]

    async with pool_on(database.admin) as pool, grpc.aio.insecure_channel(settings.listen) as channel:
        control = Control(channel, "")
        control.token = "tt_a"
        async with running(scheduler.serve, settings):
            assert await names() == list(NAMES)
            await control.access.EraseTokenName(pb.EraseTokenNameRequest(token_id="tok_b"), metadata=control.auth)
            assert await names() == [NAMES[0], ""]
        async with running(scheduler.serve, settings):
            assert await names() == [NAMES[0], ""], "it is not taken over from the event again"
            await control.dataset()
        assert await tables_with(pool, NAMES[1]) == {"eventlog.events", "eventlog.events_000000"}


@pytest.mark.parametrize("name", ["", " space", "x" * 101])
async def test_a_name_is_still_checked(database: DatabaseUrls, tmp_path: Path, name: str) -> None:
    async with served(database, tmp_path) as (control, _):
        with pytest.raises(grpc.aio.AioRpcError, match="name is"):
            await make_token(control, name)


async def test_an_upgrade_takes_the_names_out_of_the_read_model(database: DatabaseUrls, tmp_path: Path) -> None:
    await create_log(database)
    before = tmp_path / "before"
    before.mkdir()
    for file in sorted(scheduler.MIGRATIONS.glob("*.sql"))[:3]:
        shutil.copy(file, before)
    now = Workspace("ws_1", 3, "w", tokens={"tok_a": Token("tok_a", Role.ROLE_ADMIN, 1, 0, revoked=True)})
    old = json.loads(dump(now))
    old["tokens"]["tok_a"]["name"] = NAMES[0]
    connection = await asyncpg.connect(database.scheduler)
    try:
        await migrate(connection, "scheduler", before)
        await connection.execute(
            "insert into scheduler.workspaces (workspace_id, name, version, state) values ('ws_1', 'w', 3, $1)",
            json.dumps(old),
        )
        await migrate(connection, "scheduler", scheduler.MIGRATIONS)
        text: str = await connection.fetchval("select state from scheduler.workspaces")
    finally:
        await connection.close()
    assert NAMES[0] not in text
    assert load(text, Workspace) == now
