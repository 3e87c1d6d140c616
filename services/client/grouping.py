"""Events by type, each type in the log's order."""

from collections.abc import Iterable

from protos.eventlog.v1.eventlog_pb2 import EventRecord


def by_type(records: Iterable[EventRecord]) -> dict[str, list[EventRecord]]:
    """In the order in which the types are first seen."""
    found: dict[str, list[EventRecord]] = {}
    for record in records:
        type_ = record.type
        if type_ in found:
            found[type_].append(record)
        else:
            found[type_] = [record]
    return found
