"""Webhooks: in order, at least once, whoever fails."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import pytest

from protos.eventlog.v1 import eventlog_pb2 as pb
from protos.eventlog.v1.eventlog_pb2_grpc import WebhookServiceStub
from protos.events.v1 import job_pb2 as job
from protos.events.v1.workspace_pb2 import Role, TokenCreated
from services.clock import PlatformClock
from services.eventlog import bootstrap as eventlog
from services.eventlog import webhook_delivery, webhook_sender
from services.eventlog.append import Append, StreamAppend
from services.eventlog.appender import Appender
from services.eventlog.bus import Bus
from services.eventlog.leadership import lead
from services.eventlog.subscribe import Subscription
from services.eventlog.webhook_delivery import Deliveries
from services.eventlog.webhook_message import signature
from services.eventlog.webhook_sender import http_sender
from services.eventlog.webhook_store import set_hook
from services.ids import sha256
from services.postgres import Pool
from services.rpc.shell import settle
from tests.support.cli import Cli
from tests.support.eventually import eventually
from tests.support.log import appender_on, create_log, pool_on
from tests.support.platform import DatabaseUrls
from tests.support.receiver import receiver, serving
from tests.support.servers import bearer, eventlog_settings, running

SECRET = "wh_test"
FINISHED, FAILED = pb.WEBHOOK_KIND_FINISHED, pb.WEBHOOK_KIND_FAILED
TOLD = (job.JobFinished(steps=3), job.JobFailed(message="no"), job.JobUnreachable())


class World:
    """A log, the tables, and events of workspaces."""

    def __init__(self, database: DatabaseUrls, pool: Pool, appender: Appender) -> None:
        self.database, self.pool, self._appender = database, pool, appender

    async def happens(self, *events: object, workspace: str = "ws_1") -> int:
        """Append events of one job; the position of the last."""
        stream = StreamAppend("job", f"jb_{workspace}", None, events)  # type: ignore[arg-type]
        return (await self._appender.append(Append(workspace, [stream], "test"))).position

    async def hook(self, url: str, *kinds: int, workspace: str = "ws_1") -> None:
        async with self.pool.acquire() as connection:
            await set_hook(connection, workspace, url, kinds, SECRET)

    async def row(self, workspace: str = "ws_1") -> asyncpg.Record:
        row = await self.pool.fetchrow("select * from eventlog.webhooks where workspace_id = $1", workspace)
        assert row is not None
        return row

    async def end_leader(self) -> None:
        """What the death of the process does to its session."""
        admin = await asyncpg.connect(self.database.admin)
        ended = await admin.fetch(
            "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'test.webhooks' "
            "and pid in (select pid from pg_locks where locktype = 'advisory')"
        )
        await admin.close()
        assert len(ended) == 1


@pytest.fixture(autouse=True)
def _looked_for_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that a test writes by itself are seen soon."""
    monkeypatch.setattr(webhook_delivery, "LOOK_S", 0.1)


@pytest.fixture
async def world(database: DatabaseUrls) -> AsyncIterator[World]:
    await create_log(database)
    async with pool_on(database.eventlog) as pool, appender_on(database.eventlog) as appender:
        yield World(database, pool, appender)


@asynccontextmanager
async def delivering(world: World) -> AsyncIterator[Deliveries]:
    """One replica; what fails is tried again almost at once."""
    async with http_sender(allow_private=True) as sender:
        deliveries = Deliveries(sender, PlatformClock(), backoff=lambda failures: 0.01)

        async def follow() -> None:
            async for records in Subscription(world.pool, Bus("", "test"), 0).batches():
                await deliveries.told(records)

        tasks = [
            asyncio.create_task(lead(world.database.eventlog, "test.webhooks", deliveries.lead)),
            asyncio.create_task(follow()),
        ]
        try:
            yield deliveries
        finally:
            for task in tasks:
                await settle(task)


async def test_what_is_asked_for_is_told_in_order_and_signed_and_nothing_else(world: World) -> None:
    async with receiver() as ours, receiver() as theirs, delivering(world):
        await world.happens(job.JobFinished())
        await world.hook(ours.url, pb.WEBHOOK_KIND_FINISHED, pb.WEBHOOK_KIND_UNREACHABLE)
        await world.hook(theirs.url, workspace="ws_2")
        await world.happens(job.JobStarted(), *TOLD, job.JobReachable())
        await world.happens(job.JobKilled(), workspace="ws_2")
        last = await world.happens(job.JobFinished(steps=4))
        await ours.has(3, 5, 6, 8)
        await theirs.has(7)
        first = ours.taken[0]
        assert first.told["type"] == "JobFinished"
        assert first.told["kind"] == "finished"
        assert first.told["payload"] == {"steps": "3"}
        assert first.told["log_id"] == await world.pool.fetchval("select log_id::text from eventlog.log")
        assert first.headers["Tether-Event-Id"] == first.told["event_id"]
        signed = signature(SECRET, first.headers["Tether-Timestamp"], first.body)
        assert first.headers["Tether-Signature"] == f"v1={signed}"

        async def noted() -> bool:
            delivered: int = (await world.row())["delivered_position"]
            return delivered == last

        await eventually(noted, 10, "the durable position")


async def test_whatever_the_receiver_does_it_gets_everything_in_order_once_it_is_well(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook_sender, "TIMEOUT_S", 0.3)
    async with receiver() as ours:
        url = ours.url
    async with delivering(world):
        await world.hook(url)
        await world.happens(*TOLD)

        async def refused() -> bool:
            row = await world.row()
            refused_twice: bool = row["failures_in_a_row"] >= 2
            return refused_twice and row["last_failure"] == "nothing listens there (connection refused)"

        await eventually(refused, 10, "refused connections")
        ours.answers = [500, 302, 0]
        async with serving(ours):
            await ours.has(1, 1, 1, 1, 2, 3)

            async def well() -> bool:
                row = await world.row()
                return (row["failures_in_a_row"], row["last_failure"], row["next_try_at"]) == (0, "", None)

            await eventually(well, 10, "a clean state")
    assert len({one.headers["Tether-Event-Id"] for one in ours.taken[:4]}) == 1


async def test_a_receiver_that_hangs_delays_no_other(world: World) -> None:
    async with receiver() as hanging, receiver() as ours, delivering(world):
        hanging.answers = [0]
        await world.hook(hanging.url)
        await world.hook(ours.url, workspace="ws_2")
        await world.happens(*TOLD)
        await eventually(lambda: hanging.taken, 10, "a request that hangs")
        await world.happens(*TOLD, workspace="ws_2")
        await ours.has(4, 5, 6)
        assert len(hanging.taken) == 1


async def test_the_next_replica_goes_on_where_the_dead_one_was(world: World) -> None:
    """Only what was under way when it died may come twice."""
    async with receiver() as ours, delivering(world), delivering(world):
        await world.hook(ours.url)
        await world.happens(*TOLD)
        await ours.has(1, 2, 3)
        ours.answers = [200, 0]
        await world.happens(*TOLD)
        await ours.has(1, 2, 3, 4, 5)
        await world.end_leader()
        await ours.has(1, 2, 3, 4, 5, 5, 6)


async def test_a_webhook_that_is_changed_goes_on_elsewhere_at_once(world: World) -> None:
    async with receiver() as old, receiver() as new, delivering(world) as deliveries:
        old.answers = [0]
        await world.hook(old.url)
        await world.happens(*TOLD)
        await eventually(lambda: old.taken, 10, "a request that hangs")
        await world.hook(new.url)
        deliveries.changed()
        await new.has(1, 2, 3)
        assert old.positions == [1]


async def test_after_a_log_that_became_shorter_new_events_are_told(world: World) -> None:
    async with receiver() as ours, receiver() as other:
        await world.hook(ours.url)
        await world.pool.execute("update eventlog.webhooks set delivered_position = 1000")
        await world.hook(other.url, workspace="ws_2")
        await world.happens(job.JobFinished(), workspace="ws_2")
        async with delivering(world):
            # Both were taken up in the same look.
            await other.has(1)
            await world.happens(*TOLD)
            await ours.has(2, 3, 4)


@asynccontextmanager
async def served(world: World, allow_private: bool = True) -> AsyncIterator[tuple[str, Any]]:
    settings = eventlog_settings(world.database.eventlog).model_copy(update={"webhook_allow_private": allow_private})
    for role in ("admin", "analyst", "member"):
        token = TokenCreated(token_id=f"tok_{role}", role=Role.Value(f"ROLE_{role.upper()}"), token_sha256=sha256(role))
        await world.happens(token)
    async with running(eventlog.serve, settings) as address, grpc.aio.insecure_channel(address) as channel:
        yield address, WebhookServiceStub(channel)


async def test_an_admin_sets_sees_replays_and_removes_it_and_the_secret_is_shown_once(world: World) -> None:
    admin, analyst = bearer("admin"), bearer("analyst")
    async with receiver() as ours, served(world) as (_, hooks):
        request = pb.SetWebhookRequest(request_id=str(uuid.uuid4()), url=ours.url)
        first = await hooks.SetWebhook(request, metadata=admin)
        again = await hooks.SetWebhook(request, metadata=admin)
        assert len(first.secret) == 46
        assert first.secret.startswith("wh_")
        assert (again.secret, again.secret_withheld) == ("", True)
        begun = first.webhook.delivered_position
        last = await world.happens(*TOLD)
        await ours.has(*range(begun + 1, last + 1))
        signed = signature(first.secret, ours.taken[0].headers["Tether-Timestamp"], ours.taken[0].body)
        assert ours.taken[0].headers["Tether-Signature"] == f"v1={signed}"

        await hooks.ReplayWebhook(pb.ReplayWebhookRequest(from_position=last - 1), metadata=admin)
        await ours.has(*range(begun + 1, last + 1), last - 1, last)
        changed = await hooks.SetWebhook(
            pb.SetWebhookRequest(url=ours.url, kinds=[FAILED, FINISHED, FAILED]), metadata=admin
        )
        assert (changed.secret, list(changed.webhook.kinds)) == ("", [FINISHED, FAILED])
        renewed = await hooks.SetWebhook(pb.SetWebhookRequest(url=ours.url, new_secret=True), metadata=admin)
        assert renewed.secret not in ("", first.secret)

        seen = (await hooks.GetWebhook(pb.GetWebhookRequest(), metadata=analyst)).webhook
        assert (seen.url, seen.failures_in_a_row) == (ours.url, 0)
        await hooks.RemoveWebhook(pb.RemoveWebhookRequest(), metadata=admin)
        assert not (await hooks.GetWebhook(pb.GetWebhookRequest(), metadata=admin)).HasField("webhook")
        stored = await world.pool.fetch("select response from eventlog.requests")
        assert not [row for row in stored if first.secret.encode() in row["response"]]


async def test_what_must_not_be_is_refused_with_a_sentence(world: World) -> None:
    async with served(world, allow_private=False) as (_, hooks):

        async def refusal(call: Any) -> tuple[grpc.StatusCode, str]:
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await call
            return error.value.code(), error.value.details() or ""

        for role in ("analyst", "member"):
            code, _ = await refusal(hooks.SetWebhook(pb.SetWebhookRequest(), metadata=bearer(role)))
            assert code is grpc.StatusCode.PERMISSION_DENIED
        admin = bearer("admin")
        private = pb.SetWebhookRequest(url="http://127.0.0.1:80/")
        code, said = await refusal(hooks.SetWebhook(private, metadata=admin))
        assert (code, "it is not public" in said) == (grpc.StatusCode.INVALID_ARGUMENT, True)
        code, said = await refusal(hooks.ReplayWebhook(pb.ReplayWebhookRequest(from_position=1), metadata=admin))
        assert (code, "tether webhook set URL" in said) == (grpc.StatusCode.NOT_FOUND, True)
        await hooks.SetWebhook(pb.SetWebhookRequest(url="http://localhost:9/"), metadata=admin)
        beyond = pb.ReplayWebhookRequest(from_position=100)
        code, said = await refusal(hooks.ReplayWebhook(beyond, metadata=admin))
        assert (code, "the log has the positions 1 to 3" in said) == (grpc.StatusCode.INVALID_ARGUMENT, True)
        await world.happens(*TOLD)

        async def looked_up() -> bool:
            seen = (await hooks.GetWebhook(pb.GetWebhookRequest(), metadata=admin)).webhook
            return "localhost is " in seen.last_failure and "it is not public" in seen.last_failure

        await eventually(looked_up, 10, "the refusal of a name that leads here")


async def test_the_command_shows_how_far_it_is_and_why_it_stands_still(world: World, tmp_path: Path) -> None:
    async with receiver() as ours, served(world) as (address, _):
        endpoints = dict.fromkeys(("scheduler", "quota", "metrics", "eventlog"), address)
        tether = Cli(tmp_path, "admin", endpoints)
        assert "There is no webhook. Set one: tether webhook set" in (await tether("webhook", "show")).out
        ours.answers = [503] * 1000
        done = await tether("webhook", "set", ours.url, "--kind", "failed", "--kind", "finished")
        assert (done.code, done.out.strip()[:3]) == (0, "wh_")
        await world.happens(*TOLD)
        await eventually(lambda: len(ours.taken) > 1, 10, "failures")
        shown = (await tether("webhook", "show")).out
        assert "finished, failed" in shown
        assert "in a row: the receiver answered 503; " in shown
        ours.answers = []
        assert (await tether("webhook", "replay", "--from", "4")).code == 0
        await eventually(lambda: ours.positions[-2:] == [4, 5], 10, "both events")
        seen = (await tether("webhook", "show", "--json")).json["webhook"]
        assert (seen["delivered_position"], seen["failures_in_a_row"], seen["last_failure"]) == ("6", 0, "")
        assert (await tether("webhook", "remove", "--yes")).out == "The webhook is removed.\n"
        assert "tether webhook set URL" in (await tether("webhook", "remove", "--yes")).error
