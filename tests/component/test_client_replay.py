"""The Python client: two lines to a table, and a log without a hole or a repeat over a link that breaks."""

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from protos.eventlog.v1 import eventlog_pb2 as pb
from services.cli.errors import CliError, PlatformError
from services.client import connect
from services.client.errors import LogReplaced, NoAnswer
from services.client.log import Log
from services.eventlog import bootstrap
from tests.component.test_events_export import log_at, renew_log_id
from tests.support.filled_log import fill, numbered
from tests.support.histories import history
from tests.support.platform import DatabaseUrls
from tests.support.servers import OPERATOR_TOKEN, eventlog_settings, running


def a_log(seed: int, jobs: int) -> list[pb.EventRecord]:
    return numbered(history(random.Random(seed), jobs))


class Link:
    """A way to a server that can be cut in the middle of a response, and mended."""

    def __init__(self, target: str, budgets_bytes: Iterator[int]) -> None:
        self._host, _, port = target.rpartition(":")
        self._port = int(port)
        # Bytes from the server until a connection breaks, for one connection after the other.
        self._budgets_bytes = budgets_bytes
        self.breaks = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection(self._host, self._port)
        there = asyncio.create_task(self._pass(reader, to_server, lambda _: False))
        try:
            left = next(self._budgets_bytes)

            def broken(count: int) -> bool:
                nonlocal left
                left -= count
                return left < 0

            if await self._pass(from_server, writer, broken):
                self.breaks += 1
        finally:
            there.cancel()
            await asyncio.gather(there, return_exceptions=True)
            for end in (writer, to_server):
                end.transport.abort()

    @staticmethod
    async def _pass(source: asyncio.StreamReader, sink: asyncio.StreamWriter, broken: Callable[[int], bool]) -> bool:
        try:
            while data := await source.read(8192):
                if broken(len(data)):
                    return True
                sink.write(data)
                await sink.drain()
        except ConnectionError:
            pass
        return False


@asynccontextmanager
async def link_to(target: str, budgets_bytes: Iterator[int]) -> AsyncIterator[tuple[Link, str]]:
    link = Link(target, budgets_bytes)
    server = await asyncio.start_server(link.serve, "127.0.0.1", 0)
    try:
        yield link, f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def test_two_lines_read_a_table_of_typed_columns(
    database: DatabaseUrls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = a_log(1, jobs=50)
    await fill(database, known)
    async with running(bootstrap.serve, eventlog_settings(database.eventlog)) as address:
        for name, value in (("TETHER_SERVER", address), ("TETHER_TOKEN", OPERATOR_TOKEN)):
            monkeypatch.setenv(name, value)

        def read() -> None:
            table = connect().replay("JobStarted").to_table()
            assert table["position"].to_pylist() == [one.position for one in known if one.type == "JobStarted"]
            assert str(table.schema.field("started_at_ms").type) == "int64"

            both = connect(address, OPERATOR_TOKEN).replay(["JobKilled", "TokenRevoked"]).to_tables()
            assert both["JobKilled"].num_rows == sum(one.type == "JobKilled" for one in known)
            assert (both["TokenRevoked"].num_rows, "token_id" in both["TokenRevoked"].column_names) == (0, True)

            middle = known[len(known) // 2]
            job = connect().replay(job_id=middle.stream_id, to_position=middle.position)
            found = [position for batch in job for position in batch["position"].to_pylist()]
            assert sorted(found) == [
                one.position for one in known[: middle.position] if one.stream_id == middle.stream_id
            ]
            with pytest.raises(CliError, match="call to_tables"):
                connect().replay().to_table()
            with pytest.raises(CliError, match="'soon' is not a moment"):
                connect().replay(since="soon")
            with pytest.raises(PlatformError, match="JobAssigned"):
                connect().replay("JobExploded").to_table()

        await asyncio.to_thread(read)


async def test_since_and_until_bound_what_was_recorded(database: DatabaseUrls) -> None:
    from datetime import UTC, datetime

    known = a_log(2, jobs=50)
    await fill(database, known)
    stamps_us = sorted({one.recorded_at_us for one in known})
    since_us, until_us = stamps_us[len(stamps_us) // 3], stamps_us[2 * len(stamps_us) // 3]
    since, until = (datetime.fromtimestamp(us / 1_000_000, UTC) for us in (since_us, until_us))
    wanted = [one.position for one in known if since_us <= one.recorded_at_us < until_us]
    async with running(bootstrap.serve, eventlog_settings(database.eventlog)) as address:
        for given in ((since, until), (since.isoformat(), until.replace(tzinfo=None).isoformat())):

            def read(given: tuple[object, object] = given) -> list[int]:
                batches = log_at(address).replay(since=given[0], until=given[1])  # type: ignore[arg-type]
                return sorted(position for batch in batches for position in batch["position"].to_pylist())

            assert await asyncio.to_thread(read) == wanted


async def test_a_link_that_breaks_in_the_middle_of_responses_loses_and_repeats_nothing(database: DatabaseUrls) -> None:
    known = a_log(3, jobs=1500)
    await fill(database, known)
    # A page is more than a megabyte: the first connection brings none, each later one brings one or more.
    budgets_bytes = itertools.chain([700_000], itertools.repeat(1_400_000))
    async with (
        running(bootstrap.serve, eventlog_settings(database.eventlog)) as address,
        link_to(address, budgets_bytes) as (link, through),
    ):

        def read() -> list[int]:
            return [position for batch in log_at(through).replay() for position in batch["position"].to_pylist()]

        assert sorted(await asyncio.to_thread(read)) == list(range(1, len(known) + 1))
        assert link.breaks >= 2


async def test_a_platform_that_stays_away_is_waited_for_only_so_long(database: DatabaseUrls) -> None:
    await fill(database, a_log(4, jobs=5))
    async with running(bootstrap.serve, eventlog_settings(database.eventlog)) as address:
        log = log_at(address)
        replay = await asyncio.to_thread(log.replay)
    log_away = Log(log._platform, patience_s=0)
    away = type(replay)(log_away, replay.range, replay.wanted, replay.log_id)
    with pytest.raises(NoAnswer, match="cannot reach the platform"):
        await asyncio.to_thread(list, away)


async def test_a_log_that_was_restored_meanwhile_is_not_mixed_with_the_one_before(database: DatabaseUrls) -> None:
    await fill(database, a_log(5, jobs=5))
    settings = eventlog_settings(database.eventlog)
    async with running(bootstrap.serve, settings) as address:
        replay = await asyncio.to_thread(log_at(address).replay)
    await renew_log_id(database)
    async with running(bootstrap.serve, settings):
        with pytest.raises(LogReplaced):
            await asyncio.to_thread(list, replay)
