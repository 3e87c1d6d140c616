"""`tether events sql`: over an export or a copy of the log that follows it, with refusals in one sentence."""

import asyncio
import random
from pathlib import Path

from protos.eventlog.v1 import eventlog_pb2 as pb
from services.eventlog import bootstrap
from tests.component.test_events_export import cli, renew_log_id
from tests.support.filled_log import append_raw, fill, numbered
from tests.support.histories import history
from tests.support.platform import DatabaseUrls
from tests.support.servers import eventlog_settings, running

_COUNT = "select count(*) as n from events"


def a_log(seed: int, jobs: int) -> list[pb.EventRecord]:
    return numbered(history(random.Random(seed), jobs))


async def test_without_a_folder_a_copy_of_the_log_is_brought_up_to_date(database: DatabaseUrls, tmp_path: Path) -> None:
    known = a_log(1, jobs=20)
    half = len(known) // 2
    await fill(database, known[:half])
    settings = eventlog_settings(database.eventlog)
    # What earlier tokens have left.
    for number in range(5):
        (tmp_path / "home" / "exports" / f"of-earlier-token-{number}").mkdir(parents=True)
    async with running(bootstrap.serve, settings) as address:
        tether = cli(tmp_path / "home", address)
        assert (await tether("events", "sql", _COUNT, "--json")).json == [{"n": half}]
        await append_raw(database, known[half:])
        assert (await tether("events", "sql", _COUNT, "--json")).json == [{"n": len(known)}]
        kept = list((tmp_path / "home" / "exports").iterdir())
        assert len(kept) == 4, "a few of the others are kept"
        (copy,) = (one for one in kept if (one / "manifest.json").exists())
        assert copy.stat().st_mode & 0o077 == 0, "others on this machine cannot read it"
    await renew_log_id(database)
    async with running(bootstrap.serve, settings):
        assert (await tether("events", "sql", _COUNT, "--json")).json == [{"n": len(known)}], "copied anew"


async def test_the_command_lists_the_views_and_prints_rows_for_people_and_for_programs(
    database: DatabaseUrls, tmp_path: Path
) -> None:
    await fill(database, a_log(2, jobs=20))
    async with running(bootstrap.serve, eventlog_settings(database.eventlog)) as address:
        tether = cli(tmp_path / "home", address)
        await tether("events", "export", "--out", str(tmp_path / "out"))
        folder = ("--dir", str(tmp_path / "out"))
        nested = "select 1 as a, [1, 2] as b, '\\x01'::blob as c, null as d"
        listed, rows, wrong = await asyncio.gather(
            tether("events", "sql", *folder),
            tether("events", "sql", nested, *folder, "--format", "csv"),
            tether("events", "sql", "select nope from JobStarted", *folder),
        )
    assert "to_milliminutes" not in listed.out
    assert "started_at_ms BIGINT" in listed.out
    assert rows.out == 'a,b,c,d\n1,"[1, 2]",01,\n'
    assert 'Referenced column "nope" not found' in wrong.error
