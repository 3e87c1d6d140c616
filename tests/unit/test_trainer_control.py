"""What keeper and trainer say, and what goes to the spool."""

import json
import math
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st

from protos.metrics.v1 import ingest_pb2
from runner_agent.trainer.control import Control, Release, StopRequest, wait_for_release
from runner_agent.trainer.spool import Spool, numbers


@pytest.fixture
def stop() -> Iterator[StopRequest]:
    before = signal.getsignal(signal.SIGTERM)
    yield StopRequest()
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGTERM, before)


def test_a_release_may_come_in_pieces(stop: StopRequest) -> None:
    reader, writer = os.pipe()
    for piece in (b'{"attempt_id": "a", "job_id": "j", ', b'"directory": "/d", "simulated": true, "gpu_uuids": []}\n'):
        os.write(writer, piece)
    line = wait_for_release(reader, stop)
    assert line is not None
    assert Release.parse(line) == Release("a", "j", Path("/d"), True, ())


def test_a_keeper_that_goes_away_before_the_release_ends_the_wait(stop: StopRequest) -> None:
    reader, writer = os.pipe()
    os.write(writer, b'{"attempt_id"')
    os.close(writer)
    assert wait_for_release(reader, stop) is None


def test_a_stop_before_the_release_ends_the_wait(stop: StopRequest) -> None:
    reader, _writer = os.pipe()
    os.kill(os.getpid(), signal.SIGTERM)
    assert wait_for_release(reader, stop) is None
    assert stop()


def test_a_stop_together_with_the_release_belongs_to_the_attempt(stop: StopRequest) -> None:
    reader, writer = os.pipe()
    os.write(writer, b"{}\n")
    os.kill(os.getpid(), signal.SIGTERM)
    assert wait_for_release(reader, stop) == "{}"
    assert stop()


def test_a_fact_is_one_line() -> None:
    reader, writer = os.pipe()
    Control(writer).say_evaluation(3, 1, {"validation/loss": math.nan})
    told = json.loads(os.read(reader, 65536))
    assert told == {"event": "evaluation", "step": 3, "epoch": 1, "metrics": {"validation/loss": "NaN"}}


@given(values=st.dictionaries(st.text(max_size=5), st.floats()))
def test_every_number_survives_proto_json(values: dict[str, float]) -> None:
    text = json.dumps({"points": {"values": numbers(values)}}, allow_nan=False)
    read = dict(json_format.Parse(text, ingest_pb2.Record()).points.values)
    assert read.keys() == values.keys()
    for name, value in values.items():
        assert read[name] == value or (math.isnan(read[name]) and math.isnan(value))


def test_a_spool_holds_one_record_a_line_in_order(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool" / "trainer.jsonl", lambda: 42)
    spool.points([(7, 1, {"train/loss": 0.5}), (8, 2, {"train/loss": math.inf})])
    matrix = {"classes": ["a", "b"], "counts": [1, 0, 0, 1]}
    spool.evaluation({"step": 2, "epoch": 1, "metrics": {"validation/accuracy": 1.0}, "confusion_matrix": matrix})
    spool.points([])
    lines = (tmp_path / "spool" / "trainer.jsonl").read_text().splitlines()
    records = [json_format.Parse(line, ingest_pb2.Record()) for line in lines]
    assert [record.at_ms for record in records] == [7, 8, 42]
    assert [record.WhichOneof("record") for record in records] == ["points", "points", "evaluation"]
    assert records[1].points.values["train/loss"] == math.inf
    assert list(records[2].evaluation.confusion_matrix.counts) == [1, 0, 0, 1]
