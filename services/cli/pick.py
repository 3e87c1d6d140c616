"""Finds the job that a person means: an id, the start of one, a name, or `last`."""

import re
from collections.abc import Sequence

from protos.scheduler.v1 import job_pb2 as pb
from services.cli.connection import Platform
from services.cli.errors import CliError
from services.words.format import short_id

# As far back as a short name reaches.
_RECENT = 1000
_WHOLE_ID = re.compile(r"jb_[a-z2-7]{16}")
_SEE = "see `tether jobs list`"


def job_id(platform: Platform, named: str) -> str:
    """The id of the job. Raises CliError where none or several fit."""
    if _WHOLE_ID.fullmatch(named):
        return named
    if named == "last":
        newest = platform.jobs.ListJobs(pb.ListJobsRequest(page_size=1)).jobs
        if not newest:
            raise CliError("there is no job yet; run one with `tether train DATASET ARCHITECTURE --runner NAME`")
        return newest[0].job_id
    return _match(platform.jobs.ListJobs(pb.ListJobsRequest(page_size=_RECENT)).jobs, named).job_id


def job(platform: Platform, named: str) -> pb.Job:
    """The job itself, as it is now."""
    return platform.jobs.GetJob(pb.GetJobRequest(job_id=job_id(platform, named))).job


def _match(known: Sequence[pb.Job], named: str) -> pb.Job:
    fitting = [job for job in known if job.job_id.startswith((named, f"jb_{named}"))] if named else []
    fitting = fitting or [job for job in known if job.name == named]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        ids = ", ".join(short_id(job.job_id) for job in fitting[:5])
        more = f" and {len(fitting) - 5} more" if len(fitting) > 5 else ""
        raise CliError(f"{named!r} fits {len(fitting)} jobs ({ids}{more}); name one of them by its id")
    raise CliError(f"there is no job {named[:100]!r}; {_SEE}")
