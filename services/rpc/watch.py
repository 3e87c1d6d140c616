"""Watches: who looks at what, and what has changed since he looked."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from services.rpc.credentials import Principal
from services.rpc.shell import KEEP_ALIVE_S, RECHECK_S, Shell


class Watcher:
    """What changed for one open stream. Bounded by the number of things: changes of one thing are one change."""

    def __init__(self, workspace_id: str) -> None:
        self.workspace_id = workspace_id
        self._changed: dict[str, None] = {}
        self._event = asyncio.Event()

    def touch(self, thing: str) -> None:
        self._changed[thing] = None
        self._event.set()

    async def changed(self, shell: Shell, principal: Principal) -> list[str]:
        """Ids of what changed since the last call, oldest first; empty after `KEEP_ALIVE_S` without a change.

        Raises BadCredentials within a second after the stream's token is withdrawn.
        """
        waited_s = 0.0
        while not self._changed and waited_s < KEEP_ALIVE_S:
            shell.check_still_valid(principal)
            try:
                await asyncio.wait_for(self._event.wait(), RECHECK_S)
            except TimeoutError:
                waited_s += RECHECK_S
        self._event.clear()
        changed, self._changed = list(self._changed), {}
        return changed


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
