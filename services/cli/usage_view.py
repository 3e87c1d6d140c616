"""How the minutes of a month are drawn."""

from typing import TYPE_CHECKING

from rich.console import Group
from rich.text import Text

from protos.quota.v1 import quota_pb2 as pb
from protos.scheduler.v1.access_pb2 import ListTokensRequest
from services.cli.connection import Platform
from services.cli.errors import CliError
from services.cli.tables import facts, table
from services.words import format as fmt

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

_BAR_WIDTH = 40
_ROW_BAR_WIDTH = 24
_NEARLY, _FULL = 0.75, 0.9
_MS_MICROS_PER_MINUTE = 60_000_000_000
# Keys that are no id of anything.
_ADJUSTED, _OTHERS = "", "*"


def exact(ms_micros: int) -> str:
    """Minutes with as many digits as tell sums apart."""
    return f"{ms_micros / _MS_MICROS_PER_MINUTE:,.6f}"


def summary(usage: pb.GetUsageResponse, as_of: bool = False) -> "Table":
    """The month's facts below each other."""
    rows: list[tuple[str, str | Text]] = [("month", f"{usage.period} (UTC)"), ("used", _used(usage))]
    if as_of:
        rows.insert(0, ("as of", f"{fmt.moment(usage.as_of_ms)}, event #{usage.position}"))
    if usage.HasField("quota_milliminutes"):
        rows.append(("", bar(usage.used_milliminutes, usage.quota_milliminutes)))
    if usage.adjusted_milliminutes:
        rows.append(("adjusted", f"{_signed(usage.adjusted_milliminutes)} of them"))
    if usage.running_jobs:
        running = f"{fmt.minutes(usage.running_milliminutes)} so far by {fmt.count(usage.running_jobs, 'training')}"
        rows.append(("running", Text(f"● {running}", "green")))
    if usage.burn_milliminutes_per_hour:
        rows.append(("burning", f"{fmt.minutes(usage.burn_milliminutes_per_hour)} minutes an hour"))
    if usage.exhausted:
        words = "used up: no training starts before the next month or a larger quota"
        rows.append(("", Text(words, "bold red")))
    elif usage.exhausted_at_ms:
        left = fmt.duration(usage.exhausted_at_ms - usage.as_of_ms)
        words = f"at {fmt.moment(usage.exhausted_at_ms)}, in {left}, if they go on so"
        rows.append(("used up", Text(words, "yellow")))
    return facts(*rows)


def panel(usage: pb.GetUsageResponse) -> "RenderableType":
    """What `watch` draws again and again."""
    hint = Text(f"{fmt.clock_time(usage.as_of_ms)}   Ctrl-C ends", "dim")
    return Group(summary(usage), hint)


def plain(usage: pb.GetUsageResponse) -> str:
    """The same in one line, for a pipe."""
    quota = f" of {fmt.minutes(usage.quota_milliminutes)}" if usage.HasField("quota_milliminutes") else ""
    line = f"{usage.period}: {fmt.minutes(usage.used_milliminutes)}{quota} minutes"
    if usage.running_jobs:
        line += f", {usage.running_jobs} running, {fmt.minutes(usage.burn_milliminutes_per_hour)} an hour"
    if usage.exhausted:
        return f"{line}, used up"
    return f"{line}, used up at {fmt.moment(usage.exhausted_at_ms)}" if usage.exhausted_at_ms else line


def bar(used: int, quota: int) -> Text:
    """How much of the quota is used."""
    share = max(used / quota, 0.0) if quota else 1.0
    colour = "red" if share >= _FULL else "yellow" if share >= _NEARLY else "green"
    drawn = fmt.bar(share, _BAR_WIDTH)
    return Text(drawn, colour).append("░" * (_BAR_WIDTH - len(drawn)), "dim").append(f" {share:.0%}")


def breakdown(usage: pb.GetUsageResponse, by: str, platform: Platform) -> "Table":
    """A row a key, with its share; `platform` is asked for what people are called."""
    people = _people(platform) if by == "person" else {}
    exact_sum = sum(row.charged_ms_micros for row in usage.rows)
    largest = max((row.charged_ms_micros for row in usage.rows), default=0)
    made = table(by, "minutes", "share", "", "jobs", "cut off", right=("minutes", "share", "jobs", "cut off"))
    for row in usage.rows:
        share = row.charged_ms_micros / exact_sum if exact_sum > 0 else 0.0
        made.add_row(
            _named(row, by, people),
            Text(_signed(row.milliminutes) if row.milliminutes < 0 else fmt.minutes(row.milliminutes), "bold"),
            f"{share:.0%}" if share > 0 else "",
            Text(fmt.bar(row.charged_ms_micros / largest if largest > 0 else 0.0, _ROW_BAR_WIDTH), "cyan"),
            f"{row.jobs:,}" if row.jobs else "",
            _minutes(row.cut_off_ms_micros),
        )
    return made


def _named(row: pb.UsageRow, by: str, people: dict[str, str]) -> Text:
    if row.key == _ADJUSTED:
        return Text("adjusted", "dim")
    if row.key == _OTHERS:
        return Text(row.name, "dim")
    if by == "person":
        return Text(people.get(row.key) or row.key, "bold")
    if by == "job":
        return Text(row.name, "bold").append(f"  {fmt.short_id(row.key)}", "not bold dim")
    return Text(row.name or row.key, "bold")


def _people(platform: Platform) -> dict[str, str]:
    """What tokens are called, for those who may see it."""
    try:
        tokens = platform.access.ListTokens(ListTokensRequest()).tokens
    except CliError:
        return {}
    return {f"token:{token.token_id}": token.name for token in tokens}


def _minutes(ms_micros: int) -> str:
    return fmt.minutes(fmt.charged_milliminutes(ms_micros)) if ms_micros else ""


def _signed(milliminutes: int) -> str:
    return f"{'−' if milliminutes < 0 else '+'}{fmt.minutes(abs(milliminutes))}"


def _used(usage: pb.GetUsageResponse) -> Text:
    text = Text(fmt.minutes(usage.used_milliminutes), "bold")
    if usage.HasField("quota_milliminutes"):
        return text.append(f" of {fmt.minutes(usage.quota_milliminutes)} compute minutes", "not bold")
    return text.append(" compute minutes, without a limit", "not bold")
