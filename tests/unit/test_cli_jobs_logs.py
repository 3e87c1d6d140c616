"""A log that is followed: after a loss nothing is asked for twice, and each line is told once."""

from protos.metrics.v1.metrics_pb2 import StoredLogLine, WatchLogsRequest
from services.cli.jobs_logs import Followed


def line(number: int, sequence: int, attempt_id: str = "at_two") -> StoredLogLine:
    return StoredLogLine(line=number, sequence=sequence, attempt_id=attempt_id)


def test_after_a_loss_it_goes_on_behind_the_last_line_and_not_with_earlier_attempts() -> None:
    first = WatchLogsRequest(job_id="jb", tail=2, search="loss", from_line=5)
    followed = Followed(first)
    assert followed.request() == first
    assert [followed.is_new(one) for one in (line(101, 1), line(103, 3))] == [True, True]
    assert followed.request() == WatchLogsRequest(job_id="jb", search="loss", from_line=104)


def test_a_line_whose_number_has_moved_is_told_once() -> None:
    followed = Followed(WatchLogsRequest(job_id="jb"))
    assert followed.is_new(line(101, 1))
    # The attempt before has delivered three more.
    assert not followed.is_new(line(104, 1))
    assert followed.is_new(line(105, 2))
    assert followed.request().from_line == 106
