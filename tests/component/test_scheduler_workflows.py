"""Saved workflows over real gRPC and PostgreSQL: revised by several at once, trained from, deleted, rebuilt."""

import asyncio
import uuid
from typing import Any

import grpc
import pytest

from protos.common.v1 import errors_pb2
from protos.events.v1.job_pb2 import JobSubmitted
from protos.events.v1.workspace_pb2 import WorkflowCreated, WorkflowRevised
from protos.scheduler.v1 import job_pb2
from protos.scheduler.v1 import workflow_pb2 as pb
from protos.scheduler.v1.session_pb2 import BoxMoment, Checkpointed, Ended, Outcome, Started
from protos.training.v1.training_pb2 import (
    Augmentations,
    Checkpoint,
    CheckpointReference,
    Hyperparameters,
    InitialWeights,
    WeightsSource,
    Workflow,
)
from services.eventlog.catalogue import payload_of
from services.eventlog.read import read_page
from services.scheduler.rebuild import rebuild
from tests.support.control import Control, control_plane
from tests.support.log import pool_on
from tests.support.platform import DatabaseUrls
from tests.support.typed_errors import T, detail_of

SMALL = Workflow(name="small", dataset_id="digits", architecture_id="resnet-tiny")
FROM_CHECKPOINT = WeightsSource.WEIGHTS_SOURCE_CHECKPOINT


def changed(workflow: Workflow, **fields: Any) -> Workflow:
    copy = Workflow(**fields)
    whole = Workflow()
    whole.CopyFrom(workflow)
    whole.MergeFrom(copy)
    return whole


async def create(control: Control, workflow: Workflow = SMALL, request_id: str = "") -> pb.SavedWorkflow:
    request = pb.CreateWorkflowRequest(request_id=request_id, workflow=workflow)
    return (await control.workflows.CreateWorkflow(request, metadata=control.auth)).workflow


async def revise(control: Control, workflow: Workflow) -> pb.SavedWorkflow:
    request = pb.ReviseWorkflowRequest(workflow=workflow)
    return (await control.workflows.ReviseWorkflow(request, metadata=control.auth)).workflow


async def get(control: Control, named: str) -> pb.SavedWorkflow:
    request = pb.GetWorkflowRequest(workflow_id=named)
    return (await control.workflows.GetWorkflow(request, metadata=control.auth)).workflow


async def names(control: Control) -> list[str]:
    listed = await control.workflows.ListWorkflows(pb.ListWorkflowsRequest(), metadata=control.auth)
    return [one.workflow.name for one in listed.workflows]


async def submit(control: Control, **more: Any) -> job_pb2.Job:
    request = job_pb2.SubmitJobRequest(**{"workflow_id": "small", "queue": True, **more})
    return (await control.jobs.SubmitJob(request, metadata=control.auth)).job


async def refused(call: Any, code: grpc.StatusCode, kind: type[T]) -> T:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    assert error.value.code() == code, error.value.details()
    return detail_of(error.value, kind)


async def test_a_workflow_is_saved_revised_renamed_and_deleted(database: DatabaseUrls) -> None:
    async with control_plane(database) as control:
        dataset_id = await control.dataset()
        request_id = str(uuid.uuid4())
        first = await create(control, request_id=request_id)
        assert await create(control, request_id=request_id) == first, "a repeat gets the first answer"
        assert first.workflow == changed(
            SMALL, workflow_id=first.workflow.workflow_id, revision=1, dataset_id=dataset_id
        )
        assert (first.dataset_name, first.revised_at_ms) == ("digits", first.created_at_ms)
        assert first.revised_by.startswith("token:")
        assert await get(control, "small") == await get(control, first.workflow.workflow_id) == first

        # A field 100 of a client that knows more than this version.
        newer = Workflow.FromString(changed(SMALL, name="other").SerializeToString() + b"\xa2\x06\x03abc")
        other = await create(control, newer)
        assert b"abc" not in other.workflow.SerializeToString(), "what nobody has checked is not kept"
        assert await names(control) == ["other", "small"]
        wanted = changed(first.workflow, name="large", hyperparameters=Hyperparameters(seed=3))
        second = await revise(control, wanted)
        assert second.workflow == changed(wanted, revision=2)
        assert (second.created_at_ms, second.revised_at_ms >= first.revised_at_ms) == (first.created_at_ms, True)
        taken = await refused(
            revise(control, changed(second.workflow, name="other")),
            grpc.StatusCode.ALREADY_EXISTS,
            errors_pb2.AlreadyExists,
        )
        assert (taken.kind, taken.name) == ("workflow", "other")

        delete = pb.DeleteWorkflowRequest(workflow_id="large")
        await control.workflows.DeleteWorkflow(delete, metadata=control.auth)
        assert await names(control) == ["other"]
        gone = await refused(get(control, "large"), grpc.StatusCode.NOT_FOUND, errors_pb2.NotFound)
        assert (gone.kind, gone.id) == ("workflow", "large")
        assert (await create(control, changed(SMALL, name="large"))).workflow.revision == 1, "the name is free"
        assert other.workflow.revision == 1


async def test_of_revisions_at_once_exactly_one_wins_and_of_two_names_one(database: DatabaseUrls) -> None:
    async with control_plane(database) as control:
        await control.dataset()
        at_once = await asyncio.gather(*(create(control) for _ in range(4)), return_exceptions=True)
        created = [one for one in at_once if isinstance(one, pb.SavedWorkflow)]
        assert len(created) == 1
        known = created[0].workflow
        wanted = [changed(known, hyperparameters=Hyperparameters(seed=seed)) for seed in range(1, 9)]
        answers = await asyncio.gather(*(revise(control, one) for one in wanted), return_exceptions=True)
        won = [one for one in answers if isinstance(one, pb.SavedWorkflow)]
        lost = [one for one in answers if isinstance(one, grpc.aio.AioRpcError)]
        assert (len(won), len(lost)) == (1, 7)
        assert {one.code() for one in lost} == {grpc.StatusCode.ABORTED}
        assert {detail_of(one, errors_pb2.RevisedMeanwhile).revision for one in lost} == {2}
        assert "workflow small is at revision 2, and this change is of revision 1" in str(lost[0].details())
        assert await get(control, "small") == won[0]


async def test_a_training_is_of_the_revision_that_is_the_newest_where_it_stands_in_the_log(
    database: DatabaseUrls,
) -> None:
    async with control_plane(database) as control, pool_on(database.scheduler) as pool:
        await control.dataset()
        first = (await create(control)).workflow

        async def revised_again_and_again() -> None:
            known = first
            for seed in range(2, 12):
                known = (await revise(control, changed(known, hyperparameters=Hyperparameters(seed=seed)))).workflow

        await asyncio.gather(revised_again_and_again(), *(submit(control) for _ in range(20)))
        newest, seen = 0, []
        async with pool.acquire() as connection:
            page = await read_page(connection, 1, 1 << 62)
        for event in map(payload_of, page):
            if isinstance(event, WorkflowCreated | WorkflowRevised):
                newest = event.workflow.revision
            elif isinstance(event, JobSubmitted):
                seen.append((event.spec.workflow_revision, newest))
                assert event.spec.hyperparameters.seed == (newest if newest > 1 else 0)
        assert len(seen) == 20
        assert all(told == there for told, there in seen), seen


async def test_what_could_not_be_trained_is_not_saved(database: DatabaseUrls) -> None:
    async with control_plane(database) as control:
        mine, other = control.token, await control.create_workspace("other")
        control.token = other.secret
        theirs = await control.dataset("theirs")
        their_job = (await control.submit(runner="", queue=True, dataset_id="theirs")).job_id
        their_workflow = await control.workflow(dataset_id="theirs")
        control.token = mine
        await control.dataset()
        for wanted, field in (
            (changed(SMALL, hyperparameters=Hyperparameters(batch_size=-2)), "hyperparameters.batch_size"),
            (changed(SMALL, hyperparameters=Hyperparameters(accumulate_batches=999)), "hyperparameters.accumulate_bat"),
            (changed(SMALL, augmentations=Augmentations(hue=1)), "augmentations.hue"),
            (changed(SMALL, architecture_id="rt-detr-v2-nano"), "architecture_id"),
            (changed(SMALL, weights=InitialWeights(name="x")), "weights.name"),
            (changed(SMALL, name=" "), "name"),
            (changed(SMALL, workflow_id="wf_1"), "workflow_id"),
            (changed(SMALL, revision=1), "revision"),
        ):
            invalid = await refused(create(control, wanted), grpc.StatusCode.INVALID_ARGUMENT, errors_pb2.InvalidField)
            assert invalid.field.startswith(f"workflow.{field}"), invalid
        weights, foreign = (
            InitialWeights(source=FROM_CHECKPOINT, checkpoint=CheckpointReference(job_id=job_id))
            for job_id in ("jb_none", their_job)
        )
        for wanted, kind in (
            (changed(SMALL, dataset_id="none"), "dataset"),
            (changed(SMALL, architecture_id="none"), "architecture"),
            (changed(SMALL, weights=weights), "job"),
            (changed(SMALL, dataset_id=theirs), "dataset"),
            (changed(SMALL, weights=foreign), "job"),
        ):
            missing = await refused(create(control, wanted), grpc.StatusCode.NOT_FOUND, errors_pb2.NotFound)
            assert missing.kind == kind
        missing = await refused(
            submit(control, workflow_id=their_workflow), grpc.StatusCode.NOT_FOUND, errors_pb2.NotFound
        )
        assert missing.kind == "workflow", "another workspace's does not exist"
        assert await names(control) == []


async def test_a_training_is_made_from_the_revision_of_its_submission(database: DatabaseUrls) -> None:
    async with control_plane(database) as control:
        await control.dataset()
        hyper, own = Hyperparameters(seed=3, batch_size=16), Augmentations(blur=0.5)
        saved = (await create(control, changed(SMALL, hyperparameters=hyper, augmentations=own))).workflow
        job = await submit(control)
        assert (job.name, job.spec.workflow_name, job.spec.workflow_revision) == ("small", "small", 1)
        assert job.spec.workflow_id == saved.workflow_id
        assert (job.spec.dataset.name, job.spec.architecture.architecture_id) == ("digits", "resnet-tiny")
        assert (job.spec.hyperparameters.seed, job.spec.hyperparameters.batch_size) == (3, 16)
        assert job.spec.hyperparameters.learning_rate, "the rest has the architecture's defaults"
        assert job.spec.augmentations == own

        await revise(control, changed(saved, name="large", hyperparameters=Hyperparameters(seed=4)))
        again = await submit(control, workflow_id=saved.workflow_id, name="mine")
        assert (again.name, again.spec.workflow_name, again.spec.workflow_revision) == ("mine", "large", 2)
        assert again.spec.hyperparameters.seed == 4
        await control.workflows.DeleteWorkflow(pb.DeleteWorkflowRequest(workflow_id="large"), metadata=control.auth)
        assert (await control.job(job.job_id)).spec == job.spec, "trainings stay what they were"
        gone = await refused(submit(control), grpc.StatusCode.NOT_FOUND, errors_pb2.NotFound)
        assert gone.kind == "workflow"
        both = await refused(
            submit(control, dataset_id="digits"), grpc.StatusCode.INVALID_ARGUMENT, errors_pb2.InvalidField
        )
        assert both.field == "dataset_id"


async def test_weights_of_a_workflow_are_found_at_each_submission_and_a_resumed_job_keeps_its_workflow(
    database: DatabaseUrls,
) -> None:
    async with control_plane(database) as control:
        await control.dataset()
        _, box = await control.box()
        at = BoxMoment(anchor_at_ms=(await box.connect()).platform_at_ms + 1)
        first = await control.submit()
        held = await box.assignment()
        await box.report(held, 1, started=Started(at=at))
        for number, name in ((2, "one"), (3, "two")):
            saved = Checkpoint(name=name, step=number, epoch=1, sha256="ab" * 32, best=name == "two")
            await box.report(held, number, checkpointed=Checkpointed(checkpoint=saved))
        stopped = Ended(outcome=Outcome.OUTCOME_KILLED, started_at=at, ended_at=at, steps=3, epochs=1)
        await box.report(held, 4, ended=stopped)

        reference = CheckpointReference(job_id=first.job_id, attempt_id="at_of_the_client")
        weights = InitialWeights(source=FROM_CHECKPOINT, checkpoint=reference)
        workflow = (await create(control, changed(SMALL, weights=weights))).workflow
        assert workflow.weights.checkpoint == CheckpointReference(job_id=first.job_id), "where it lies is not saved"
        job = await submit(control, runner_id="box", queue=False)
        found = job.spec.weights.checkpoint
        assert (found.name, found.attempt_id, found.step) == ("two", held.attempt_id, 3)

        held = await box.assignment()
        await box.report(held, 1, started=Started(at=at))
        await box.report(held, 2, checkpointed=Checkpointed(checkpoint=Checkpoint(name="c", step=1, sha256="cd" * 32)))
        await box.report(held, 3, ended=stopped)
        request = job_pb2.ResumeJobRequest(job_id=job.job_id)
        resumed = (await control.jobs.ResumeJob(request, metadata=control.auth)).job
        assert resumed.spec.workflow_id == workflow.workflow_id
        assert (resumed.spec.workflow_name, resumed.spec.workflow_revision) == ("small", 1)


async def test_workflows_dropped_and_rebuilt_are_equal(database: DatabaseUrls) -> None:
    async with control_plane(database) as control, pool_on(database.scheduler) as pool:
        await control.dataset()
        saved = (await create(control)).workflow
        await revise(control, changed(saved, name="large"))
        await control.workflow("other")
        await control.workflow("third")
        await control.workflows.DeleteWorkflow(pb.DeleteWorkflowRequest(workflow_id="other"), metadata=control.auth)
        before = await pool.fetch("select * from scheduler.workspaces")
        async with pool.acquire() as connection:
            await rebuild(connection, pool)
        assert await pool.fetch("select * from scheduler.workspaces") == before
        assert await names(control) == ["large", "third"]
