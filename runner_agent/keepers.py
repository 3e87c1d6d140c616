"""The agent's connections to the keepers on the box: one unix socket each, JSON lines."""

import asyncio
import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog

from runner_agent.facts import Fact
from runner_agent.keeper_messages import Anchor
from runner_agent.losses import Loss
from runner_agent.session_messages import Input, KeeperGone, KeeperSaid, Pair

SCAN_INTERVAL_S = 0.1
ANSWER_TIMEOUT_S = 5.0
MOST_LINE_BYTES = 256 * 1024

log = structlog.get_logger()


class Keepers:
    """Finds keepers by their sockets, feeds what they say, and takes requests for them."""

    def __init__(self, folder: Path, feed: Callable[[Input], None]) -> None:
        self._folder = folder
        self._feed = feed
        self._writers: dict[str, asyncio.StreamWriter] = {}
        self._known: set[str] = set()
        # By attempt: how many facts are durable, and those behind them.
        self._unwritten: dict[str, tuple[int, list[dict[str, Any]]]] = {}

    async def scan(self, group: asyncio.TaskGroup) -> None:
        """Connect to every keeper that is not connected yet; returns when each has told its status or is not there."""
        with contextlib.suppress(OSError):
            for path in self._folder.glob("*.sock"):
                if path.stem not in self._known:
                    self._known.add(path.stem)
                    told = asyncio.Event()
                    group.create_task(self._watch(path, told))
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(ANSWER_TIMEOUT_S):
                            await told.wait()

    async def run(self, group: asyncio.TaskGroup) -> None:
        """Look for new keepers until cancelled."""
        while True:
            await self.scan(group)
            await asyncio.sleep(SCAN_INTERVAL_S)

    def start(self, pair: str, request: dict[str, Any], deadline_ns: int, anchor: Anchor) -> None:
        self._send(pair, {"cmd": "start", **request, **_renewal(deadline_ns, anchor)})

    def renew(self, pair: str, deadline_ns: int, anchor: Anchor) -> None:
        self._send(pair, {"cmd": "renew", **_renewal(deadline_ns, anchor)})

    def stop(self, pair: str, reason: str, message: str) -> None:
        self._send(pair, {"cmd": "stop", "reason": reason, "message": message})

    def lost(self, pair: str, loss: Loss) -> None:
        """The agent has dropped something of the attempt's; the keeper counts it for the log."""
        self._send(pair, {"cmd": "dropped", **loss.as_json()})

    def unwritten(self, attempt_id: str, after: int) -> tuple[Fact, ...]:
        """Facts behind `after` that the disk did not take and the keeper has told, as long as this process lives."""
        first, contents = self._unwritten.get(attempt_id, (0, []))
        facts = [Fact(first + number, content) for number, content in enumerate(contents, 1)]
        return tuple(fact for fact in facts if fact.sequence > after)

    def forget(self, attempt_id: str) -> None:
        """Everything of the attempt is on the disk."""
        self._unwritten.pop(attempt_id, None)

    def _told(self, status: dict[str, Any]) -> Pair:
        waiting = status.get("unwritten")
        if status["attempt_id"] and isinstance(waiting, dict) and waiting["facts"]:
            self._unwritten[status["attempt_id"]] = (int(waiting["after"]), list(waiting["facts"]))
        return _pair(status)

    def _send(self, pair: str, request: dict[str, Any]) -> None:
        """A keeper that is gone is told of by `KeeperGone`, so nothing is raised here."""
        writer = self._writers.get(pair)
        if writer is not None and not writer.is_closing():
            writer.write(json.dumps(request).encode() + b"\n")

    async def _watch(self, path: Path, told: asyncio.Event) -> None:
        """Follow one keeper to its end. A keeper that dropped us is connected again."""
        pair = path.stem
        ever = False
        try:
            while True:
                try:
                    reader, writer = await asyncio.open_unix_connection(str(path), limit=MOST_LINE_BYTES)
                except OSError:
                    # Nobody listens: it is gone, or not quite there yet and found again by the next scan.
                    break
                try:
                    self._writers[pair] = writer
                    writer.write(b'{"cmd": "watch"}\n')
                    async for line in reader:
                        self._feed(KeeperSaid(self._told(json.loads(line))))
                        ever = True
                        told.set()
                except (OSError, ValueError, KeyError) as error:
                    log.warning("a keeper's connection broke", pair=pair, error=str(error))
                finally:
                    del self._writers[pair]
                    writer.close()
        finally:
            told.set()
            self._known.discard(pair)
        if ever:
            self._feed(KeeperGone(pair))


def _renewal(deadline_ns: int, anchor: Anchor) -> dict[str, int]:
    return {
        "deadline_boottime_ns": deadline_ns,
        "anchor_at_ms": anchor.at_ms,
        "anchor_boottime_ns": anchor.boottime_ns,
        "anchor_uncertainty_ns": anchor.uncertainty_ns,
    }


def _pair(status: dict[str, Any]) -> Pair:
    return Pair(
        pair=status["pair"],
        phase=status["phase"],
        ready=status["ready"],
        attempt_id=status["attempt_id"],
        facts=status["facts"],
        deadline_ns=status["deadline_boottime_ns"],
        refused=status["refused"],
    )
