"""Server streams that outlive the platform's restarts, read side by side."""

import queue
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import grpc

from services.cli.connection import Stream
from services.cli.errors import CliError, PlatformError

# A feed whose messages nobody takes waits; the server then waits with it.
_WAITING = 256
_FIRST_DELAY_S, _MAX_DELAY_S = 0.25, 5.0
_JOIN_S = 2.0

# What another try does not mend.
_FINAL = (
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.UNIMPLEMENTED,
)

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Received(Generic[R]):
    """`fresh`: the first response of a stream that was just opened (again)."""

    feed: str
    response: R
    fresh: bool


@dataclass(frozen=True, slots=True)
class Lost:
    """The stream broke; it is being opened again."""

    feed: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The stream was refused for good."""

    feed: str
    error: CliError


Item = Received[R] | Lost | Refused


@dataclass(frozen=True, slots=True)
class Source(Generic[R]):
    """How a stream is opened; called again after each loss, so it may go on where it was.

    `optional`: what it brings adorns; a refusal is tried again like a loss.
    """

    name: str
    # Gives a `Stream[R]`; the generated stubs know nothing of our interceptor and name another type.
    open: Callable[[], Any]
    optional: bool = False


class Feeds(Generic[R]):
    """Context manager. `next` gives what any of the sources brings, in the order of arrival."""

    def __init__(self, sources: Sequence[Source[R]]) -> None:
        self._items: queue.Queue[Item[R]] = queue.Queue(_WAITING)
        self._stopping = threading.Event()
        self._feeds = [_Feed(source, self._items, self._stopping) for source in sources]

    def __enter__(self) -> "Feeds[R]":
        for feed in self._feeds:
            feed.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for feed in self._feeds:
            feed.cancel()
        for feed in self._feeds:
            feed.join(_JOIN_S)

    def next(self, timeout_s: float) -> Item[R] | None:
        """None if nothing came in time."""
        try:
            return self._items.get(timeout=timeout_s)
        except queue.Empty:
            return None


class _Feed(threading.Thread, Generic[R]):
    def __init__(self, source: Source[R], items: "queue.Queue[Item[R]]", stopping: threading.Event) -> None:
        super().__init__(name=f"feed-{source.name}", daemon=True)
        self._source, self._items, self._stopping = source, items, stopping
        self._stream: Stream[R] | None = None

    def run(self) -> None:
        delay_s = _FIRST_DELAY_S
        while not self._stopping.is_set():
            try:
                for received in self._read():
                    self._put(received)
                    delay_s = _FIRST_DELAY_S
            except PlatformError as error:
                if error.code in _FINAL and not self._source.optional:
                    self._put(Refused(self._source.name, error))
                    return
            if self._stopping.is_set():
                return
            self._put(Lost(self._source.name))
            # Full jitter, so that all clients do not come back at the same moment.
            self._stopping.wait(random.uniform(delay_s / 2, delay_s))
            delay_s = min(delay_s * 2, _MAX_DELAY_S)

    def cancel(self) -> None:
        if self._stream is not None:
            self._stream.cancel()

    def _read(self) -> Iterator[Received[R]]:
        self._stream = self._source.open()
        fresh = True
        for response in self._stream:
            yield Received(self._source.name, response, fresh)
            fresh = False
            if self._stopping.is_set():
                return

    def _put(self, item: "Item[R]") -> None:
        while not self._stopping.is_set():
            try:
                self._items.put(item, timeout=0.5)
                return
            except queue.Full:
                continue


def follow(source: Source[R], on_lost: Callable[[], None], on_back: Callable[[], None]) -> Iterator[R]:
    """The responses of one source, without end; `on_lost` and `on_back` are told of each interruption once.

    Raises the CliError with which the platform refuses it.
    """
    lost = False
    with Feeds([source]) as feeds:
        while True:
            match feeds.next(timeout_s=0.5):
                case Received(response=response):
                    if lost:
                        on_back()
                    lost = False
                    yield response
                case Lost():
                    if not lost:
                        on_lost()
                    lost = True
                case Refused(error=error):
                    raise error
                case None:
                    pass
