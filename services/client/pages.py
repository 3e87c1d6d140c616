"""A range of the log, page by page, as if the link never broke."""

import queue
import random
import threading
from collections.abc import Iterator
from typing import Any

from protos.eventlog.v1 import eventlog_pb2 as pb
from services.cli.connection import Platform
from services.cli.errors import CliError, PlatformError
from services.client.errors import LogReplaced, NoAnswer

# Responses that are fetched while an earlier one is used.
_AHEAD = 2
# The server tells of each stretch that it has looked through, and each takes it milliseconds.
_SILENCE_S = 60.0
# How long a platform that is away is waited for.
PATIENCE_S = 120.0
_FIRST_DELAY_S, _MAX_DELAY_S = 0.2, 5.0
_JOIN_S = 5.0


def pages(
    platform: Platform,
    first: int,
    last: int,
    wanted: pb.EventFilter,
    log_id: str,
    patience_s: float = PATIENCE_S,
) -> Iterator[pb.ReadEventsResponse]:
    """What `wanted` chooses from first ≤ position ≤ last, in order, each event once. `last` is not above the head.

    A broken stream is opened again where it was. Raises PlatformError for a refusal, NoAnswer where the platform stays
    away for `patience_s`, LogReplaced where it comes back with another log than `log_id`.
    """
    waited_s, delay_s = 0.0, _FIRST_DELAY_S
    while first <= last:
        failure: CliError
        try:
            found = platform.eventlog.GetHead(pb.GetHeadRequest()).log_id
            if found != log_id:
                raise LogReplaced(log_id, found)
            request = pb.ReadEventsRequest(from_position=first, to_position=last, filter=wanted)
            with _Ahead(platform.eventlog.ReadEvents(request)) as responses:
                for response in responses:
                    waited_s, delay_s = 0.0, _FIRST_DELAY_S
                    first = max(first, response.scanned_position + 1)
                    yield response
            failure = NoAnswer("the platform ended the stream too early")
        except PlatformError as error:
            if not error.away:
                raise
            failure = error
        if first > last:
            return
        if waited_s >= patience_s:
            raise NoAnswer(f"{failure} (waited for {patience_s:.0f} s; what was read so far is complete)")
        # Full jitter, so that all clients do not come back at the same moment.
        pause_s = random.uniform(delay_s / 2, delay_s)
        threading.Event().wait(pause_s)
        waited_s += pause_s
        delay_s = min(delay_s * 2, _MAX_DELAY_S)


class _Ahead:
    """Reads a stream in a thread of its own, a little ahead; a reader who stops makes the server stop."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._items: queue.Queue[pb.ReadEventsResponse | BaseException | None] = queue.Queue(_AHEAD)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._read, name="log-reader", daemon=True)

    def __enter__(self) -> Iterator[pb.ReadEventsResponse]:
        self._thread.start()
        return self._responses()

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._stream.cancel()
        self._thread.join(_JOIN_S)

    def _responses(self) -> Iterator[pb.ReadEventsResponse]:
        while True:
            try:
                item = self._items.get(timeout=_SILENCE_S)
            except queue.Empty:
                return
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            yield item

    def _read(self) -> None:
        try:
            for response in self._stream:
                if not self._put(response):
                    return
            self._put(None)
        except Exception as error:
            self._put(error)

    def _put(self, item: "pb.ReadEventsResponse | BaseException | None") -> bool:
        while not self._stopping.is_set():
            try:
                self._items.put(item, timeout=0.2)
                return True
            except queue.Full:
                continue
        return False
