"""Follows one job to its end: drawn in a terminal, as lines in a pipe. Survives restarts of the platform."""

import sys
from collections.abc import Callable
from typing import Any, Protocol

from protos.metrics.v1.metrics_pb2 import WatchMetricsRequest, WatchMetricsResponse
from protos.scheduler.v1 import job_pb2 as pb
from services.cli import live_view
from services.cli.connection import Platform
from services.cli.feed import Feeds, Lost, Received, Refused, Source
from services.cli.live_state import LiveState
from services.cli.output import console, error_console
from services.clock import PlatformClock
from services.words.format import clock_time, short_id

_REDRAW_S = 0.125
_LINE_INTERVAL_S = 1.0
# A line all the same, so that a log shows that the job lives.
_SILENCE_S = 60.0
# Points of each series that were stored before the view opened.
_HISTORY_POINTS = 500
# Items that may be taken before the view is drawn again.
_MAX_ITEMS = 200


class View(Protocol):
    def update(self, state: LiveState) -> None:
        """Show the state; called several times a second, whether it changed or not."""
        ...


def watch(platform: Platform, job: pb.Job, *, quiet: bool = False) -> pb.Job:
    """Show the job until it is over and return how it ended. Ctrl-C leaves the job alone, says so, and goes on as
    KeyboardInterrupt. `quiet` shows nothing."""
    state = LiveState(job)
    try:
        if quiet:
            _follow(platform, state, _Silent())
        elif sys.stdout.isatty():
            with _Drawn() as drawn:
                _follow(platform, state, drawn)
            console().print(live_view.summary(state))
        else:
            _follow(platform, state, _Lines(print))
            console().print(live_view.summary(state))
    except KeyboardInterrupt:
        name = short_id(job.job_id)
        error_console().print(
            f"\nThe training goes on.\n"
            f"  watch it again   tether jobs watch {name}\n"
            f"  stop it          tether jobs stop {name}"
        )
        raise
    return state.job


def exit_code(job: pb.Job) -> int:
    return 0 if job.state == pb.JOB_STATE_FINISHED else 1


def _follow(platform: Platform, state: LiveState, view: View) -> None:
    job_id = state.job.job_id
    jobs: Source[Any] = Source("job", lambda: platform.jobs.WatchJobs(pb.WatchJobsRequest(job_id=job_id)))
    curves: Source[Any] = Source(
        "curves",
        lambda: platform.metrics.WatchMetrics(WatchMetricsRequest(job_id=job_id, max_points=_HISTORY_POINTS)),
        optional=True,
    )
    with Feeds[Any]([jobs, curves]) as feeds:
        while not state.over:
            item = feeds.next(_REDRAW_S)
            for _ in range(_MAX_ITEMS):
                if item is None:
                    break
                _take(state, item)
                item = feeds.next(0) if not state.over else None
            view.update(state)


def _take(state: LiveState, item: object) -> None:
    match item:
        case Received(feed="job", response=pb.WatchJobsResponse() as response):
            state.reconnecting = False
            for job in response.jobs:
                state.take_job(job)
        case Received(feed="curves", response=WatchMetricsResponse() as response, fresh=fresh):
            state.take_series(response.series, fresh)
        case Lost(feed="job"):
            state.reconnecting = True
        case Refused(feed="job", error=error):
            raise error


class _Silent:
    def update(self, state: LiveState) -> None:
        pass


class _Drawn:
    """Draws in place, and is gone at the end."""

    def __init__(self) -> None:
        from rich.live import Live
        from rich.spinner import Spinner

        self._clock = PlatformClock()
        self._spinner = Spinner("dots", style="cyan")
        self._live = Live(console=console(), auto_refresh=False, transient=True)

    def __enter__(self) -> "_Drawn":
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def update(self, state: LiveState) -> None:
        self._live.update(live_view.panel(state, self._clock.now_ms(), self._spinner), refresh=True)


class _Lines:
    """A line for each change of state and each evaluation, at most one a second of the latter."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say, self._clock = say, PlatformClock()
        self._said = ""
        self._said_at = float("-inf")
        self._state: int | None = None
        self._warned = 0
        self._reconnecting = False

    def update(self, state: LiveState) -> None:
        now_ms, now = self._clock.now_ms(), self._clock.monotonic()
        for warning in state.job.warnings[self._warned :]:
            self._line(now_ms, f"warning: {warning}")
        self._warned = max(self._warned, len(state.job.warnings))
        if state.reconnecting != self._reconnecting:
            self._reconnecting = state.reconnecting
            self._line(now_ms, "reconnecting…" if state.reconnecting else "connected again")
        line = live_view.plain(state)
        silent_s = now - self._said_at
        same = line == self._said and silent_s < _SILENCE_S
        if same or (state.job.state == self._state and silent_s < _LINE_INTERVAL_S):
            return
        if line == self._said and state.step:
            line = f"{line}  now at step {state.step:,}"
        self._said, self._said_at, self._state = live_view.plain(state), now, state.job.state
        self._line(now_ms, line + live_view.plain_figures(state, now_ms))

    def _line(self, now_ms: int, line: str) -> None:
        self._say(f"{clock_time(now_ms)}  {line}")
        sys.stdout.flush()
