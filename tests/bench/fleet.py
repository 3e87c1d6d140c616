"""A scheduler process and its fleet: what a session and a heartbeat cost, and how soon all are back after its death."""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import grpc
import uvloop

from deploy.local.home import Home
from deploy.local.platform import Platform
from protos.eventlog.v1 import eventlog_pb2
from protos.eventlog.v1.eventlog_pb2_grpc import EventLogServiceStub
from protos.scheduler.v1 import job_pb2, workflow_pb2
from protos.scheduler.v1.job_pb2_grpc import JobServiceStub
from protos.scheduler.v1.workflow_pb2_grpc import WorkflowServiceStub
from tests.bench.fleet_boxes import raise_open_files
from tests.bench.fleet_client import Auth, Fleet, create_runners, fleet_of
from tests.bench.process_cost import cpu_s, resident_bytes
from tests.bench.raw_echo import measure_raw
from tests.support.eventually import eventually
from tests.support.servers import bearer

SESSIONS = 10_000
_JOBS = 200
_RAMP_S = 20
_CONNECT_TIMEOUT_S = 120
_SETTLE_S = 6
_STEADY_S = 20
_RECONNECT_TIMEOUT_S = 120

Report = Callable[[str, float], None]


def run(report: Report, folder: Path, sessions: int = SESSIONS) -> None:
    """sessions, session_kib, heartbeat_cpu_us and reconnect_s; beside them what a bare echo server needs."""
    # The connections of the raw measurement are ours.
    raise_open_files()
    uvloop.run(_measure(report, folder, sessions))


async def _measure(report: Report, folder: Path, sessions: int) -> None:
    await measure_raw(report, sessions)
    async with Platform(Home(folder / "platform")) as platform:
        auth, server = bearer(platform.token), platform.endpoints["scheduler"]
        async with grpc.aio.insecure_channel(server) as channel:
            began = time.perf_counter()
            keys = await create_runners(channel, auth, sessions)
            report("create_runners_per_s", sessions / (time.perf_counter() - began))
        # Afresh, so that what the sessions cost is told apart from what the making of their runners has left behind.
        scheduler = platform.process("scheduler")
        await scheduler.stop()
        await scheduler.start()
        before_bytes = resident_bytes(_pid(platform))
        async with fleet_of(server, keys, _RAMP_S) as fleet:
            await fleet.all_live(sessions, _CONNECT_TIMEOUT_S)
            await asyncio.sleep(_SETTLE_S)
            report("sessions", fleet.live)
            report("heartbeat_cpu_us", await _heartbeat_us(_pid(platform), fleet))
            report("session_kib", (resident_bytes(_pid(platform)) - before_bytes) / sessions / 1024)
            jobs = await _submit(platform, auth, fleet, min(_JOBS, sessions // 2))
            await _reconnect(report, platform, auth, fleet, jobs, sessions)
            report("fleet_late_s", fleet.latest_s)


async def _heartbeat_us(pid: int, fleet: Fleet) -> float:
    """All processor time of a scheduler that only holds sessions, for each acknowledged heartbeat."""
    began_s, before = cpu_s(pid), fleet.acknowledged_heartbeats
    await asyncio.sleep(_STEADY_S)
    return (cpu_s(pid) - began_s) / (fleet.acknowledged_heartbeats - before) * 1e6


async def _submit(platform: Platform, auth: Auth, fleet: Fleet, count: int) -> list[str]:
    """Jobs that run, each on a box of its own."""
    async with grpc.aio.insecure_channel(platform.endpoints["scheduler"]) as channel:
        dataset = workflow_pb2.RegisterDatasetRequest(name="none", location="/none")
        await WorkflowServiceStub(channel).RegisterDataset(dataset, metadata=auth)
        stub, jobs = JobServiceStub(channel), []
        for number in range(count):
            request = job_pb2.SubmitJobRequest(
                dataset_id="none", architecture_id="resnet-tiny", runner_id=f"box-{number}"
            )
            jobs.append((await stub.SubmitJob(request, metadata=auth, timeout=30)).job.job_id)
        await fleet.all_running(count, 30)
    return jobs


async def _reconnect(
    report: Report, platform: Platform, auth: Auth, fleet: Fleet, jobs: Sequence[str], sessions: int
) -> None:
    """Kill the scheduler; its supervisor starts it again, and all boxes come back with what they run."""
    welcomes = fleet.welcomes
    os.kill(_pid(platform), signal.SIGKILL)
    began = time.perf_counter()
    await fleet.losing(sessions, 20)
    await fleet.welcomed(welcomes + sessions, _RECONNECT_TIMEOUT_S)
    await fleet.all_live(sessions, _RECONNECT_TIMEOUT_S)
    report("reconnect_s", time.perf_counter() - began)
    report("reconnect_lost_again", fleet.welcomes - welcomes - sessions)
    assert fleet.stops == 0, f"{fleet.stops} trainings were stopped"
    assert fleet.running == len(jobs), f"{fleet.running} starts of {len(jobs)} trainings"

    async def all_started() -> bool:
        told = await _told(platform, auth)
        return all("JobStarted" in told[job] for job in jobs)

    # A start that was reported just before the kill is reported again.
    await eventually(all_started, 30, "the start of every job")
    _none_lost(await _told(platform, auth), jobs)


async def _told(platform: Platform, auth: Auth) -> dict[str, list[str]]:
    """The names of each job's events, in order."""
    told: dict[str, list[str]] = {}
    async with grpc.aio.insecure_channel(platform.endpoints["eventlog"]) as channel:
        request = eventlog_pb2.ReadEventsRequest(filter=eventlog_pb2.EventFilter(stream_kind="job"))
        pages = EventLogServiceStub(channel).ReadEvents(request, metadata=auth, timeout=60)
        async for page in pages:
            for record in page.events:
                told.setdefault(record.stream_id, []).append(record.type)
    return told


def _none_lost(told: dict[str, list[str]], jobs: Sequence[str]) -> None:
    """Every job was assigned once, started once, and neither ended nor is called unreachable while its box is there."""
    assert told.keys() == set(jobs)
    passing = ("JobUnreachable", "JobReachable")
    wrong = {
        job: types
        for job, types in told.items()
        if [one for one in types if one not in passing] != ["JobSubmitted", "JobAssigned", "JobStarted"]
        or types.count("JobUnreachable") != types.count("JobReachable")
    }
    assert not wrong, f"{len(wrong)} of {len(jobs)} jobs, the first of them {next(iter(wrong.items()))}"


def _pid(platform: Platform) -> int:
    identity = platform.process("scheduler").identity
    assert identity is not None, "the scheduler runs"
    return identity.pid
