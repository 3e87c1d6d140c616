"""The life of a service process: logging, signals, one sentence when it cannot start."""

import asyncio
import gc
import logging
import resource
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import structlog
import uvloop

from services.eventlog.subscribe import LogReplaced
from services.rpc.settings import Settings, StartRefused, load

_log = structlog.get_logger()


def main(program: str, model: type[Settings], serve: Callable[[Settings, asyncio.Event], Awaitable[None]]) -> None:
    """Run `serve` until SIGTERM or SIGINT sets the event it is given; it then stops by itself."""
    try:
        settings = load(model, program)
        _configure_logging(program)
        spare_the_collector()
        open_as_many_files_as_permitted()
        uvloop.run(_until_signalled(serve, settings))
    except StartRefused as error:
        print(f"tether {program}: {error}", file=sys.stderr)
        sys.exit(2)
    except LogReplaced as error:
        # Started again by its supervisor, it reads the log that is there.
        _log.error("starting over", reason=str(error))
        sys.exit(1)


def spare_the_collector() -> None:
    """What the imports have made lives as long as the process: take it out of the garbage collector's walks.

    Together with rarer young collections this is worth a fifth of the throughput of a process that makes many small
    objects, as the appender does.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 100)


def open_as_many_files_as_permitted() -> None:
    """Each box holds a connection, and many systems permit 1,024 open files until a process asks for more."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def _until_signalled(serve: Callable[[Settings, asyncio.Event], Awaitable[None]], settings: Settings) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    await serve(settings, stopping)


def _configure_logging(program: str) -> None:
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
    )
    structlog.contextvars.bind_contextvars(service=program)


async def run_until(stopping: asyncio.Event, *loops: Coroutine[Any, Any, None]) -> None:
    """Run endless loops until `stopping` is set. One that fails ends the process: its supervisor restarts it."""
    tasks = [asyncio.create_task(loop) for loop in loops]
    stop = asyncio.create_task(stopping.wait())
    try:
        done, _ = await asyncio.wait([stop, *tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in done - {stop}:
            task.result()
            raise RuntimeError(f"the loop {task.get_name()} ended by itself")
    finally:
        for task in [stop, *tasks]:
            task.cancel()
        await asyncio.gather(stop, *tasks, return_exceptions=True)
