"""Moments of the log's past, as people type them."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from protos.common.v1 import moment_pb2 as pb
from services.cli.errors import CliError
from services.words import format as fmt

# An unquoted word that starts with # is a comment to most shells, so the example has the equals sign.
At = Annotated[
    str,
    typer.Option(
        "--at",
        metavar="TIME|#POSITION",
        show_default=False,
        help="As it was known then: `2h ago`, `2026-11-22 14:00` (your local time; ISO 8601 with an offset or Z as it "
        "says), or after an event of the log: --at=#1234.",
    ),
]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_LAST_POSITION = 2**63 - 1

_POSITION = re.compile(r"#\s*(\d{1,19})", re.ASCII)
_AGO = re.compile(r"(\d{1,12})\s*([a-z]+)\s+ago", re.ASCII)
_UNITS_MS = {
    **dict.fromkeys(("s", "sec", "second", "seconds"), 1000),
    **dict.fromkeys(("m", "min", "minute", "minutes"), 60_000),
    **dict.fromkeys(("h", "hour", "hours"), 3_600_000),
    **dict.fromkeys(("d", "day", "days"), 86_400_000),
    **dict.fromkeys(("w", "week", "weeks"), 7 * 86_400_000),
}


def parse(text: str, now_ms: int) -> pb.Moment:
    """`#1234`, `2h ago`, or a date or time of ISO 8601; without an offset it is local time, a date is its midnight.

    Raises CliError. Whether the log reaches there is for the platform to say.
    """
    wanted = text.strip()
    if found := _POSITION.fullmatch(wanted):
        position = int(found[1])
        if not 1 <= position <= _LAST_POSITION:
            raise CliError(f"{text!r} is no position of the log; they count from #1")
        return pb.Moment(position=position)
    at_ms = _ago_ms(wanted, now_ms)
    if at_ms is None:
        at_ms = _calendar_ms(wanted)
    if at_ms is None:
        raise CliError(
            f"{text!r} is not a moment; write for example `2h ago`, `2026-11-22 14:00` (local time), "
            "`2026-11-22T14:00:00Z`, or --at=#1234 for a position of the log"
        )
    if at_ms < 0:
        raise CliError(f"{text!r} lies before 1970, where no log begins; write a later moment")
    return pb.Moment(at_ms=at_ms)


def as_of_line(position: int, at_ms: int) -> str:
    """What an answer as of the past begins with."""
    after = f"after event #{position:,}" if position else "before the first event"
    return f"[dim]As it was known at {fmt.moment(at_ms)}, {after}:[/]"


def _ago_ms(text: str, now_ms: int) -> int | None:
    found = _AGO.fullmatch(text.lower())
    if found is None or found[2] not in _UNITS_MS:
        return None
    return now_ms - int(found[1]) * _UNITS_MS[found[2]]


def _calendar_ms(text: str) -> int | None:
    try:
        # A time without an offset is taken to be local.
        return (datetime.fromisoformat(text).astimezone(UTC) - _EPOCH) // _MILLISECOND
    except (ValueError, OverflowError):
        return None
