"""`tether events export` to Parquet: how fast, with how much memory, and how much it slows those who append."""

import asyncio
import itertools
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median

import uvloop

from services.rpc.process import spare_the_collector
from tests.bench.appends import append_paced, append_saturated
from tests.bench.commands import Cost, busy_processes, run_python
from tests.bench.ledger_log import ledger_log, measure_raw_reads
from tests.bench.process_cost import cpu_s, peak_bytes
from tests.bench.service import Service, service_process
from tests.support.bulk_log import TOKEN
from tests.support.platform import DatabaseUrls

_ROUNDS = 3
_QUIET_S = 4.0
# Offered evenly, one event a command: what 500 full lives of jobs a second write, with ten events each.
_PACED_PER_S = 5000
# What an export keeps busy: the command, the service, and PostgreSQL, on as many processors as there are.
_BUSY = 2
_MIB = 1 << 20

Report = Callable[[str, float], None]


def run(report: Report, folder: Path) -> None:
    """export_events_per_s and append_…_during_export_ratio: appends beside an export, to those without one."""
    # As every service process does at its start.
    spare_the_collector()
    with ledger_log(folder) as ledger:
        report("export_log_events", ledger.log.head)
        uvloop.run(_measure(report, ledger.database, ledger.log.head, folder))


async def _measure(report: Report, database: DatabaseUrls, head: int, folder: Path) -> None:
    await measure_raw_reads(report, database, head)
    async with service_process("eventlog", database) as eventlog:
        export = _Export(eventlog, head, folder)
        began, before_cpu_s = time.perf_counter(), cpu_s(eventlog.pid)
        cost = await export.run()
        report("export_events_per_s", head / (time.perf_counter() - began))
        report("export_cpu_s", cost.cpu_s)
        report("export_peak_mib", cost.peak_bytes / _MIB)
        report("export_server_cpu_s", cpu_s(eventlog.pid) - before_cpu_s)
        report("export_server_peak_mib", peak_bytes(eventlog.pid) / _MIB)
        await _measure_appends(report, database.scheduler, export)
        await _measure_paced_appends(report, database.scheduler, export)


class _Export:
    """Exports the same range as often as it is asked to, each time to a folder of its own."""

    def __init__(self, server: Service, head: int, folder: Path) -> None:
        self._server, self._head, self._folder = server, head, folder
        self._numbers = itertools.count()

    async def run(self) -> Cost:
        out = self._folder / f"export-{next(self._numbers)}"
        environment = {**os.environ, "TETHER_SERVER": self._server.address, "TETHER_TOKEN": TOKEN}
        arguments = ["export", "--format", "parquet", "--out", str(out), "--to", str(self._head)]
        return await run_python(["-m", "services.cli", "events", *arguments], environment)

    @asynccontextmanager
    async def running(self) -> AsyncIterator["asyncio.Task[Cost]"]:
        """In the background, until it ends by itself."""
        task = asyncio.create_task(self.run())
        try:
            yield task
            await task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def _measure_appends(report: Report, url: str, export: _Export) -> None:
    # In turn, so that a machine whose speed drifts drifts for all.
    quiet, during, busy = [], [], []
    for _ in range(_ROUNDS):
        quiet.append(await append_saturated(url, _after(_QUIET_S)))
        async with export.running() as exporting:
            during.append(await append_saturated(url, exporting.done))
        async with busy_processes(_BUSY):
            busy.append(await append_saturated(url, _after(_QUIET_S)))
    report("append_quiet_events_per_s", median(quiet))
    report("append_during_export_events_per_s", median(during))
    report("append_during_export_ratio", median(during) / median(quiet))
    report("append_during_busy_ratio", median(busy) / median(quiet))


async def _measure_paced_appends(report: Report, url: str, export: _Export) -> None:
    quiet_per_s, quiet_ms = await append_paced(url, _after(_QUIET_S), _PACED_PER_S)
    async with export.running() as exporting:
        during_per_s, during_ms = await append_paced(url, exporting.done, _PACED_PER_S)
    report("append_paced_during_export_ratio", during_per_s / quiet_per_s)
    for name, took_ms in (("quiet", quiet_ms), ("during_export", during_ms)):
        report(f"append_paced_{name}_p50_ms", median(took_ms))
        report(f"append_paced_{name}_p99_ms", took_ms[len(took_ms) * 99 // 100])


def _after(seconds: float) -> Callable[[], bool]:
    """Whether so much time has passed since now."""
    end = time.perf_counter() + seconds
    return lambda: time.perf_counter() >= end
