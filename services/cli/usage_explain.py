"""`tether usage explain`: what one job cost, as an invoice that can be checked by hand."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import typer
from rich.text import Text

from protos.quota.v1 import quota_pb2 as pb
from services.cli import moment, pick
from services.cli.connection import connect
from services.cli.moment import At
from services.cli.output import console, print_json
from services.cli.parameters import AsJson, JobArgument
from services.cli.usage_view import exact
from services.clock import PlatformClock
from services.words import format as fmt

if TYPE_CHECKING:
    from rich.console import Console

_MICROS = 1_000_000
_KINDS = {
    pb.ExplainedInterval.KIND_CONNECTED: ("connected", "green"),
    pb.ExplainedInterval.KIND_CUT_OFF: ("cut off", "yellow"),
    pb.ExplainedInterval.KIND_PRESUMED: ("presumed", "red"),
    pb.ExplainedInterval.KIND_GRACE: ("grace", "dim"),
}
# Columns of the invoice that hold numbers.
_NUMBERS = (3, 4)


def explain(context: typer.Context, job: JobArgument, at: At = "", as_json: AsJson = False) -> None:
    """Explain what a training cost: each interval, why it began and ended, its rate, and the events behind it."""
    platform = connect(context)
    request = pb.ExplainChargeRequest(job_id=pick.job_id(platform, job))
    if at:
        request.as_of.CopyFrom(moment.parse(at, PlatformClock().now_ms()))
    response = platform.quota.ExplainCharge(request)
    if as_json:
        print_json(response)
        return
    out = console()
    head = Text(f"{response.job_name or fmt.short_id(response.job_id)}", "bold")
    head.append(f"  {response.job_id}", "not bold dim")
    out.print(head.append(f"  as of {_utc(response.as_of_ms)} UTC, event #{response.position}", "not bold dim"))
    for number, attempt in enumerate(response.attempts, 1):
        _attempt(out, attempt, number if len(response.attempts) > 1 else 0)
    for adjustment in response.adjustments:
        sign = "+" if adjustment.milliminutes > 0 else "−"
        who = f"by {adjustment.actor} at {_utc(adjustment.recorded_at_ms)}, event #{adjustment.position}"
        words = Text(f"\nadjusted {sign}{fmt.minutes(abs(adjustment.milliminutes))} minutes in {adjustment.period}: ")
        out.print(words.append(adjustment.reason).append(f"  {who}", "dim"))
    total = Text("\ntotal ").append(f"{response.milliminutes / 1000:,.3f} compute minutes", "bold")
    out.print(total.append(f"  (exactly {exact(response.charged_ms_micros)})", "not bold dim"))
    if any(attempt.intervals for attempt in response.attempts):
        out.print(
            "[dim]Check a row: (to − from) in minutes × rate. Check the whole: the sum of the rows and adjustments,\n"
            "rounded once. Read the events: tether events --job "
            f"{fmt.short_id(response.job_id)} --from 1 --no-follow[/]"
        )


def rate_words(attempt: pb.ExplainedAttempt) -> str:
    """How the rate came about: `2.5 × 2 (NVIDIA A10G) + 1 (Tesla T4), × 1.5 for advanced evaluation`."""
    kinds: dict[tuple[str, int], int] = {}
    for gpu in attempt.gpus:
        key = (gpu.type, gpu.multiplier_micros)
        kinds[key] = kinds.get(key, 0) + 1
    parts = [
        f"{_number(micros)}{f' × {count}' if count > 1 else ''} ({kind})" for (kind, micros), count in kinds.items()
    ]
    words = " + ".join(parts) or "the event lists no GPUs"
    if attempt.evaluation_factor_micros not in (0, _MICROS):
        words += f", × {_number(attempt.evaluation_factor_micros)} for advanced evaluation"
    return words


def _attempt(out: "Console", attempt: pb.ExplainedAttempt, number: int) -> None:
    title = Text(f"\nattempt {number} on " if number else "\non ").append(attempt.runner_name or "no runner", "bold")
    if attempt.simulated:
        title.append("  simulated", "yellow")
    out.print(title)
    if attempt.rate_micros:
        written = f"written in event #{attempt.assigned_position}"
        out.print(Text(f"rate {_number(attempt.rate_micros)} = {rate_words(attempt)}; {written}"))
    if not attempt.intervals:
        out.print("[dim]Its training process never started: nothing is charged.[/]")
    else:
        for line in _intervals(attempt):
            out.print(line, soft_wrap=True)
    for corrected in attempt.corrected:
        until = _utc(corrected.interval.charged_until_ms)
        presumed = ", presumed" if corrected.interval.presumed else ""
        said = f"#{corrected.position} had said: until {until}{presumed}, {exact(corrected.charged_ms_micros)} minutes"
        out.print(Text(f"{said}; #{corrected.corrected_by_position} put it right", "dim"))


def _intervals(attempt: pb.ExplainedAttempt) -> Iterator[Text]:
    """Two lines an interval, so that they fit into a narrow terminal: the numbers, and why it began and ended."""
    cells = [_cells(interval) for interval in attempt.intervals]
    headings = ("", "from (UTC)", "to", "time", "minutes", "events")
    widths = [max(len(row[column]) for row in (headings, *cells)) for column in range(len(headings))]
    yield Text(_line([heading.upper() for heading in headings], widths), "dim")
    months = {interval.period for interval in attempt.intervals}
    for row, interval in zip(cells, attempt.intervals, strict=True):
        line = Text(_line(row, widths))
        line.stylize(_KINDS.get(interval.kind, ("", ""))[1], 0, widths[0])
        yield line
        month = f"  ({interval.period})" if len(months) > 1 else ""
        yield Text(f"  {interval.began_because} → {interval.ended_because}{month}", "dim")


def _cells(interval: pb.ExplainedInterval) -> tuple[str, ...]:
    began, ended = _utc(interval.from_ms), _utc(interval.to_ms)
    same_day = began.split()[0] == ended.split()[0]
    return (
        _KINDS.get(interval.kind, ("", ""))[0],
        began,
        "now" if interval.open else ended.split()[1] if same_day else ended,
        _time(interval.to_ms - interval.from_ms),
        exact(interval.charged_ms_micros),
        " ".join(f"#{position}" for position in interval.positions),
    )


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Numbers to the right, all else to the left."""
    padded = [
        cell.rjust(width) if column in _NUMBERS else cell.ljust(width)
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return "  ".join(padded).rstrip()


def _utc(at_ms: int) -> str:
    """To the millisecond, because that is what is charged."""
    moment_ = datetime.fromtimestamp(at_ms // 1000, UTC)
    return f"{moment_:%Y-%m-%d %H:%M:%S}.{at_ms % 1000:03d}"


def _time(ms: int) -> str:
    """`1:02:03.250`."""
    return f"{fmt.duration(ms)}.{ms % 1000:03d}"


def _number(micros: int) -> str:
    return f"{micros / _MICROS:.6f}".rstrip("0").rstrip(".")
