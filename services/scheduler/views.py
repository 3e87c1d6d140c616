"""Aggregates as the resources that people see."""

from collections.abc import Iterable

from protos.scheduler.v1 import access_pb2, job_pb2, runner_pb2, workflow_pb2
from services.scheduler.domain.artifact import Artifact
from services.scheduler.domain.checkpoints import located
from services.scheduler.domain.job import Job
from services.scheduler.domain.placement import Rates
from services.scheduler.domain.runner import Runner
from services.scheduler.domain.token import Token
from services.scheduler.domain.workflow import Saved
from services.scheduler.domain.workspace import Workspace


def runner_view(runner: Runner, job: Job | None, rates: Rates, last_contact_at_ms: int) -> runner_pb2.Runner:
    """`job` is the one that the runner holds; `last_contact_at_ms` the moment at which it was heard last."""
    inventory = runner.inventory
    return runner_pb2.Runner(
        runner_id=runner.runner_id,
        name=runner.name,
        labels=runner.labels,
        status=runner.status,
        connected=runner.connected,
        suspensions=[
            runner_pb2.Suspension(owner=s.owner, reason=s.reason, until_ms=s.until_ms) for s in runner.suspensions
        ],
        inventory=inventory,
        agent_version=runner.agent_version,
        attempt_id=runner.attempt_id,
        job_id=runner.job_id,
        last_contact_at_ms=last_contact_at_ms,
        deadline_at_ms=job.deadline_at_ms if job is not None and job.attempt_id == runner.attempt_id else 0,
        created_at_ms=runner.created_at_ms,
        rate_micros=rates.of_box(inventory) if inventory is not None else 0,
        uninstalled=runner.uninstalled,
    )


def job_view(job: Job, artifacts: Iterable[Artifact] = ()) -> job_pb2.Job:
    """`artifacts` are those of its checkpoints that the platform has."""
    return job_pb2.Job(
        job_id=job.job_id,
        name=job.name,
        state=job.state,
        spec=job.spec,
        submitted_by=job.submitted_by,
        submitted_at_ms=job.submitted_at_ms,
        requested_runner_id=job.requested_runner_id,
        attempt_id=job.attempt_id,
        runner_id=job.runner_id,
        runner_name=job.runner_name,
        simulated=job.simulated,
        rate_micros=job.rate_micros,
        window_ms=job.window_ms,
        assigned_at_ms=job.assigned_at_ms,
        interval=job.interval,
        deadline_at_ms=job.deadline_at_ms,
        last_contact_at_ms=job.last_contact_at_ms,
        reason=job.reason or job.kill_reason,
        message=job.message or job.kill_message,
        warnings=job.warnings,
        checkpoints=located(job, artifacts),
        metrics=job.metrics,
        evaluated_step=job.evaluated_step,
        queue_expires_at_ms=job.queue_expires_at_ms,
        steps=job.steps,
        epochs=job.epochs,
        version=job.version,
        attempt=job.attempt,
        earlier_attempts=job.earlier,
        stalled_since_ms=job.stalled_since_ms,
        weights=job.weights,
        weights_source=job.weights_source,
        batch_size=job.batch_size,
        resumed_job_id=job.origin.job_id if job.origin is not None else "",
    )


def token_view(token: Token, name: str) -> access_pb2.Token:
    """`name` is empty where it was erased."""
    return access_pb2.Token(
        token_id=token.token_id,
        name=name,
        role=token.role,
        created_at_ms=token.created_at_ms,
        expires_at_ms=token.expires_at_ms,
        revoked=token.revoked,
        kind=token.kind,
    )


def workflow_view(saved: Saved, workspace: Workspace) -> workflow_pb2.SavedWorkflow:
    dataset = workspace.datasets.get(saved.workflow.dataset_id)
    return workflow_pb2.SavedWorkflow(
        workflow=saved.workflow,
        dataset_name=dataset.name if dataset is not None else "",
        created_at_ms=saved.created_at_ms,
        revised_at_ms=saved.revised_at_ms,
        revised_by=saved.revised_by,
    )
