"""Last contacts outlive the scheduler process that had them."""

import grpc

from protos.events.v1.runner_pb2 import RunnerDisconnected
from protos.scheduler.v1.session_pb2 import ConnectRequest, Welcome
from services.clock import PlatformClock
from services.eventlog.catalogue import payload_of
from services.eventlog.read import read_stream
from services.rpc.credentials import Principal
from services.scheduler import bootstrap as scheduler
from services.scheduler.contacts import FLUSH_INTERVAL_MS, Contact, Contacts, last_contact_ms
from services.scheduler.domain import stream
from services.scheduler.sessions import Sessions
from services.scheduler.store import Store
from tests.support import given
from tests.support.box import hello
from tests.support.control import Control, control_plane
from tests.support.eventually import eventually
from tests.support.given import T0
from tests.support.log import create_log, pool_on
from tests.support.platform import DatabaseUrls
from tests.support.servers import running, scheduler_settings

LEASE_MS = 15_000
BUSY = given.runner(given.connected(), given.online(), given.occupied("at_1"))
LATER_MS = T0 + 3_600_000


def heard_last(contact: Contact | None, lease_ended_ms: int | None, now_ms: int = LATER_MS) -> int:
    return last_contact_ms(BUSY, contact, lease_ended_ms, LEASE_MS, now_ms)


def test_a_gone_process_heard_its_boxes_last_when_its_lease_ended() -> None:
    assert heard_last(None, T0 + 9000) == T0 + 9000
    assert heard_last(Contact("at_1", T0 + 5000), T0 + 9000) == T0 + 9000
    assert heard_last(None, T0 - 5000) == T0, "it has connected since"


def test_without_its_lease_a_written_contact_bounds_it_and_without_both_nothing_does() -> None:
    bound_ms = T0 + 5000 + FLUSH_INTERVAL_MS + LEASE_MS
    assert heard_last(Contact("at_1", T0 + 5000), None) == bound_ms
    assert heard_last(Contact("at_1", T0 + 5000), None, now_ms=T0 + 6000) == T0 + 6000
    assert heard_last(Contact("at_0", T0 + 5000), None) == LATER_MS, "it says nothing about this attempt"
    assert heard_last(None, None) == LATER_MS


async def test_contacts_of_occupied_runners_are_written_at_once_and_never_go_back(database: DatabaseUrls) -> None:
    async with control_plane(database) as control, pool_on(database.scheduler) as pool:
        await control.dataset()
        busy_id, box = await control.box()
        idle_id, other = await control.box("idle")
        await box.connect()
        await other.connect(hello(installation_id="i-2"))
        await control.submit()
        held = await box.assignment()
        clock = PlatformClock()
        sessions = Sessions(clock)
        contacts = Contacts(pool, Store(pool), sessions, clock)
        assert await contacts.flush() == 0
        for runner_id in (busy_id, idle_id):
            session = sessions.open(Principal(f"runner:{runner_id}", control.workspace_id, "runner", b""))
            sessions.feed(session, stream.Heard(ConnectRequest(hello=hello()), leased=True))
            sessions.feed(session, stream.Connected(Welcome(epoch=2), leased=True, newest=True))
        assert await contacts.flush() == 1, "only the one that holds a training"
        written = await contacts.of([busy_id, idle_id])
        assert written == {busy_id: Contact(held.attempt_id, sessions.heard_at_ms(busy_id))}
        await pool.execute("update scheduler.contacts set heard_at_ms = heard_at_ms + 60000")
        later = await contacts.of([busy_id])
        assert await contacts.flush() == 1
        assert await contacts.of([busy_id]) == later


async def test_a_restarted_scheduler_counts_from_what_was_written_and_shows_it(database: DatabaseUrls) -> None:
    await create_log(database)
    settings = scheduler_settings(database.scheduler)
    async with pool_on(database.scheduler) as pool, grpc.aio.insecure_channel(settings.listen) as channel:
        control = Control(channel, "")
        async with running(scheduler.serve, settings):
            control.token = (await control.create_workspace("test")).secret
            await control.dataset()
            runner_id, box = await control.box()
            heard_ms = (await box.connect()).platform_at_ms
            await control.submit()
            held = await box.assignment()
        await pool.execute("delete from scheduler.replicas")
        written_ms = heard_ms + 1
        await pool.execute("insert into scheduler.contacts values ($1, $2, $3)", runner_id, held.attempt_id, written_ms)
        async with running(scheduler.serve, settings):
            assert (await control.runner()).last_contact_at_ms >= written_ms

            async def ended() -> RunnerDisconnected | None:
                events = [payload_of(record) for record in await read_stream(pool, "runner", runner_id)]
                return next((event for event in events if isinstance(event, RunnerDisconnected)), None)

            told = await eventually(ended)
            assert told is not None
            assert written_ms <= told.last_contact_at_ms <= written_ms + FLUSH_INTERVAL_MS + settings.lease_ms
