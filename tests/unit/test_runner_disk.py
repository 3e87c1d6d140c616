"""What the box keeps on disk is read rightly after a crash, a reboot and a torn write."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos.scheduler.v1 import session_pb2
from protos.training.v1 import training_pb2
from runner_agent import files, inventory
from runner_agent.attempts import AttemptFolder, lost_end
from runner_agent.config import StateFolder, parse_server
from runner_agent.errors import BoxError
from runner_agent.facts import Fact, to_report
from runner_agent.keeper_messages import Anchor
from runner_agent.keeper_trainer import Lines
from runner_agent.session_messages import Place
from runner_agent.spool import BATCH_RECORDS, Spool

ANCHOR = Anchor(at_ms=1_700_000_000_000, boottime_ns=50_000_000_000)


def phase(**more: Any) -> dict[str, Any]:
    return {"phase": "running", "boot_id": "old", "started_boottime_ns": 5, **more}


def test_the_last_stamp_is_the_end_of_a_training_that_a_reboot_has_ended() -> None:
    end = lost_end(phase(), {"boot_id": "old", "boottime_ns": 77, "step": 12, "epoch": 2}, "new", 3)
    assert (end["outcome"], end["reason"]) == ("KILLED", "END_REASON_HOST_REBOOTED")
    assert (end["boot_id"], end["boottime_ns"], end["started_boottime_ns"]) == ("old", 77, 5)
    assert (end["steps"], end["epochs"]) == (12, 2)


def test_a_stop_that_had_begun_keeps_its_reason_whatever_killed_the_keeper() -> None:
    stopping = phase(stop_reason="END_REASON_CONNECTION_LOST", stop_message="cut off", stop_began_boottime_ns=80)
    end = lost_end(stopping, {"boot_id": "old", "boottime_ns": 77}, "new", 3)
    assert (end["reason"], end["stop_began_boottime_ns"], end["boottime_ns"]) == ("END_REASON_CONNECTION_LOST", 80, 80)


def test_a_moment_before_the_anchor_is_told_with_a_negative_distance() -> None:
    content = {"fact": "started", "boottime_ns": 49_500_000_000, "weights": "random"}
    report = to_report("a1", "j1", Fact(1, content), ANCHOR)
    assert (report.started.at.anchor_at_ms, report.started.at.elapsed_ms) == (ANCHOR.at_ms, -500)


def test_a_start_tells_what_the_model_began_with() -> None:
    content = {
        "fact": "started",
        "boottime_ns": 0,
        "weights": "hub/net",
        "weights_source": "WEIGHTS_SOURCE_PRETRAINED",
        "warnings": ["a", "b"],
        "batch_size": 48,
    }
    started = to_report("a1", "j1", Fact(1, content), ANCHOR).started
    assert (started.weights, started.weights_source) == ("hub/net", training_pb2.WEIGHTS_SOURCE_PRETRAINED)
    assert (list(started.warnings), started.batch_size) == (["a", "b"], 48)


@pytest.mark.parametrize(
    "told",
    [
        {"weights_source": "WEIGHTS_SOURCE_NEW"},
        {"weights_source": []},
        {"warnings": "one"},
        {"warnings": [1, {}]},
        {"batch_size": float("nan")},
        {"batch_size": 1 << 80},
        {"weights": None},
        {"weights": 7},
    ],
)
def test_a_start_that_tells_nonsense_is_a_start_all_the_same(told: dict[str, Any]) -> None:
    content = {"fact": "started", "boottime_ns": 49_500_000_000, "weights": "random", **told}
    report = to_report("a1", "j1", Fact(1, content), ANCHOR)
    assert (report.WhichOneof("fact"), report.started.at.elapsed_ms) == ("started", -500)


@pytest.mark.parametrize("content", [{}, {"fact": "ended"}, {"fact": "checkpoint", "checkpoint": {"step": []}}])
def test_a_fact_that_cannot_be_read_becomes_an_empty_report(content: dict[str, Any]) -> None:
    report = to_report("a1", "j1", Fact(4, content), ANCHOR)
    assert report.WhichOneof("fact") is None
    assert report.sequence == 4


def test_an_unknown_reason_counts_as_the_boxs_fault() -> None:
    content = {"fact": "ended", "outcome": "FAILED", "reason": "END_REASON_NEW", "boottime_ns": 0}
    assert to_report("a1", "j1", Fact(1, content), ANCHOR).ended.reason == training_pb2.END_REASON_INFRASTRUCTURE


def test_an_attempt_that_was_ended_before_its_start_can_never_start(tmp_path: Path) -> None:
    folder = AttemptFolder(tmp_path, "a1")
    folder.make(session_pb2.Assignment(attempt_id="a1", job_id="j1", window_ms=5_000))
    assert folder.record(1).place is Place.WAITING
    folder.write_end("boot", 9, "KILLED", "END_REASON_STOPPED_BY_PERSON", "")
    with pytest.raises(FileExistsError):
        files.create_once(folder.path / "phase.json", b"{}")
    record = AttemptFolder(tmp_path, "a1").record(1)
    assert (record.place, record.read, record.window_ns) == (Place.GONE, 1, 5_000_000_000)
    folder.save_settled(1)
    assert folder.told()
    assert [fact.sequence for fact in folder.record(1, again=True).facts] == [1]


@pytest.mark.parametrize("name", ["", "..", "a/b", "a" * 101, "a\0"])
def test_an_attempt_id_never_leaves_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="not an attempt id"):
        AttemptFolder(tmp_path, name)


@given(cut=st.integers(0, 60), records=st.integers(0, 5))
def test_a_torn_last_line_is_never_read_and_the_next_fact_replaces_it(
    tmp_path_factory: pytest.TempPathFactory, cut: int, records: int
) -> None:
    path = tmp_path_factory.mktemp("facts") / "facts.jsonl"
    for number in range(records):
        files.append(path, json.dumps({"number": number}).encode() + b"\n")
    with path.open("ab") as file:
        file.write(b'{"torn": "' + b"x" * cut)
    assert [line["number"] for line in files.read_json_lines(path)] == list(range(records))
    files.append(path, b'{"number": "last"}\n')
    assert [line["number"] for line in files.read_json_lines(path)] == [*range(records), "last"]


def test_a_spool_is_read_on_from_its_mark_and_keeps_its_numbers_over_bad_lines(tmp_path: Path) -> None:
    path = tmp_path / "trainer.jsonl"
    good = json.dumps({"at_ms": 7, "points": {"step": 1, "values": {"loss": "NaN"}}})
    path.write_text(f"{good}\nnot json\n[]\n\n{good}\n{good[:20]}")
    spool = Spool(tmp_path, "trainer")
    batch = spool.read(spool.acknowledged)
    assert batch is not None
    assert [record.at_ms for record in batch.records] == [7, 0, 0, 0, 7]
    assert (batch.first_sequence, batch.end.sequence) == (1, 5)
    spool.acknowledge(batch.end)
    again = Spool(tmp_path, "trainer")
    assert again.read(again.acknowledged) is None
    with path.open("a") as file:
        file.write(good[20:] + "\n")
    rest = again.read(again.acknowledged)
    assert rest is not None
    assert (rest.first_sequence, rest.records[0].at_ms) == (6, 7)


def test_a_batch_is_bounded_and_a_long_record_still_passes(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text("{}\n" * (BATCH_RECORDS + 5))
    spool = Spool(tmp_path, "log")
    first = spool.read(spool.acknowledged)
    assert first is not None
    assert len(first.records) == BATCH_RECORDS
    second = spool.read(first.end)
    assert second is not None
    assert second.first_sequence == BATCH_RECORDS + 1
    path.write_text(json.dumps({"log_line": {"text": "x" * 3_000_000}}) + "\n")
    long = spool.read(spool.acknowledged)
    assert long is not None
    assert len(long.records[0].log_line.text) == 3_000_000


@given(st.lists(st.binary(max_size=50), max_size=20), st.integers(1, 9))
def test_lines_are_cut_and_lose_nothing(chunks: list[bytes], limit: int) -> None:
    lines = Lines(limit)
    found = [line for chunk in chunks for line in lines.feed(chunk)] + list(lines.end())
    assert all(len(line) <= limit for line in found)
    assert b"".join(found) == b"".join(chunks).replace(b"\n", b"")


@pytest.mark.parametrize("text", ["", "host", "host:0x", "host:99999", "ftp://host:1", "http://host:1/path", ":1"])
def test_a_server_that_is_no_address_is_named_in_the_error(text: str) -> None:
    with pytest.raises(ValueError, match="is not an address"):
        parse_server(text)


def test_a_server_address_is_plain_or_tls() -> None:
    assert parse_server("127.0.0.1:5").loopback
    assert not parse_server("https://tether.example:5").loopback
    assert parse_server("https://tether.example:5").tls
    assert parse_server("[::1]:5").target == "[::1]:5"


def test_simulated_gpus_are_marked_by_their_uuid_and_have_their_types_memory() -> None:
    gpus = inventory.simulated_gpus("NVIDIA A10G:2", "abcdefghij")
    assert [gpu.uuid for gpu in gpus] == ["SIMULATED-abcdefgh-0", "SIMULATED-abcdefgh-1"]
    assert {gpu.vram_bytes for gpu in gpus} == {24 * inventory.GIB}
    for wrong in ("", ":2", "NVIDIA A10G:0", "NVIDIA A10G:x", "Voodoo"):
        with pytest.raises(BoxError):
            inventory.simulated_gpus(wrong, "")


def test_sockets_move_to_a_private_folder_where_the_state_path_is_too_long(tmp_path: Path) -> None:
    deep = StateFolder(tmp_path / ("x" * 120))
    folder = deep.make_keepers()
    try:
        assert len(str(folder / f"{'x' * 16}.sock")) < 108
        assert folder.stat().st_mode & 0o077 == 0
        folder.chmod(0o755)
        with pytest.raises(BoxError, match="not private"):
            deep.make_keepers()
    finally:
        folder.rmdir()
