"""What the scheduler process that leads does as time passes: dead sessions, lost trainings, the queue."""

from typing import TYPE_CHECKING

from protos.scheduler.v1.job_pb2 import JobState
from services.scheduler import contacts
from services.scheduler.domain import attempt as attempts
from services.scheduler.domain import placement
from services.scheduler.domain.job import HELD
from tests.simulation.world import MS, SECOND

if TYPE_CHECKING:
    from tests.simulation.replica import Replica

QUEUED = JobState.JOB_STATE_QUEUED
LEASE = 15 * SECOND


class Leader:
    def __init__(self, replica: "Replica") -> None:
        self._replica, self._world, self._log = replica, replica.world, replica.log

    def act(self) -> None:
        """Called each second; only the one that leads does anything."""
        if not self._replica.leads or self._log.away:
            return
        for runner in list(self._log.runners.values()):
            self._end_orphan(runner.runner_id)
        for job in list(self._log.open_jobs.values()):
            self._declare_lost(job.job_id)
        if any(job.state == QUEUED for job in self._log.open_jobs.values()):
            self._place_queued()

    def _end_orphan(self, runner_id: str) -> None:
        runner = self._log.runners[runner_id]
        expires = self._log.leases.get(runner.replica, 0)
        if not runner.connected or runner.replica == self._replica.name or expires >= self._world.now:
            return
        ended_ms = self._replica.platform.ms(expires)
        last_contact_ms = contacts.last_contact_ms(runner, None, ended_ms, LEASE // MS, self._world.now_ms)
        # Looked up now and ended a little later: the box may be back by then.
        epoch = runner.epoch

        def end() -> None:
            self._world.note("a dead scheduler's session was ended")
            self._replica.decide_disconnect(runner_id, epoch, last_contact_ms, "the scheduler is gone")

        self._replica.commit(end)

    def _declare_lost(self, job_id: str) -> None:
        job = self._log.jobs[job_id]
        runner = self._log.runners.get(job.runner_id)
        if job.state not in HELD or runner is None or runner.connected:
            return
        job_events, runner_events = attempts.lost(job, runner, self._world.now_ms)
        if job_events:
            self._world.note("a training was declared lost")
        self._log.append("job", job_id, job_events)
        self._log.append("runner", runner.runner_id, runner_events)

    def _place_queued(self) -> None:
        free = [runner for runner in self._log.runners.values() if runner.placeable]
        for job in sorted(self._log.open_jobs.values(), key=lambda one: one.position):
            if job.state != QUEUED:
                continue
            for runner in free:
                if placement.matches(runner, job):
                    self._replica.platform.place(job, runner)
                    free.remove(runner)
                    break
