"""`tether events export`: the whole log, once, whatever happens on the way, and without holding anybody up."""

import asyncio
import random
import signal
import sys
import threading
from pathlib import Path

import asyncpg
import pytest

from protos.eventlog.v1 import eventlog_pb2 as pb
from protos.events.v1 import workspace_pb2 as workspace
from services.cli.connection import Platform
from services.cli.events_export import watched
from services.cli.settings import load
from services.client import manifest as manifests
from services.client.errors import ExportDiffers, ExportRuns, LogReplaced
from services.client.export import Progress, export
from services.client.log import Log
from services.client.manifest import Selection
from services.eventlog import bootstrap
from services.eventlog.append import Append, StreamAppend
from services.eventlog.catalogue import EVENTS
from tests.support.bulk_log import TOKEN, BulkLog, write_bulk_log
from tests.support.cli import Cli, line_with
from tests.support.eventually import eventually
from tests.support.exported import positions, rows
from tests.support.filled_log import append_raw, eventlog_process, fill, numbered
from tests.support.histories import history, record
from tests.support.log import appender_on, create_log
from tests.support.platform import DatabaseUrls
from tests.support.servers import OPERATOR_TOKEN, eventlog_settings, running

# Exports a page a round, and stands still in the middle of the second one, until it is killed.
_EXPORTING = """
import sys, threading
from pathlib import Path
from services.cli.connection import Platform
from services.cli.settings import load
from services.client.export import export
from services.client.log import Log
from services.client.manifest import Selection, read
address, token, folder, format_ = sys.argv[1:]

def stand_still(told):
    if told.first <= read(Path(folder)).position < told.scanned:
        print("in the middle", flush=True)
        threading.Event().wait()

log = Log(Platform(load(address, None, False, {"TETHER_TOKEN": token})))
export(log, Path(folder), Selection(format_), tell=stand_still, round_events=1)
"""


def log_at(address: str, token: str = OPERATOR_TOKEN) -> Log:
    return Log(Platform(load(address, None, False, {"TETHER_TOKEN": token})), patience_s=20)


def a_log(seed: int, jobs: int) -> list[pb.EventRecord]:
    return numbered(history(random.Random(seed), jobs))


def cli(home: Path, address: str) -> Cli:
    return Cli(home, OPERATOR_TOKEN, dict.fromkeys(("scheduler", "quota", "metrics", "eventlog"), address))


async def test_every_format_holds_every_event_once_with_its_envelope_and_type(
    database: DatabaseUrls, tmp_path: Path
) -> None:
    known = a_log(1, jobs=60)
    await fill(database, known)
    async with running(bootstrap.serve, eventlog_settings(database.eventlog)) as address:
        tether = cli(tmp_path / "home", address)
        for format_ in ("parquet", "jsonl", "csv"):
            out = tmp_path / format_
            done = await tether("events", "export", "--out", str(out), "--format", format_)
            assert (done.code, done.err) == (0, ""), done.err
            assert f"{len(known):,} events" in done.out
            assert f"up to #{len(known):,} in" in done.out
            assert positions(out) == list(range(1, len(known) + 1))
            by_position = {one.position: one for one in known}
            for part in manifests.read(out).parts:  # type: ignore[union-attr]
                for row in rows(out / part.file):
                    one = by_position[int(row["position"])]
                    assert part.kind == "events" or part.kind == one.type
                    assert row.get("type", one.type) == one.type
                    for field in ("event_id", "workspace_id", "stream_kind", "stream_id", "actor", "correlation_id"):
                        assert row[field] == getattr(one, field)
                    attempt = getattr(EVENTS[one.type].FromString(one.payload.value), "attempt_id", None)
                    if attempt is not None:
                        assert row.get("payload", row)["attempt_id"] == attempt


async def test_a_choice_is_exported_as_it_was_chosen(database: DatabaseUrls, tmp_path: Path) -> None:
    known = a_log(2, jobs=60)
    await fill(database, known)
    middle_ms = known[len(known) // 2].recorded_at_us // 1000
    async with running(bootstrap.serve, eventlog_settings(database.eventlog)) as address:
        tether = cli(tmp_path / "home", address)
        at = f"{middle_ms // 1000}"
        since = await asyncio.create_subprocess_exec("date", "-u", "-d", f"@{at}", "+%Y-%m-%dT%H:%M:%SZ", stdout=-1)
        moment = (await since.communicate())[0].decode().strip()
        arguments = ["--since", moment, "--to", str(len(known) - 3), "--type", "JobStarted", "--type", "JobKilled"]
        done = await tether("events", "export", "--out", str(tmp_path / "some"), *arguments, "--json")
        wanted = [
            one.position
            for one in known[: len(known) - 3]
            if one.type in ("JobStarted", "JobKilled") and one.recorded_at_us >= int(at) * 1_000_000
        ]
        assert len(wanted) > 3
        assert positions(tmp_path / "some") == wanted
        assert sum(part["events"] for part in done.json["parts"]) == len(wanted)


@pytest.mark.parametrize("format_", ["parquet", pytest.param("jsonl", marks=pytest.mark.slow)])
async def test_an_export_that_is_killed_goes_on_without_a_hole_or_a_repeat(
    database: DatabaseUrls, tmp_path: Path, format_: str
) -> None:
    known = a_log(3, jobs=1200)
    await fill(database, known)
    out, reached = tmp_path / "out", list[int]()
    async with eventlog_process(database) as (address, _):
        for _ in range(2):
            arguments = (address, OPERATOR_TOKEN, str(out), format_)
            process = await asyncio.create_subprocess_exec(sys.executable, "-c", _EXPORTING, *arguments, stdout=-1)
            await line_with(process, "in the middle")
            process.kill()
            await process.wait()
            here = manifests.read(out)
            assert here is not None
            reached.append(here.position)
            named = [row["position"] for part in here.parts for row in rows(out / part.file)]
            assert sorted(named) == list(range(1, here.position + 1)), "what the manifest names is whole"
        assert 0 < reached[0] < reached[1] < len(known), "each went on where the last one was killed"
        # What a kill between renaming and noting leaves, and one in the middle of writing.
        suffix = "parquet" if format_ == "parquet" else "jsonl"
        (out / "events" / f"part-99999.{suffix}").write_bytes(b"torn")
        (out / ".partial").mkdir(exist_ok=True)
        (out / ".partial" / "JobStarted").write_bytes(b"torn")
        made = await asyncio.to_thread(export, log_at(address), out, Selection(format_))
    assert made.position == len(known)
    assert positions(out) == list(range(1, len(known) + 1))
    assert not (out / ".partial").exists()


async def test_an_export_goes_on_with_what_is_new_and_refuses_what_is_other(
    database: DatabaseUrls, tmp_path: Path
) -> None:
    known = a_log(4, jobs=30)
    half = len(known) // 2
    await fill(database, known[:half])
    out, settings = tmp_path / "out", eventlog_settings(database.eventlog)
    async with running(bootstrap.serve, settings) as address:
        log = log_at(address)

        def again(**other: object) -> manifests.Manifest:
            return export(log, out, Selection(**{"format": "parquet", **other}))  # type: ignore[arg-type]

        await asyncio.to_thread(again)
        assert positions(out) == list(range(1, half + 1))
        written = {file: file.stat().st_mtime_ns for file in (out / "events").rglob("part-*")}
        await asyncio.to_thread(again)
        await append_raw(database, known[half:])
        await asyncio.to_thread(again)
        assert positions(out) == list(range(1, len(known) + 1))
        assert {file: file.stat().st_mtime_ns for file in written} == written, "a part is never changed"

        for other, words in (
            ({"format": "csv"}, "format parquet, not format csv"),
            ({"types": ("JobKilled",)}, "types all, not types JobKilled"),
            ({"first": 7}, "first 1, not first 7"),
        ):
            with pytest.raises(ExportDiffers, match=words):
                await asyncio.to_thread(again, **other)
        with pytest.raises(ExportDiffers, match="beyond #3"):
            await asyncio.to_thread(export, log, out, Selection("parquet"), 3)
        with pytest.raises(ExportDiffers, match="holds other things"):
            await asyncio.to_thread(export, log, tmp_path, Selection("parquet"))
    await renew_log_id(database)
    async with running(bootstrap.serve, settings):
        with pytest.raises(LogReplaced, match="into another folder"):
            await asyncio.to_thread(again)


async def renew_log_id(database: DatabaseUrls) -> None:
    """As a restore does."""
    connection = await asyncpg.connect(database.admin)
    await connection.execute("update eventlog.log set log_id = gen_random_uuid()")
    await connection.close()


async def test_two_exports_never_write_to_one_folder(database: DatabaseUrls, tmp_path: Path) -> None:
    await fill(database, a_log(5, jobs=10))
    async with running(bootstrap.serve, eventlog_settings(database.eventlog)) as address:
        log, out = log_at(address), tmp_path / "out"
        refused: list[Exception] = []

        def look(_: Progress) -> None:
            if not refused:
                try:
                    export(log, out, Selection("parquet"))
                except ExportRuns as error:
                    refused.append(error)

        await asyncio.to_thread(export, log, out, Selection("parquet"), 0, look)
        assert "another export writes to" in str(refused[0])


async def test_ctrl_c_ends_an_export_with_all_that_was_read_and_the_same_command_goes_on(
    database: DatabaseUrls, tmp_path: Path
) -> None:
    known = a_log(6, jobs=700)
    await fill(database, known)
    out = tmp_path / "out"
    async with eventlog_process(database) as (address, _):
        with watched() as watch:

            def tell(told: Progress) -> None:
                if told.events:
                    signal.raise_signal(signal.SIGINT)

            # In this thread, where signals arrive; the server has a process of its own.
            stopped = export(log_at(address), out, Selection("csv"), 0, tell, watch.stopping)
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
        assert 0 < stopped.position < len(known)
        assert positions(out) == list(range(1, stopped.position + 1))
        export(log_at(address), out, Selection("csv"))
    assert positions(out) == list(range(1, len(known) + 1))


async def test_an_export_whose_reader_stands_still_holds_nothing_in_the_database(
    database: DatabaseUrls, tmp_path: Path
) -> None:
    large = [record(1, workspace.WorkspaceCreated(name="x" * 20_000), ("workspace", "ws_1")) for _ in range(3000)]
    await fill(database, numbered(large))
    reading, go_on = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def stand_still(told: Progress) -> None:
        if told.events and not go_on.is_set():
            loop.call_soon_threadsafe(reading.set)
            asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(60)

    async with running(bootstrap.serve, eventlog_settings(database.eventlog)) as address:
        exporting = asyncio.create_task(
            asyncio.to_thread(export, log_at(address), tmp_path / "out", Selection("jsonl"), 0, stand_still)
        )
        await reading.wait()
        connection = await asyncpg.connect(database.admin)

        async def nothing_held() -> bool:
            held: int = await connection.fetchval(
                "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid() "
                "and (xact_start is not null or backend_xmin is not null) and application_name like '%eventlog%'"
            )
            return held == 0

        await eventually(nothing_held, what="a database without a transaction of the export")
        await connection.close()
        async with appender_on(database.scheduler) as appender:
            stream = StreamAppend("workspace", "ws_9", None, [workspace.WorkspaceCreated(name="new")])
            async with asyncio.timeout(10):
                appended = await appender.append(Append("ws_9", [stream], actor="service:test"))
        assert appended.position == len(large) + 1
        go_on.set()
        made = await exporting
    assert made.position == len(large), "an export ends at the head as it was at its start"


async def test_what_the_command_cannot_do_is_told_in_one_sentence(database: DatabaseUrls, tmp_path: Path) -> None:
    await fill(database, a_log(7, jobs=2))
    async with running(bootstrap.serve, eventlog_settings(database.eventlog)) as address:
        tether, out = cli(tmp_path / "home", address), str(tmp_path / "out")
        told = {
            ("--format", "xls"): "--format 'xls' is none of parquet, jsonl, csv",
            ("--from", "9", "--to", "3"): "--to 3 is before --from 9",
            ("--since", "2026-11-02", "--until", "2026-11-01"): "--until 2026-11-01 is not after --since",
            ("--type", "JobExploded"): "--type is 'JobExploded'",
        }
        results = await asyncio.gather(*(tether("events", "export", "--out", out, *options) for options in told))
        for result, words in zip(results, told.values(), strict=True):
            assert words in result.error


async def test_a_range_that_holds_nothing_is_told_and_is_no_error(database: DatabaseUrls, tmp_path: Path) -> None:
    known = a_log(8, jobs=3)
    await fill(database, known)
    async with running(bootstrap.serve, eventlog_settings(database.eventlog)) as address:
        tether = cli(tmp_path / "home", address)
        later, exported = await asyncio.gather(
            tether("events", "--since", "9998-01-01", "--no-follow"),
            tether("events", "export", "--out", str(tmp_path / "out"), "--since", "9998-01-01"),
        )
    assert (later.code, later.out, later.err) == (0, "", "No event in this range fits.\n")
    assert exported.out.startswith(f"0 events of 0 types up to #{len(known)} in ")


@pytest.mark.slow
async def test_an_export_of_a_log_four_times_as_long_takes_no_more_memory(
    database: DatabaseUrls, tmp_path: Path
) -> None:
    log = await write_bulk_log_of(database, 1_200_000)
    async with eventlog_process(database) as (address, _):
        peaks_mib = []
        for last in (log.head // 4, log.head):
            arguments = ("--out", str(tmp_path / str(last)), "--to", str(last))
            tether = Cli(
                tmp_path / "home", TOKEN, dict.fromkeys(("scheduler", "quota", "metrics", "eventlog"), address)
            )
            process = await tether.start("events", "export", *arguments)
            peaks_mib.append(await asyncio.to_thread(peak_mib, process.pid))
            await process.wait()
            assert manifests.read(tmp_path / str(last)).events == last  # type: ignore[union-attr]
    assert peaks_mib[1] < peaks_mib[0] + 60, f"{peaks_mib} MiB"


async def write_bulk_log_of(database: DatabaseUrls, events: int) -> BulkLog:
    await create_log(database)
    return await write_bulk_log(database.eventlog, events, 1_794_744_000_000)


def peak_mib(pid: int) -> float:
    """The most memory that a process had at once; blocks until it has ended."""
    most = 0
    status = Path(f"/proc/{pid}/status")
    while True:
        try:
            found = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
        except OSError:
            found = []
        if not found:
            return most / 1024
        most = int(found[0].split()[1])
        threading.Event().wait(0.05)
