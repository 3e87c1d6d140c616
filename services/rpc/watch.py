"""Watches: who looks at what, and what has changed since he looked."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from services.rpc.credentials import Principal
from services.rpc.shell import KEEP_ALIVE_S, RECHECK_S, Shell

# Things whose version one stream remembers.
_MAX_TOLD = 10_000


class Watcher:
    """What changed for one open stream. Bounded by the number of things: changes of one thing are one change."""

    def __init__(self, workspace_id: str) -> None:
        self.workspace_id = workspace_id
        self._changed: dict[str, None] = {}
        self._event = asyncio.Event()

    def touch(self, thing: str) -> None:
        self._changed[thing] = None
        self._event.set()

    async def changed(self, shell: Shell, principal: Principal, within_s: float = KEEP_ALIVE_S) -> list[str]:
        """Ids of what changed since the last call, oldest first; empty after `within_s` without a change.

        Raises BadCredentials within a second after the stream's token is withdrawn.
        """
        waited_s = 0.0
        while not self._changed and waited_s < within_s:
            shell.check_still_valid(principal)
            wait_s = min(RECHECK_S, within_s - waited_s)
            try:
                async with asyncio.timeout(wait_s):
                    await self._event.wait()
            except TimeoutError:
                waited_s += wait_s
        self._event.clear()
        changed, self._changed = list(self._changed), {}
        return changed


class Told:
    """Which version of each thing a stream has told, so that a change that is heard twice is told once.

    Our own commits are heard at once, and again from the log.
    """

    def __init__(self) -> None:
        self._versions: dict[str, int] = {}

    def news(self, thing: str, version: int) -> bool:
        """Whether this version is newer than what was told; it counts as told from now on."""
        known = self._versions.pop(thing, 0)
        self._versions[thing] = max(known, version)
        if len(self._versions) > _MAX_TOLD:
            # The one that has been quiet for longest; at worst it is told once more.
            del self._versions[next(iter(self._versions))]
        return version > known


class Hub:
    """All watchers of one kind of thing."""

    def __init__(self) -> None:
        self._watchers: dict[str, set[Watcher]] = {}

    @contextmanager
    def watch(self, workspace_id: str) -> Iterator[Watcher]:
        watcher = Watcher(workspace_id)
        self._watchers.setdefault(workspace_id, set()).add(watcher)
        try:
            yield watcher
        finally:
            watchers = self._watchers[workspace_id]
            watchers.discard(watcher)
            if not watchers:
                del self._watchers[workspace_id]

    def touch(self, workspace_id: str, thing: str) -> None:
        for watcher in self._watchers.get(workspace_id, ()):
            watcher.touch(thing)
