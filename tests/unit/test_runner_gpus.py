"""Each GPU of a box belongs to one runner."""

import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner_agent.config import BoxConfig, StateFolder
from runner_agent.gpu_claims import Claims, GpuTaken, check_disjoint, check_unclaimed, other_runners

SERVER = "127.0.0.1:1"
BOX = [f"GPU-{number}" for number in range(6)]
gpus = st.lists(st.sampled_from(BOX), unique=True).map(tuple)


def runner(name: str, *uuids: str, simulate: str = "") -> BoxConfig:
    return BoxConfig(name=name, server=SERVER, gpu_uuids=uuids, simulate_gpus=simulate)


@given(wanted=gpus, held=st.lists(gpus, max_size=3))
def test_runners_are_accepted_exactly_where_they_share_no_gpu(
    wanted: tuple[str, ...], held: list[tuple[str, ...]]
) -> None:
    others = [runner(f"r{number}", *uuids) for number, uuids in enumerate(held)]
    shared = set(wanted) & {one for uuids in held for one in uuids}
    if not shared:
        check_disjoint(wanted, others, {})
        return
    with pytest.raises(GpuTaken) as refused:
        check_disjoint(wanted, others, {})
    assert any(one in str(refused.value) for one in shared)


def test_the_refusal_names_gpu_and_runner_and_what_is_free() -> None:
    label = {one: f"{number} (NVIDIA L4, {one})" for number, one in enumerate(BOX[:4])}
    with pytest.raises(GpuTaken) as refused:
        check_disjoint(BOX[:4], [runner("a", "GPU-0"), runner("b", "GPU-2")], label)
    assert str(refused.value) == (
        "the GPU 0 (NVIDIA L4, GPU-0) belongs to the runner a already; choose --gpus 1,3, or uninstall that runner"
    )


def test_a_damaged_neighbour_and_the_runner_itself_hold_nothing_against_it(tmp_path: Path) -> None:
    folders = [StateFolder(tmp_path / name) for name in ("a", "b", "c")]
    for folder in folders:
        folder.root.mkdir()
        folder.save(runner(folder.root.name, "GPU-0"))
    folders[2].config.write_text("name = 3")
    assert [other.name for other in other_runners(folders[0], folders)] == ["b"]
    check_disjoint(["GPU-0"], [runner("b", "GPU-0", simulate="NVIDIA T4:1")], {})


HOLD = """
import sys
from runner_agent.gpu_claims import Claims
claims = Claims()
claims.take(sys.argv[3:], "stop one of the two")
print("claimed", flush=True)
while sys.stdin.readline():
    claims.clear_questions()
    print("cleared", flush=True)
"""


def test_a_claim_is_seen_by_every_process_of_the_box_and_ends_with_its_own(tmp_path: Path) -> None:
    mine, free = (f"GPU-{uuid.uuid4()}" for _ in range(2))
    command = [sys.executable, "-c", HOLD, "--state-dir", str(tmp_path), mine]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stdout.readline() == "claimed\n"
        for _ in range(40):
            # More questions than the holder keeps at once: it clears them in time.
            with pytest.raises(GpuTaken) as refused:
                check_unclaimed([free, mine])
            assert f"the GPU {mine} belongs to the runner in {tmp_path} (pid {holder.pid}) already" in str(
                refused.value
            )
            holder.stdin.write("\n")
            holder.stdin.flush()
            assert holder.stdout.readline() == "cleared\n"
        check_unclaimed([free])
        holder.kill()
    check_unclaimed([free, mine])


def test_what_cannot_be_claimed_as_a_whole_is_not_claimed_at_all() -> None:
    first, second = (f"GPU-{uuid.uuid4()}" for _ in range(2))
    holder, other = Claims(), Claims()
    holder.take([second], "")
    with pytest.raises(GpuTaken, match=str(os.getpid())):
        other.take([first, second], "stop one of the two")
    check_unclaimed([first])
    holder.release()
    other.take([first, second], "")
    other.release()
