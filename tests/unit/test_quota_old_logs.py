"""Logs of every released schema version, as bytes: they are read as they were written, and come to the same minutes."""

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import pytest
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

from protos.eventlog.v1.eventlog_pb2 import EventRecord
from services.eventlog.catalogue import EVENTS, SCHEMA_VERSION, payload_of
from services.quota.domain.attempt import charge_by_period
from services.quota.domain.ledger import Ledger
from tests.fixtures.make_log import FIELDS, in_words, known_file, known_minutes, log_file, read_log
from tests.support.slow_minutes import minutes_by_month

VERSIONS = range(1, SCHEMA_VERSION + 1)
MS_MICROS_PER_MINUTE = 60_000 * 10**6


def known(version: int) -> Any:
    return json.loads(known_file(version).read_text())


def history_of(version: int) -> list[EventRecord]:
    return [one for one in read_log(version) if one.workspace_id != FIELDS]


def folded_minutes(records: Sequence[EventRecord], now_ms: int) -> dict[tuple[str, str], Fraction]:
    ledger, totals = Ledger(), defaultdict[tuple[str, str], int](int)
    for one in records:
        ledger.take(one)
    for attempt in ledger.attempts.values():
        for period, ms_micros in charge_by_period(attempt, now_ms).items():
            totals[attempt.workspace_id, period] += ms_micros
    for workspace_id, period, ms_micros in ledger.adjustments.values():
        totals[workspace_id, period] += ms_micros
    return {key: Fraction(amount, MS_MICROS_PER_MINUTE) for key, amount in totals.items() if amount}


def unknown_fields(message: Message) -> int:
    """Fields on the wire, here or below, that this version has no name for."""
    count = len(UnknownFieldSet(message))
    for field, value in message.ListFields():
        if field.message_type is None or field.message_type.GetOptions().map_entry:
            continue
        count += sum(map(unknown_fields, value if field.is_repeated else [value]))
    return count


def test_every_schema_version_has_its_log() -> None:
    missing = [version for version in VERSIONS if not (log_file(version).exists() and known_file(version).exists())]
    assert not missing, "run `python -m tests.fixtures.make_log` when a version is released, and keep what it writes"


@pytest.mark.parametrize("version", VERSIONS)
def test_an_old_log_replays_to_the_minutes_that_it_came_to_then(version: int) -> None:
    then, records = known(version), history_of(version)
    assert {one.schema_version for one in records} == {version}
    assert known_minutes(folded_minutes(records, then["now_ms"]).items()) == then["minutes"]
    assert known_minutes(minutes_by_month(records, then["now_ms"]).items()) == then["minutes"]


@pytest.mark.parametrize("version", VERSIONS)
def test_an_old_log_is_rich_enough_to_prove_something(version: int) -> None:
    kinds = Counter(one.type for one in history_of(version))
    assert min(kinds[name] for name in ("JobOutcomeCorrected", "JobReachable", "MinutesAdjusted", "JobFinished")) >= 2
    months = {key.split()[1] for key in known(version)["minutes"]}
    assert len(months) >= 3


@pytest.mark.parametrize("version", VERSIONS)
def test_every_field_of_every_old_event_is_read_under_the_name_that_it_had(version: int) -> None:
    then = known(version)["events"]
    assert then.keys() <= EVENTS.keys()
    records = {one.type: one for one in read_log(version) if one.workspace_id == FIELDS}
    assert records.keys() == then.keys()
    for name, one in records.items():
        assert unknown_fields(payload_of(one)) == 0, name
        assert in_words(one) == then[name]
