"""Tether's services through a real Envoy: as a browser calls them, as the command line does, and as a box does."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import pytest
from google.rpc.status_pb2 import Status
from grpc_health.v1 import health_pb2, health_pb2_grpc

from protos.common.v1.errors_pb2 import BadCredentials
from protos.metrics.v1 import metrics_pb2
from protos.scheduler.v1 import access_pb2, job_pb2, runner_pb2
from protos.scheduler.v1 import session_pb2 as session
from protos.scheduler.v1.runner_pb2_grpc import RunnerServiceStub
from tests.support import grpc_web
from tests.support.box import Box
from tests.support.control import Control, control_plane
from tests.support.eventually import eventually
from tests.support.gateway import Gateway, gateway_before
from tests.support.loop_thread import LoopThread
from tests.support.metrics_service import ATTEMPT, JOB, TOKEN, Metrics, batch, line, log_of, point, serving
from tests.support.platform import DatabaseUrls

_WHO_AM_I = "/tether.scheduler.v1.AccessService/WhoAmI"
# Where a box sends what its training reports, unless it came through the gateway.
_METRICS = "127.0.0.1:9"
_WATCH = "/tether.scheduler.v1.RunnerService/WatchRunners"


@pytest.fixture
async def control(database: DatabaseUrls) -> AsyncIterator[Control]:
    async with control_plane(database, ingest_address=_METRICS) as control:
        yield control


@pytest.fixture
def gateway(shared_loop: LoopThread, control: Control, tmp_path: Path) -> Iterator[Gateway]:
    scheduler = control.address
    with gateway_before(shared_loop, tmp_path, scheduler=scheduler, eventlog=control.eventlog_address) as gateway:
        yield gateway


async def test_a_browser_calls_and_watches_over_http_1(control: Control, gateway: Gateway) -> None:
    answer = await asyncio.to_thread(
        grpc_web.call, gateway.address, _WHO_AM_I, access_pb2.WhoAmIRequest(), control.token
    )
    assert (answer.status, answer.grpc_status) == (200, 0)
    assert access_pb2.WhoAmIResponse.FromString(*answer.messages).workspace_id == control.workspace_id
    assert answer.headers["content-type"] == "application/grpc-web+proto"
    assert "content-encoding" not in answer.headers

    await control.create_runner("box")
    request = runner_pb2.WatchRunnersRequest()
    watch = await asyncio.to_thread(grpc_web.WebCall, gateway.address, _WATCH, request, control.token)
    frames = watch.frames()
    for name in ("box", "another"):
        if name != "box":
            await control.create_runner(name)
        seen = runner_pb2.WatchRunnersResponse.FromString(await asyncio.to_thread(next, frames))
        assert [runner.name for runner in seen.runners] == [name]
    watch.close()


async def test_a_browser_learns_why_it_is_refused(control: Control, gateway: Gateway) -> None:
    answer = await asyncio.to_thread(grpc_web.call, gateway.address, _WHO_AM_I, access_pb2.WhoAmIRequest(), "tt_wrong")
    assert answer.grpc_status == grpc.StatusCode.UNAUTHENTICATED.value[0]
    assert "token" in answer.trailers["grpc-message"]
    (detail,) = Status.FromString(answer.detail()).details
    assert detail.Is(BadCredentials.DESCRIPTOR)
    line = await eventually(
        lambda: [line for line in gateway.log() if line.get("path") == _WHO_AM_I], 10, "the call in the access log"
    )
    assert line[0]["grpc_status"] == "UNAUTHENTICATED"
    assert "tt_wrong" not in gateway.supervised.log.read_text()


async def test_a_box_and_its_training_go_through_the_gateway(control: Control, gateway: Gateway) -> None:
    created = await control.create_runner()
    await control.dataset()
    async with grpc.aio.insecure_channel(gateway.address) as channel:
        runners = RunnerServiceStub(channel)
        assert len((await runners.ListRunners(runner_pb2.ListRunnersRequest(), metadata=control.auth)).runners) == 1
        box = Box(channel, created.secret_key)
        assert (await box.connect()).ingest_address == ""
        job = await control.submit()
        attempt = await box.assignment()
        assert attempt.job_id == job.job_id
        await box.report(attempt, 1, started=session.Started(weights="random"))
        for sequence in range(1, 4):
            await box.say(session.ConnectRequest(heartbeat=session.Heartbeat(sequence=sequence)))
            assert (await box.next("heartbeat_ack")).heartbeat_ack.sequence == sequence
        assert (await control.job(job.job_id)).state == job_pb2.JOB_STATE_RUNNING
        await box.close()
    direct = Box(control.channel, created.secret_key)
    assert (await direct.connect()).ingest_address == _METRICS
    await direct.close()


async def test_health_and_reflection_are_the_schedulers(control: Control, gateway: Gateway) -> None:
    async with grpc.aio.insecure_channel(gateway.address) as channel:
        answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_what_a_training_reports_is_stored_and_read_through_the_gateway(
    database: DatabaseUrls, shared_loop: LoopThread, tmp_path: Path
) -> None:
    async with log_of(database) as log, serving(database) as metrics:
        await log.people()
        await log.job(JOB, ATTEMPT)
        with gateway_before(shared_loop, tmp_path, metrics=f"127.0.0.1:{metrics.port}") as gateway:
            async with grpc.aio.insecure_channel(gateway.address) as channel:
                through = Metrics(gateway.port, channel)
                answers = await through.report(
                    batch(1, [point(step, loss=1 / step) for step in range(1, 501)]),
                    batch(501, [point(step, loss=1 / step) for step in range(501, 1001)]),
                )
                assert [answer.acknowledged_sequence for answer in answers] == [500, 1000]
                # A megabyte of lines: more than one window of HTTP/2.
                await through.report(batch(1, [line("x" * 1_000) for _ in range(1_000)], "log"))
                assert len(await through.lines()) == 1_000
            request = metrics_pb2.QueryMetricsRequest(job_id=JOB, names=["loss"], max_points=2_000)
            method = "/tether.metrics.v1.MetricsService/QueryMetrics"
            answer = await asyncio.to_thread(grpc_web.call, gateway.address, method, request, TOKEN)
            assert answer.grpc_status == 0
            (series,) = metrics_pb2.QueryMetricsResponse.FromString(*answer.messages).series
            assert len(series.steps) == 1_000
