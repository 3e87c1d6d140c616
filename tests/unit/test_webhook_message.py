"""What a webhook says, where it may go, and when it is tried again."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos.eventlog.v1.eventlog_pb2 import EventRecord, WebhookKind
from protos.events.v1 import job_pb2 as job
from services.eventlog.bootstrap import MIGRATIONS
from services.eventlog.catalogue import EVENTS
from services.eventlog.webhook_message import TYPES, backoff_s, kind_of, message, wanted
from services.eventlog.webhook_target import TargetRefused, check_address, checked_url
from services.rpc.errors import InvalidField

PAGE = Path(__file__).parent.parent.parent / "docs" / "how-to" / "webhooks.md"
NOW_MS = 1_795_000_000_123
SECRET = "wh_secret"

# IPv6 addresses that packets leave as IPv4 are among them.
NEVER = [
    *("169.254.169.254", "fe80::1%eth0", "::ffff:169.254.169.254", "0.0.0.0", "::", "224.0.0.1", "ff02::1"),
    *("240.0.0.1", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1"),
]
PRIVATE = [
    *("127.0.0.1", "10.0.0.1", "172.16.3.4", "192.168.1.1", "100.64.0.1", "::1", "fd00::1", "::ffff:10.0.0.1"),
    *("64:ff9b::7f00:1", "2002:0a00:0001::1"),
]
REFUSED = [
    *("", "example.org", "ftp://example.org/", "https://", "https://me:secret@example.org/", "https://example.org/#a"),
    *("http://127.0.0.1/", "http://[::1]:8080/", "http://169.254.169.254/latest", "https://example.org:99999/"),
    "http://a b/",
]


def record(event: object, position: int = 7) -> EventRecord:
    made = EventRecord(position=position, event_id="e-7", workspace_id="ws_1", type=type(event).__name__)
    made.payload.value = event.SerializeToString()  # type: ignore[attr-defined]
    return made


def checker() -> dict[str, object]:
    """The page's own example."""
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    found: dict[str, object] = {}
    exec(code, found)
    return found


@given(st.binary(min_size=1, max_size=3), st.integers(0, 200))
def test_the_pages_check_takes_what_was_signed_and_nothing_that_was_changed(change: bytes, at: int) -> None:
    is_from_tether = checker()["is_from_tether"]
    assert callable(is_from_tether)
    told = message(record(job.JobFinished(attempt_id="at_ü", steps=3)), "log-1", SECRET, NOW_MS)
    now_s = NOW_MS / 1000
    assert is_from_tether(SECRET, told.headers, told.body, now_s)
    at %= len(told.body)
    changed = told.body[:at] + change + told.body[at + len(change) :]
    assert is_from_tether(SECRET, told.headers, changed, now_s) == (changed == told.body)
    assert not is_from_tether("wh_other", told.headers, told.body, now_s)
    later = {**told.headers, "Tether-Timestamp": str(int(now_s) + 1)}
    assert not is_from_tether(SECRET, later, told.body, now_s), "the time is signed too"
    assert not is_from_tether(SECRET, told.headers, told.body, now_s + 301), "a recording"


def test_every_event_that_is_told_has_a_kind_an_index_row_and_a_line_in_the_page() -> None:
    index = (MIGRATIONS / "0002_webhooks.sql").read_text().split("create index webhook_events", 1)[1].split(";", 1)[0]
    assert set(re.findall(r"'(\w+)'", index)) == set(TYPES)
    assert set(TYPES) <= EVENTS.keys()
    assert [name for name in TYPES if f"`{name}`" not in PAGE.read_text()] == []


def test_a_corrected_outcome_is_of_the_kind_that_it_turned_out_to_be() -> None:
    finished = record(job.JobOutcomeCorrected(finished=job.JobFinished()))
    assert kind_of(finished) == WebhookKind.WEBHOOK_KIND_FINISHED
    assert wanted(finished, [WebhookKind.WEBHOOK_KIND_FINISHED])
    assert not wanted(finished, [WebhookKind.WEBHOOK_KIND_FAILED])
    assert wanted(finished, [])
    assert not wanted(record(job.JobOutcomeCorrected()), []), "only an interval: no outcome"
    assert not wanted(record(job.JobStarted()), [])


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_the_wait_is_random_doubles_and_stays_below_five_minutes(failures: int, random: float) -> None:
    assert backoff_s(failures, random) <= min(2.0 ** min(failures - 1, 1000), 300)
    assert backoff_s(failures, 0) == 0
    assert backoff_s(failures + 1, random) >= backoff_s(failures, random)


@pytest.mark.parametrize("address", NEVER)
def test_some_addresses_are_never_a_target(address: str) -> None:
    for allow_private in (False, True):
        with pytest.raises(TargetRefused):
            check_address("example.org", address, allow_private)


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_are_a_target_only_where_the_operator_says_so(address: str) -> None:
    check_address("example.org", address, True)
    with pytest.raises(TargetRefused, match=r"TETHER_WEBHOOK_ALLOW_PRIVATE=true"):
        check_address("example.org", address, False)
    for public in ("93.184.215.14", "2606:4700::1111"):
        check_address("example.org", public, False)


@pytest.mark.parametrize("url", REFUSED)
def test_an_address_that_cannot_be_meant_is_refused_when_it_is_set(url: str) -> None:
    with pytest.raises(InvalidField, match=r"^url is "):
        checked_url(url, allow_private=False)
    assert checked_url("https://example.org:8443/hook?a=b", allow_private=False)
    assert checked_url("http://127.0.0.1:80/", allow_private=True)
