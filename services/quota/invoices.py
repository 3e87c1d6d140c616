"""Answers what jobs cost: a list of charges, and one job explained."""

from protos.events.v1.job_pb2 import ChargedInterval
from protos.quota.v1 import quota_pb2 as pb
from protos.training.v1.training_pb2 import EndReason
from services.clock import Clock
from services.eventlog.catalogue import COLUMNS, EventRow
from services.postgres import Pool
from services.quota import checks
from services.quota.domain.attempt import Attempt, charge, interval
from services.quota.domain.explain import explain
from services.quota.domain.ledger import ATTEMPT_EVENTS
from services.quota.domain.minutes import to_milliminutes
from services.quota.progress import Progress
from services.quota.store import Job, JobQuery, read_job_name, read_jobs, read_position
from services.quota.wire import fitting
from services.rpc.errors import NotFound
from services.rpc.moment import AsOf, resolve


class Invoices:
    def __init__(self, pool: Pool, clock: Clock, progress: Progress) -> None:
        self._pool, self._clock, self._progress = pool, clock, progress

    async def page(self, workspace_id: str, request: pb.ListChargesRequest) -> pb.ListChargesResponse:
        """Raises InvalidField, NotFound, Unavailable."""
        start_ms, end_ms = checks.month(request.period)
        limit, before = checks.page_size(request.page_size), checks.page_token(request.page_token)
        await self._progress.reached(request.min_position)
        if request.job_id:
            await self.job_name(workspace_id, request.job_id)
        now_ms = self._clock.now_ms()
        # One more than asked for tells whether there is a next page.
        query = JobQuery(workspace_id, request.period, start_ms, end_ms, request.job_id, before, limit + 1, now_ms)
        jobs = await read_jobs(self._pool, query)
        more = len(jobs) > limit
        return pb.ListChargesResponse(
            charges=[_charge(job, now_ms) for job in jobs[:limit]],
            next_page_token=str(jobs[limit - 1].position) if more else "",
        )

    async def explain(self, workspace_id: str, request: pb.ExplainChargeRequest) -> pb.ExplainChargeResponse:
        """Raises InvalidField, NotFound, Unavailable."""
        moment = await resolve(self._pool, request.as_of) if request.HasField("as_of") else None
        await self._progress.reached(request.min_position)
        if moment is not None:
            await self._progress.reached(moment.position)
        known = moment or AsOf(await read_position(self._pool), self._clock.now_ms())
        name = await self.job_name(workspace_id, request.job_id, known.position)
        records = [
            EventRow(*row).record()
            for row in await self._pool.fetch(
                f"select {COLUMNS} from eventlog.events where stream_id = $1 and stream_kind = 'job' "
                "and position <= $2 and type = any($3::text[]) order by position",
                request.job_id,
                known.position,
                list(ATTEMPT_EVENTS),
            )
        ]
        adjustments = [
            EventRow(*row).record()
            for row in await self._pool.fetch(
                f"select {COLUMNS} from eventlog.events where position = any(array(select position "
                "from quota.adjustments where workspace_id = $1 and job_id = $2 and job_id <> '' and position <= $3)) "
                "order by position",
                workspace_id,
                request.job_id,
                known.position,
            )
        ]
        response = explain(request.job_id, records, adjustments, known.at_ms)
        response.job_name, response.position = name, known.position
        return response

    async def job_name(self, workspace_id: str, job_id: str, last: int | None = None) -> str:
        """The name of a job that the workspace had at the position `last`; absent: has. Raises NotFound."""
        name = await read_job_name(self._pool, workspace_id, job_id, last)
        if name is None:
            raise NotFound(
                "job", job_id, "list the jobs to see their ids" if last is None else "or there was none then"
            )
        return name


def _charge(job: Job, now_ms: int) -> pb.Charge:
    return pb.Charge(
        job_id=job.job_id,
        job_name=job.name,
        attempts=[_charged_attempt(attempt_id, attempt, now_ms) for attempt_id, attempt in job.attempts],
        milliminutes=to_milliminutes(sum(charge(attempt, now_ms) for _, attempt in job.attempts)),
        running=any(attempt.running for _, attempt in job.attempts),
    )


def _charged_attempt(attempt_id: str, attempt: Attempt, now_ms: int) -> pb.ChargedAttempt:
    known = interval(attempt, now_ms)
    assigned, outcome = attempt.assigned, attempt.outcome
    return pb.ChargedAttempt(
        attempt_id=attempt_id,
        runner_id=assigned.runner_id if assigned else "",
        runner_name=assigned.runner_name if assigned else "",
        simulated=assigned.simulated if assigned else False,
        rate_micros=attempt.rate_micros,
        interval=ChargedInterval(
            started_at_ms=known.started_at_ms,
            charged_until_ms=known.charged_until_ms,
            ended_at_ms=known.ended_at_ms,
            presumed=known.presumed,
        ),
        charged_ms_micros=fitting(charge(attempt, now_ms)),
        reason=outcome.reason if outcome else EndReason.END_REASON_UNSPECIFIED,
        assigned_position=assigned.position if assigned else 0,
        ended_position=outcome.position if outcome else 0,
    )
