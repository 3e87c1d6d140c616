"""A scheduler whose boxes come and go without end does not grow."""

import asyncio
import os
from pathlib import Path
from statistics import linear_regression

import grpc
import pytest

from tests.bench.fleet_client import create_runners, fleet_of
from tests.bench.process_cost import resident_bytes
from tests.support.platform import SharedPlatform
from tests.support.servers import bearer

# A shorter look: TETHER_CHURN_MINUTES=8.
MINUTES = float(os.environ.get("TETHER_CHURN_MINUTES", "30"))
SESSIONS = 1000
# Mean time that a box stays connected: each sends some heartbeats, and the scheduler opens 50 sessions a second.
STAY_S = 20
SAMPLE_S = 5.0
MIB = 1 << 20
# The part at the start in which caches and the allocator's arenas fill.
WARM_UP_SHARE = 1 / 3


@pytest.mark.slow
@pytest.mark.timeout(MINUTES * 60 + 300)
async def test_reconnecting_boxes_do_not_make_the_scheduler_grow(own_platform: SharedPlatform, tmp_path: Path) -> None:
    server = own_platform.endpoints["scheduler"]
    async with grpc.aio.insecure_channel(server) as channel:
        keys = await create_runners(channel, bearer(own_platform.token), SESSIONS)
    samples: list[tuple[float, float]] = []
    async with fleet_of(server, keys, ramp_s=10, churn_s=STAY_S) as fleet:
        await fleet.welcomed(SESSIONS, 120)
        began_s = asyncio.get_running_loop().time()
        while (minutes := (asyncio.get_running_loop().time() - began_s) / 60) < MINUTES:
            samples.append((minutes, resident_bytes(own_platform.pid("scheduler")) / MIB))
            await asyncio.sleep(SAMPLE_S)
        assert fleet.welcomes > SESSIONS * 60 * MINUTES / STAY_S / 3, f"too little churn: {fleet.welcomes} sessions"
    assert own_platform.restarts("scheduler") == 0

    late = [sample for sample in samples if sample[0] >= MINUTES * WARM_UP_SHARE]
    slope = linear_regression(*zip(*late, strict=True)).slope
    print(f"{fleet.welcomes} sessions; {late[0][1]:.1f} to {late[-1][1]:.1f} MiB, {slope:.3f} MiB a minute")
    assert slope < 1, (
        f"{slope:.2f} MiB a minute over the last {MINUTES * (1 - WARM_UP_SHARE):.0f} minutes: {late[::24]}"
    )
