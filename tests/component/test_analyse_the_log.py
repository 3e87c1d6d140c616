"""docs/how-to/analyse-the-log.md is run, command by command, against a log whose answers are known."""

import asyncio
import re
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from google.protobuf.message import Message

from protos.eventlog.v1 import eventlog_pb2 as pb
from protos.events.v1 import job_pb2 as job
from protos.events.v1 import runner_pb2 as runner
from protos.events.v1 import workspace_pb2 as workspace
from protos.training.v1.training_pb2 import EndReason
from services.eventlog import bootstrap
from services.ids import sha256
from tests.support.cli import Cli
from tests.support.filled_log import fill, numbered
from tests.support.histories import record
from tests.support.platform import DatabaseUrls
from tests.support.servers import eventlog_settings, running

PAGE = Path(__file__).parent.parent.parent / "docs" / "how-to" / "analyse-the-log.md"
ANALYST = "tt_of_the_laboratory"
_LAB, _ATTIC = "rn_lab", "rn_attic"
_NAMES = {_LAB: "lab", _ATTIC: "attic"}
# A T4 and an A10G.
_RATES = {_LAB: 1_000_000, _ATTIC: 2_500_000}


def at_ms(day: str, time: str) -> int:
    return int(datetime.fromisoformat(f"2026-{day}T{time}Z").timestamp()) * 1000


class Laboratory:
    """Tells a history; `records` puts it in order."""

    def __init__(self) -> None:
        self._told: list[pb.EventRecord] = []

    def say(self, when_ms: int, stream: tuple[str, str], event: Message, actor: str = "service:scheduler") -> None:
        self._told.append(record(1, event, stream, at_ms=when_ms, workspace_id="ws_lab", actor=actor))

    def start(self, job_id: str, person: str, where: str, start_ms: int) -> None:
        """Submitted, assigned and started."""
        stream, attempt = ("job", job_id), f"at_{job_id}"
        self.say(start_ms - 2000, stream, job.JobSubmitted(name=job_id), f"token:{person}")
        assigned = job.JobAssigned(
            attempt_id=attempt, runner_id=where, runner_name=_NAMES[where], rate_micros=_RATES[where]
        )
        self.say(start_ms - 1000, stream, assigned)
        self.say(start_ms + 500, stream, job.JobStarted(attempt_id=attempt, started_at_ms=start_ms))

    def lapse(self, job_id: str, from_ms: int, minutes: int) -> None:
        """Cut off and heard again."""
        stream, attempt = ("job", job_id), f"at_{job_id}"
        unreachable = job.JobUnreachable(
            attempt_id=attempt, last_contact_at_ms=from_ms, deadline_at_ms=from_ms + 900_000
        )
        self.say(from_ms + 15_000, stream, unreachable)
        heard_ms = from_ms + minutes * 60_000
        self.say(heard_ms, stream, job.JobReachable(attempt_id=attempt, cut_off_ms=heard_ms - from_ms))

    def end(
        self, job_id: str, event: job.JobFinished | job.JobFailed | job.JobKilled, start_ms: int, until_ms: int
    ) -> None:
        event.attempt_id = f"at_{job_id}"
        event.interval.started_at_ms, event.interval.charged_until_ms = start_ms, until_ms
        event.interval.ended_at_ms = until_ms
        self.say(until_ms + 1000, ("job", job_id), event)

    def flap(self, where: str, first_ms: int, times: int) -> None:
        """Lost and found again, ten minutes apart; each silence two seconds longer than 15 s, the sixth the longest."""
        for number in range(times):
            gone_ms = first_ms + number * 600_000
            silent_ms = 15_000 + (11_000 if number == 5 else 100 * number)
            gone = runner.RunnerDisconnected(epoch=number + 1, last_contact_at_ms=gone_ms - silent_ms)
            self.say(gone_ms, ("runner", where), gone)
            self.say(gone_ms + 3000, ("runner", where), runner.RunnerConnected(agent_version="1"))

    def records(self) -> list[pb.EventRecord]:
        return numbered(sorted(self._told, key=lambda one: one.recorded_at_us))


def laboratory() -> list[pb.EventRecord]:
    lab = Laboratory()
    stream = ("workspace", "ws_lab")
    founded_ms = at_ms("10-30", "09:00:00")
    token = workspace.TokenCreated(token_id="tok_x", role=workspace.ROLE_ANALYST, token_sha256=sha256(ANALYST))
    lab.say(founded_ms, stream, token)
    for where, name in _NAMES.items():
        lab.say(founded_ms, ("runner", where), runner.RunnerRegistered(name=name))
    # Over a month's end, which is no week's end.
    start_ms, until_ms = at_ms("10-31", "23:55:00"), at_ms("11-01", "01:05:00")
    lab.start("jb_1", "tok_ada", _LAB, start_ms)
    lab.end("jb_1", job.JobFinished(), start_ms, until_ms)
    # With two lapses of five minutes.
    start_ms, until_ms = at_ms("11-03", "10:00:00"), at_ms("11-03", "20:00:00")
    lab.start("jb_2", "tok_ada", _LAB, start_ms)
    lab.lapse("jb_2", at_ms("11-03", "12:00:00"), 5)
    lab.lapse("jb_2", at_ms("11-03", "13:00:00"), 5)
    lab.end("jb_2", job.JobFinished(), start_ms, until_ms)
    # Failed at once.
    start_ms = at_ms("11-04", "12:00:00")
    lab.start("jb_3", "tok_ada", _ATTIC, start_ms)
    lab.end("jb_3", job.JobFailed(reason=EndReason.END_REASON_CONFIGURATION), start_ms, start_ms)
    # Over a week's end: two hours before, 65 minutes after.
    start_ms, until_ms = at_ms("11-08", "22:00:00"), at_ms("11-09", "01:05:00")
    lab.start("jb_4", "tok_bo", _LAB, start_ms)
    lab.end("jb_4", job.JobFinished(), start_ms, until_ms)
    # Never heard of again: 159 minutes at 2.5, the last 15 of them presumed.
    start_ms, contact_ms = at_ms("11-10", "08:00:00"), at_ms("11-10", "10:24:00")
    lab.start("jb_5", "tok_bo", _ATTIC, start_ms)
    lost = job.JobUnreachable(attempt_id="at_jb_5", last_contact_at_ms=contact_ms, deadline_at_ms=contact_ms + 900_000)
    lab.say(contact_ms + 15_000, ("job", "jb_5"), lost)
    presumed = job.JobKilled(reason=EndReason.END_REASON_CONNECTION_LOST)
    presumed.interval.presumed = True
    lab.end("jb_5", presumed, start_ms, contact_ms + 900_000)
    lab.flap(_ATTIC, at_ms("11-10", "12:00:00"), 12)
    lab.flap(_LAB, at_ms("11-11", "12:00:00"), 3)
    return lab.records()


@dataclass(frozen=True)
class Step:
    """What is run, and what the page says that it prints."""

    command: list[str]
    output: list[str]


def steps(page: str) -> list[Step]:
    """The page's commands and programs, in order."""
    found: list[Step] = []
    for language, block in re.findall(r"^```(\w+)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
        lines = block.splitlines()
        if language == "python":
            found.append(Step([sys.executable, "-c", block], []))
        elif language == "text":
            found.append(Step(found.pop().command, lines))
        else:
            assert (language, lines[0][:2]) == ("console", "$ "), block
            more = [line[2:] for line in lines[1:] if line.startswith("> ")]
            printed = [line for line in lines[1:] if not line.startswith("> ")]
            found.append(Step(["bash", "-c", "\n".join([lines[0][2:], *more])], printed))
    return found


async def test_the_page_prints_what_it_says_and_what_is_true(database: DatabaseUrls, tmp_path: Path) -> None:
    await fill(database, laboratory())
    programs, work = tmp_path / "bin", tmp_path / "work"
    for folder in (programs, work):
        folder.mkdir()
    (programs / "tether").write_text(f'#!/bin/sh\nexec {sys.executable} -m services.cli "$@"\n')
    (programs / "tether").chmod(0o755)
    root = str(PAGE.parent.parent.parent)
    async with running(bootstrap.serve, eventlog_settings(database.eventlog)) as address:
        services = dict.fromkeys(("scheduler", "quota", "metrics", "eventlog"), address)
        tether = Cli(tmp_path / "home", ANALYST, services)
        environment = {**tether.environment, "PATH": f"{programs}:{tether.environment['PATH']}", "PYTHONPATH": root}
        run = steps(PAGE.read_text())
        assert len(run) == 7
        for step in run:
            process = await asyncio.create_subprocess_exec(
                *step.command, cwd=work, env=environment, stdout=-1, stderr=-1
            )
            async with asyncio.timeout(60):
                out, error = await process.communicate()
            assert process.returncode == 0, f"{step.command[-1]}\n{error.decode()}"
            printed = "\n".join(line.rstrip() for line in out.decode().splitlines())
            assert printed == "\n".join(step.output), f"{step.command[-1]}\nprints\n{printed}"


def test_the_answers_on_the_page_are_those_of_the_story() -> None:
    """By hand, in minutes, from the comments of the story: what the page must say."""
    page = PAGE.read_text()
    ada_october, ada_november_1 = 5, 65
    bo_before_monday, bo_after_monday, bo_lost = 120, 65, 159 * 2.5
    assert re.search(rf"2026-10 +{ada_october}\.0$", page, re.MULTILINE)
    november = ada_november_1 + 600 + bo_before_monday + bo_after_monday + bo_lost
    assert re.search(rf"2026-11 +{november}$", page, re.MULTILINE)
    assert re.search(rf"2026-11-09 +token:tok_bo +{bo_after_monday + bo_lost}$", page, re.MULTILINE)
    assert re.search(rf"attic +1 +{15 * 2.5} +{15 * 2.5}$", page, re.MULTILINE)
    monday = datetime(2026, 11, 9, tzinfo=UTC)
    assert monday.weekday() == 0
    assert (monday - timedelta(days=14)).strftime("%m-%d") == "10-26"
