"""One program that is kept running until it is told to stop."""

import asyncio
import contextlib
import signal
from collections.abc import Callable
from pathlib import Path

from deploy.local.errors import StartFailed
from deploy.local.process import POLL_S, ProcessIdentity, Program, rotate_open, spawn

START_TIMEOUT_S = 60.0
STOP_GRACE_S = 10.0
PROBE_TIMEOUT_S = 5.0
FIRST_BACKOFF_S = 0.2
LAST_BACKOFF_S = 5.0
# How often the log of a running process is looked at.
LOG_CHECK_S = 60.0
# A process that lived this long starts afresh with the shortest back-off.
STEADY_S = 10.0


class Supervised:
    """Starts a program, starts it again whenever it dies, and stops it.

    `on_change` is called after each start and end of a process, `say` with one line for each unexpected end.
    """

    def __init__(
        self,
        program: Program,
        log: Path,
        on_change: Callable[[], None] = lambda: None,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.program = program
        self.log = log
        self.restarts = 0
        self._on_change = on_change
        self._say = say
        self._process: asyncio.subprocess.Process | None = None
        self._watch: asyncio.Task[None] | None = None
        self._stopping = False

    @property
    def identity(self) -> ProcessIdentity | None:
        """The process that runs now; None between a death and the next start."""
        if self._process is None or self._process.returncode is not None:
            return None
        return ProcessIdentity.of(self._process.pid)

    async def start(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Returns when the program answers its probe. Raises StartFailed if it dies first or stays silent too long."""
        self._stopping = False
        process = await self._spawn()
        try:
            async with asyncio.timeout(timeout_s):
                while not await answers(self.program):
                    if process.returncode is not None:
                        raise StartFailed(self.program.name, f"it {ending(process.returncode)}", self.log)
                    await asyncio.sleep(POLL_S)
        except BaseException as error:
            await self.stop()
            if isinstance(error, TimeoutError):
                what = f"it did not answer at {self.program.address} within {timeout_s:g} s"
                raise StartFailed(self.program.name, what, self.log) from None
            raise
        self._watch = asyncio.create_task(self._keep_running(process), name=f"supervise {self.program.name}")

    async def stop(self) -> None:
        """Returns when the process is gone: asked first, killed after the grace. Stopping twice does no harm."""
        self._stopping = True
        if self._watch is not None:
            self._watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watch
            self._watch = None
        process = self._process
        if process is None:
            return
        if process.returncode is None:
            send(process, self.program.stop_signal)
            try:
                async with asyncio.timeout(STOP_GRACE_S):
                    await process.wait()
            except TimeoutError:
                send(process, signal.SIGKILL)
                await process.wait()
        self._process = None
        self._on_change()

    async def _spawn(self) -> asyncio.subprocess.Process:
        self._process = await spawn(self.program, self.log)
        self._on_change()
        return self._process

    async def _keep_running(self, process: asyncio.subprocess.Process) -> None:
        """Ends when it is cancelled by `stop`."""
        loop = asyncio.get_running_loop()
        backoff_s = FIRST_BACKOFF_S
        while not self._stopping:
            started_s = loop.time()
            returncode = await self._ended(process)
            self._on_change()
            if loop.time() - started_s >= STEADY_S:
                backoff_s = FIRST_BACKOFF_S
            self._say(
                f"{self.program.name} {ending(returncode)}; starting it again in {backoff_s:g} s (log: {self.log})"
            )
            await asyncio.sleep(backoff_s)
            backoff_s = min(backoff_s * 2, LAST_BACKOFF_S)
            self.restarts += 1
            try:
                process = await self._spawn()
            except OSError as error:
                # Out of memory or processes for the moment: the dead process is waited for again, at once, and so on.
                self._say(f"{self.program.name} could not be started ({error.strerror})")

    async def _ended(self, process: asyncio.subprocess.Process) -> int:
        """How the process ended, at last. Until then its log is kept small: some write a line for each request."""
        end = asyncio.create_task(process.wait())
        try:
            while not (await asyncio.wait([end], timeout=LOG_CHECK_S))[0]:
                await asyncio.to_thread(rotate_open, self.log)
            return end.result()
        finally:
            end.cancel()


async def answers(program: Program) -> bool:
    """Whether the program passes its probe now."""
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            await program.probe()
    except Exception:
        return False
    return True


def send(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(number)


def ending(returncode: int) -> str:
    """How a process ended, in words."""
    if returncode < 0:
        return f"was ended by {signal.Signals(-returncode).name}"
    return f"exited with code {returncode}"
