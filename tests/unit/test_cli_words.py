"""Every event has words."""

import pytest
from google.protobuf.message import Message

from protos.eventlog.v1.eventlog_pb2 import EventRecord
from protos.events.v1 import job_pb2 as job
from protos.events.v1 import runner_pb2 as runner
from protos.events.v1 import workspace_pb2 as workspace
from protos.training.v1.training_pb2 import END_REASON_OUT_OF_MEMORY, Workflow
from services.eventlog.catalogue import EVENTS
from services.words.events import describe


def recorded(event: Message, type_: str = "") -> EventRecord:
    record = EventRecord(position=7, type=type_ or event.DESCRIPTOR.name)
    record.payload.Pack(event)
    return record


@pytest.mark.parametrize("name", sorted(EVENTS))
def test_every_event_of_the_catalogue_has_words_even_where_all_its_fields_are_empty(name: str) -> None:
    assert describe(recorded(EVENTS[name]())).startswith(f"{name}: ")


@pytest.mark.parametrize("name", sorted(EVENTS))
def test_an_enum_value_of_a_newer_platform_is_told_and_no_error(name: str) -> None:
    event = EVENTS[name]()
    for field in event.DESCRIPTOR.fields:
        if field.enum_type is not None:
            setattr(event, field.name, 99)
    assert describe(recorded(event)).startswith(f"{name}: ")


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (
            job.JobAssigned(runner_name="box-1", rate_micros=2_500_000, gpus=[job.ChargedGpu(type="NVIDIA A10G")]),
            "JobAssigned: box-1 takes it at 2.5 minutes a minute (NVIDIA A10G ×1)",
        ),
        (
            job.JobAssigned(runner_name="b", rate_micros=1_000_000, gpus=[job.ChargedGpu(type="T4")], simulated=True),
            "JobAssigned: b takes it at 1 minute a minute (T4 ×1, simulated)",
        ),
        (
            job.JobFailed(
                reason=END_REASON_OUT_OF_MEMORY,
                message="halve --batch-size",
                interval=job.ChargedInterval(started_at_ms=1000, charged_until_ms=91_000),
            ),
            "JobFailed: out of memory: halve --batch-size, charged for 1:30",
        ),
        (
            runner.RunnerStatusChanged(
                status=runner.RUNNER_STATUS_OCCUPIED, previous=runner.RUNNER_STATUS_ONLINE, job_id="jb_k3v9q2m7x4p8w1zt"
            ),
            "RunnerStatusChanged: OCCUPIED, was ONLINE, holds jb_k3v9q2m7",
        ),
        (
            workspace.WorkflowRevised(
                workflow=Workflow(name="small", dataset_id="ds_1", architecture_id="resnet-tiny", revision=3)
            ),
            "WorkflowRevised: “small” trains resnet-tiny on ds_1, revision 3",
        ),
        (
            workspace.WorkflowDeleted(workflow_id="wf_1"),
            "WorkflowDeleted: wf_1 is gone; trainings that were made from it stay",
        ),
        (workspace.TokenCreated(token_id="tok_1", role=workspace.ROLE_MEMBER), "TokenCreated: tok_1 (member)"),
        (
            workspace.TokenCreated(token_id="tok_1", role=workspace.ROLE_ADMIN, kind=workspace.TOKEN_KIND_SIGN_IN_CODE),
            "TokenCreated: tok_1 (a code that opens the page once, admin)",
        ),
        (
            workspace.TokenCreated(token_id="tok_1", role=workspace.ROLE_VIEWER, kind=workspace.TOKEN_KIND_SIGN_IN),
            "TokenCreated: tok_1 (a sign-in on the page, viewer)",
        ),
        (workspace.QuotaSet(), "QuotaSet: unlimited compute minutes"),
        (workspace.QuotaSet(quota_milliminutes=0), "QuotaSet: 0.00 compute minutes a month"),
    ],
)
def test_the_words_carry_the_facts(event: Message, words: str) -> None:
    assert describe(recorded(event)) == words


def test_an_event_of_a_newer_platform_is_told_and_no_error() -> None:
    assert "does not know" in describe(recorded(workspace.QuotaSet(), "RunnerTaught"))
