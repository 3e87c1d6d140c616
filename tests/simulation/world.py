"""Virtual time, chance, and the network between boxes and the platform."""

import heapq
import itertools
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

SECOND = 1_000_000_000
MS = 1_000_000
# Platform time at the start of every schedule, Unix ms.
EPOCH_MS = 1_790_000_000_000


class World:
    """One virtual clock. `now` is true time in ns; callbacks of one moment run in the order in which they were made."""

    def __init__(self, seed: int) -> None:
        self.seed, self.random, self.now = seed, random.Random(seed), 0
        # What happened how often, for the report on coverage.
        self.seen: Counter[str] = Counter()
        self.trace: list[tuple[int, object]] = []
        # Nothing fails any more, and trainings are short.
        self.calm = False
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._order = itertools.count()

    @property
    def now_ms(self) -> int:
        """Platform time."""
        return EPOCH_MS + self.now // MS

    def at(self, moment: int, act: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (max(moment, self.now), next(self._order), act))

    def after(self, delay: float, act: Callable[[], None]) -> None:
        """`delay` in ns."""
        self.at(self.now + int(delay), act)

    def run_until(self, moment: int) -> None:
        heap = self._heap
        while heap and heap[0][0] <= moment:
            self.now, _, act = heapq.heappop(heap)
            act()
        self.now = moment

    def uniform(self, low: float, high: float) -> float:
        return self.random.uniform(low, high)

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def note(self, what: str) -> None:
        """Count it, and keep it for the story of a failure."""
        self.seen[what] += 1
        self.trace.append((self.now, what))

    def story(self, last: int) -> tuple[str, ...]:
        """What happened, a line each."""
        return tuple(f"{at / SECOND:9.3f} {' '.join(str(what).split())[:200]}" for at, what in self.trace[-last:])


def when(condition: Callable[[], object], act: Callable[[], object]) -> Callable[[], None]:
    """Act if the condition holds then."""

    def go() -> None:
        if condition():
            act()

    return go


class End(Protocol):
    """One end of a stream."""

    def received(self, stream: "Stream", message: object) -> None: ...

    def broken(self, stream: "Stream", refused: bool) -> None: ...


@dataclass(slots=True)
class Path:
    """One direction of a box's link. While it is cut, what is sent waits, as TCP would have it."""

    cut: bool = False
    delay: float = 5 * MS
    waiting: list[Callable[[], None]] = field(default_factory=list)


@dataclass(slots=True)
class Link:
    """What lies between one box and the platform."""

    up: Path = field(default_factory=Path)
    down: Path = field(default_factory=Path)
    # Messages are delivered a second time with this probability.
    duplicates: float = 0.0


class Stream:
    """One connection: in order and without loss each way, until one end drops it; then what is under way may vanish."""

    def __init__(self, world: World, link: Link, box: End, platform: End) -> None:
        self.world, self.link, self.box, self.platform = world, link, box, platform
        self.box_open = self.platform_open = True
        self._busy_until = {"up": 0, "down": 0}

    def _carry(self, way: str, deliver: Callable[[], None]) -> None:
        path = self.link.up if way == "up" else self.link.down
        if path.cut:
            path.waiting.append(lambda: self._carry(way, deliver))
            return
        # Never overtakes what was sent before it.
        moment = max(self._busy_until[way], self.world.now + int(path.delay * self.world.uniform(0.5, 2)))
        self._busy_until[way] = moment
        self.world.at(moment, deliver)

    def to_platform(self, message: object) -> None:
        for _ in range(1 + (self.world.random.random() < self.link.duplicates)):
            self._carry("up", when(lambda: self.platform_open, lambda: self.platform.received(self, message)))

    def to_box(self, message: object) -> None:
        for _ in range(1 + (self.world.random.random() < self.link.duplicates)):
            self._carry("down", when(lambda: self.box_open, lambda: self.box.received(self, message)))

    def drop_by_box(self) -> None:
        """The box hangs up, or its process has died."""
        self.box_open = False
        self._carry("up", self._platform_hears)

    def _platform_hears(self) -> None:
        if self.platform_open:
            self.platform_open = False
            self.platform.broken(self, False)

    def drop_by_platform(self, *, refused: bool = False) -> None:
        self.platform_open = False
        self._carry("down", lambda: self._box_hears(refused))

    def _box_hears(self, refused: bool) -> None:
        if self.box_open:
            self.box_open = False
            self.box.broken(self, refused)


def mend(path: Path) -> None:
    """Let flow again what waited."""
    path.cut = False
    waiting, path.waiting = path.waiting, []
    for go in waiting:
        go()
