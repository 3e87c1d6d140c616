"""Symbols of states, always beside the word."""

from typing import TYPE_CHECKING

from protos.events.v1.runner_pb2 import RunnerStatus
from protos.scheduler.v1.job_pb2 import Job, JobState
from protos.scheduler.v1.runner_pb2 import Runner
from services.words import format as fmt

if TYPE_CHECKING:
    from rich.text import Text

_RUNNERS = {
    RunnerStatus.RUNNER_STATUS_ONLINE: ("🟢", "green"),
    RunnerStatus.RUNNER_STATUS_SUSPENDED: ("🟠", "yellow"),
    RunnerStatus.RUNNER_STATUS_OCCUPIED: ("🔴", "red"),
    RunnerStatus.RUNNER_STATUS_OFFLINE: ("⚫", "dim"),
}
_JOBS = {
    JobState.JOB_STATE_QUEUED: ("◌", "yellow"),
    JobState.JOB_STATE_ASSIGNED: ("◔", "cyan"),
    JobState.JOB_STATE_RUNNING: ("●", "bold green"),
    JobState.JOB_STATE_STOPPING: ("◑", "yellow"),
    JobState.JOB_STATE_FINISHED: ("✔", "green"),
    JobState.JOB_STATE_FAILED: ("✘", "red"),
    JobState.JOB_STATE_KILLED: ("■", "magenta"),
}


def runner_status(runner: Runner, now_ms: int) -> "Text":
    """`🔴 OCCUPIED · cut off · 12:31 left`."""
    from rich.text import Text

    symbol, style = _RUNNERS.get(runner.status, ("?", ""))
    text = Text(f"{symbol} ").append(fmt.label(RunnerStatus, runner.status, "RUNNER_STATUS_"), style)
    if runner.deadline_at_ms and runner.status == RunnerStatus.RUNNER_STATUS_OCCUPIED:
        text.append(f" · cut off · {fmt.duration(runner.deadline_at_ms - now_ms)} left", "bold yellow")
    return text


def job_state(job: Job, now_ms: int, *, why: bool = True) -> "Text":
    """`● RUNNING · cut off · 12:31 left`; `why` tells the reason of an end that is not FINISHED."""
    from rich.text import Text

    from services.words.events import reason

    symbol, style = _JOBS.get(job.state, ("?", ""))
    text = Text(f"{symbol} {fmt.label(JobState, job.state, 'JOB_STATE_')}", style)
    if again := attempt(job):
        text.append(f" · {again}")
    if job.stalled_since_ms and now_ms:
        text.append(f" · ⚠ no step for {fmt.whole_minutes(now_ms - job.stalled_since_ms)}", "bold yellow")
    if job.deadline_at_ms and job.state in (JobState.JOB_STATE_RUNNING, JobState.JOB_STATE_STOPPING):
        text.append(f" · cut off · {fmt.duration(job.deadline_at_ms - now_ms)} left", "bold yellow")
    elif why and job.reason and job.state != JobState.JOB_STATE_FINISHED:
        text.append(f" · {reason(job.reason)}")
    return text


def attempt(job: Job) -> str:
    """`attempt 2 of 3`, `waits for attempt 2 of 3`; empty for the first, which most jobs finish in."""
    of = job.spec.limits.retries + 1
    if job.state == JobState.JOB_STATE_QUEUED and job.attempt:
        return f"waits for attempt {job.attempt + 1} of {of}"
    return f"attempt {job.attempt} of {of}" if job.attempt > 1 else ""
