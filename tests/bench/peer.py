"""The peer: the package eventsourcing, storing and replaying the like of our events in the same PostgreSQL."""

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit
from uuid import UUID

from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event

from tests.support.platform import DatabaseUrls

# Commands in one transaction: as many as our appender takes.
_BATCH = 1000
# Notifications in one statement; a tenth or ten times as many are slower.
_PAGE = 1000


class Training(Aggregate):
    """An aggregate whose first event holds what our JobStarted holds."""

    @event("Started")
    def __init__(self, attempt_id: str, started_at_ms: int, weights: str) -> None:
        self.attempt_id, self.started_at_ms, self.weights = attempt_id, started_at_ms, weights


class Peer:
    """Its application with its PostgreSQL recorder, as it is out of the box."""

    def __init__(self, application: Application[UUID]) -> None:
        self._application = application

    def appends_alone(self, events: int) -> float:
        """Events per second, one command after the other, each in a transaction of its own."""
        began = time.perf_counter()
        for training in _trainings(events):
            self._application.save(training)
        return events / (time.perf_counter() - began)

    def appends_batched(self, events: int) -> float:
        """Events per second with many commands in one transaction, each with one event of a stream of its own."""
        began, trainings = time.perf_counter(), _trainings(events)
        while batch := list(itertools.islice(trainings, _BATCH)):
            self._application.save(*batch)
        return events / (time.perf_counter() - began)

    def replay(self) -> float:
        """Events per second of reading all of them in order, and making each the object that a fold would be given."""
        began, events, last = time.perf_counter(), 0, 0
        recorder, mapper = self._application.recorder, self._application.mapper
        while page := recorder.select_notifications(last, _PAGE, inclusive_of_start=False):
            for notification in page:
                mapper.to_domain_event(notification)
            events, last = events + len(page), page[-1].id
        return events / (time.perf_counter() - began)


@contextmanager
def peer_on(database: DatabaseUrls) -> Iterator[Peer]:
    """The peer with tables of its own in the same database, until the end of the block."""
    url = urlsplit(database.admin)
    environment = {
        "PERSISTENCE_MODULE": "eventsourcing.postgres",
        "POSTGRES_DBNAME": database.name,
        "POSTGRES_HOST": url.hostname or "",
        "POSTGRES_PORT": str(url.port),
        "POSTGRES_USER": url.username or "",
        "POSTGRES_PASSWORD": url.password or "",
    }
    application: Application[UUID] = Application(env=environment)
    try:
        yield Peer(application)
    finally:
        application.close()


def measure_peer_appends(report: Callable[[str, float], None], database: DatabaseUrls, events: int) -> None:
    """eventsourcing_alone_events_per_s and eventsourcing_events_per_s: what `append_…` has beside it."""
    with peer_on(database) as peer:
        report("eventsourcing_alone_events_per_s", peer.appends_alone(max(events // 50, 100)))
        report("eventsourcing_events_per_s", peer.appends_batched(events))


def measure_peer_replay(report: Callable[[str, float], None], database: DatabaseUrls, events: int) -> None:
    """eventsourcing_replay_events_per_s: what `replay_events_per_s` has beside it."""
    with peer_on(database) as peer:
        peer.appends_batched(events)
        report("eventsourcing_replay_events_per_s", peer.replay())


def _trainings(count: int) -> Iterator[Training]:
    return (Training("at_k3v9q2m7x4p8w1zt", 1_790_000_000_000 + number, "random") for number in range(count))
