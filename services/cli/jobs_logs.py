"""`tether jobs logs`: what a training has written, as it wrote it; all of it, or the lines that hold a text."""

from typing import Annotated, Any

import grpc
import typer
from rich.markup import escape

from protos.metrics.v1.metrics_pb2 import (
    ListSeriesRequest,
    ReadLogsRequest,
    StoredLogLine,
    WatchLogsRequest,
    WatchLogsResponse,
)
from protos.scheduler.v1 import job_pb2 as pb
from services.cli import pick
from services.cli.connection import Platform, connect
from services.cli.errors import PlatformError
from services.cli.feed import Feeds, Lost, Received, Refused, Source
from services.cli.output import error_console, to_json
from services.cli.parameters import JobArgument
from services.clock import PlatformClock
from services.words import format as fmt

EXAMPLES = (
    "Examples: tether jobs logs last -f --tail 20\n\n"
    "tether jobs logs last --search 'out of memory' --line-numbers\n\n"
    "tether jobs logs last --from-line 1200 --search warning"
)

_OVER = (pb.JOB_STATE_FINISHED, pb.JOB_STATE_FAILED, pb.JOB_STATE_KILLED)
# Lines of a log arrive a little after the job's end; this long without one is its end.
_QUIET_S = 2.0


class _Printer:
    """Prints lines and counts them."""

    def __init__(self, as_json: bool, numbered: bool) -> None:
        self._as_json, self._numbered = as_json, numbered
        self.lines = 0

    def line(self, line: StoredLogLine) -> None:
        # As the training wrote it, its colours included.
        number = f"{line.line:>7,}  " if self._numbered else ""
        print(to_json(line) if self._as_json else f"{number}{line.text}", flush=True)
        self.lines += 1


class Followed:
    """What was told of a log, and what is asked for when the stream is opened, for the first time or again."""

    def __init__(self, first: WatchLogsRequest) -> None:
        self._first = first
        self._seen: dict[str, int] = {}
        self._next_line = first.from_line

    def request(self) -> WatchLogsRequest:
        """After a loss from behind the last line on: a tail would be another one by then."""
        if not self._seen:
            return self._first
        return WatchLogsRequest(job_id=self._first.job_id, search=self._first.search, from_line=self._next_line)

    def is_new(self, line: StoredLogLine) -> bool:
        """Once for each line. A line that an attempt before has delivered late moves the numbers of those behind it."""
        new = line.sequence > self._seen.get(line.attempt_id, 0)
        if new:
            self._seen[line.attempt_id] = line.sequence
            self._next_line = max(self._next_line, line.line + 1)
        return new


def logs(
    context: typer.Context,
    job: JobArgument,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the training ends.")] = False,
    tail: Annotated[int, typer.Option(min=0, metavar="N", help="Only the last N lines; 0: all.")] = 0,
    search: Annotated[
        str,
        typer.Option("--search", "-s", metavar="TEXT", help="Only lines with this text, in whatever case and colours."),
    ] = "",
    from_line: Annotated[
        int, typer.Option(min=0, metavar="NUMBER", show_default=False, help="Begin with this line.")
    ] = 0,
    numbered: Annotated[bool, typer.Option("--line-numbers", "-n", help="Print each line's number.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document a line.")] = False,
) -> None:
    """Print what a training has written, its colours included."""
    platform = connect(context)
    found = pick.job(platform, job)
    printer = _Printer(as_json, numbered)
    if follow:
        first = WatchLogsRequest(job_id=found.job_id, tail=tail, search=search, from_line=from_line)
        _follow(platform, Followed(first), found, printer)
    else:
        request = ReadLogsRequest(job_id=found.job_id, tail=tail, search=search, from_line=from_line)
        _read(platform, request, printer)
    if not printer.lines:
        error_console().print(f"[dim]{escape(_nothing(platform, found, search, from_line))}[/]")


def _nothing(platform: Platform, job: pb.Job, search: str, from_line: int) -> str:
    if job.state in (pb.JOB_STATE_QUEUED, pb.JOB_STATE_ASSIGNED):
        return f"{job.name} has written nothing yet; it has not started."
    try:
        removed_at_ms = platform.metrics.ListSeries(ListSeriesRequest(job_id=job.job_id)).removed_at_ms
    except PlatformError as error:
        if error.code is not grpc.StatusCode.NOT_FOUND:
            raise
        removed_at_ms = 0
    if removed_at_ms:
        return (
            f"The log of {job.name} was removed {fmt.moment(removed_at_ms)}: the platform keeps it for a limited time."
        )
    if search:
        return f"No line of {job.name} has {search!r}."
    return f"{job.name} has no line {from_line:,} yet." if from_line else f"{job.name} has written nothing yet."


def _read(platform: Platform, request: ReadLogsRequest, printer: _Printer) -> None:
    try:
        for response in platform.metrics.ReadLogs(request):
            for line in response.lines:
                printer.line(line)
    except PlatformError as error:
        # The metrics service learns of a job when it first reports.
        if error.code is not grpc.StatusCode.NOT_FOUND:
            raise


def _follow(platform: Platform, followed: Followed, job: pb.Job, printer: _Printer) -> None:
    """Lines until the job is over and its log is quiet."""
    over, quiet_since = job.state in _OVER, PlatformClock().monotonic()
    clock, aside, reconnecting = PlatformClock(), error_console(), False
    job_request = pb.WatchJobsRequest(job_id=job.job_id)
    sources: list[Source[Any]] = [
        Source("lines", lambda: platform.metrics.WatchLogs(followed.request()), optional=True),
        Source("job", lambda: platform.jobs.WatchJobs(job_request)),
    ]
    with Feeds[Any](sources) as feeds:
        while not over or clock.monotonic() - quiet_since < _QUIET_S:
            match feeds.next(timeout_s=0.2):
                case Received(feed="lines", response=WatchLogsResponse() as response):
                    for line in response.lines:
                        if followed.is_new(line):
                            printer.line(line)
                    quiet_since = clock.monotonic() if response.lines else quiet_since
                case Received(feed="job", response=pb.WatchJobsResponse() as response):
                    if reconnecting:
                        aside.print("connected again")
                    reconnecting = False
                    ended = any(one.state in _OVER for one in response.jobs)
                    quiet_since = clock.monotonic() if ended and not over else quiet_since
                    over = over or ended
                case Lost(feed="job") if not reconnecting:
                    reconnecting = True
                    aside.print("reconnecting…")
                case Refused(error=error):
                    raise error
