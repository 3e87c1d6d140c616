"""Secret keys: exchanged at once or with an overlap, and told truthfully where that ends a training."""

import grpc
import pytest

from protos.events.v1.runner_pb2 import RunnerStatus
from protos.scheduler.v1 import runner_pb2
from protos.scheduler.v1.session_pb2 import ConnectRequest, Heartbeat
from tests.support.box import Box
from tests.support.control import Control, control_plane
from tests.support.eventually import eventually
from tests.support.platform import DatabaseUrls


async def regenerate(control: Control, **more: object) -> str:
    request = runner_pb2.RegenerateSecretKeyRequest(runner_id="box", **more)
    return (await control.runners.RegenerateSecretKey(request, metadata=control.auth)).secret_key


async def test_a_regenerated_key_closes_the_session_and_the_new_one_opens_the_next(database: DatabaseUrls) -> None:
    async with control_plane(database) as control:
        created = await control.create_runner()
        box = Box(control.channel, created.secret_key)
        await box.connect()
        key = await regenerate(control)
        goodbye = (await box.next("goodbye")).goodbye
        assert (goodbye.reconnect, "reauth" in goodbye.reason) == (False, True)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await Box(control.channel, created.secret_key).connect()
        assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED
        again = Box(control.channel, key)
        assert (await again.connect()).epoch > 2
        assert (await control.runner()).status == RunnerStatus.RUNNER_STATUS_ONLINE


async def test_in_an_overlap_both_keys_work_and_after_it_only_the_new_one(database: DatabaseUrls) -> None:
    async with control_plane(database) as control:
        created = await control.create_runner()
        box = Box(control.channel, created.secret_key)
        await box.connect()
        key = await regenerate(control, overlap_ms=1500)
        await box.say(ConnectRequest(heartbeat=Heartbeat(sequence=1)))
        assert (await box.next("heartbeat_ack")).heartbeat_ack.sequence == 1
        assert (await box.next("goodbye")).goodbye.reconnect is False

        async def old_key_refused() -> bool:
            try:
                await Box(control.channel, created.secret_key).connect()
            except grpc.aio.AioRpcError as error:
                return error.code() == grpc.StatusCode.UNAUTHENTICATED
            return False

        await eventually(old_key_refused)
        await Box(control.channel, key).connect()
