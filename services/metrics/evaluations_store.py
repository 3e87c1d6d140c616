"""Reads evaluations and what belongs to them. Of what a later attempt of the job has made again, only that counts."""

from protos.metrics.v1.ingest_pb2 import Evaluation, TrainingFacts
from protos.metrics.v1.preview_pb2 import Prediction, PreviewImage
from services.metrics.curves import read_curves
from services.metrics.history import TRAIN_LOSS, History
from services.metrics.query import list_series
from services.postgres import Pool

# Of all evaluations in one response; the newest that fit are told.
_MAX_LIST_BYTES = 12 << 20
_SYSTEM_SERIES = ("utilization_percent", "memory_used_bytes")

# Evaluations e of spools s of the job $1 that count.
_COUNTING = (
    "from metrics.spools s join metrics.evaluations e using (spool_id) where s.job_id = $1 "
    "and not exists (select from metrics.spools l join metrics.evaluations m using (spool_id) "
    "where l.job_id = $1 and l.assigned_position > s.assigned_position and m.step <= e.step)"
)


async def is_advanced(pool: Pool, job_id: str) -> bool:
    """Whether the job has advanced evaluation."""
    found: bool | None = await pool.fetchval("select advanced from metrics.jobs where job_id = $1", job_id)
    return bool(found)


async def evaluations(pool: Pool, job_id: str) -> list[Evaluation]:
    """Oldest first, without matrices and predictions."""
    rows = await pool.fetch(
        "select evaluation from (select e.evaluation, s.assigned_position, e.sequence, "
        "sum(octet_length(e.evaluation)) over (order by s.assigned_position desc, e.sequence desc) as bytes "
        f"{_COUNTING}) newest where bytes <= $2 order by assigned_position, sequence",
        job_id,
        _MAX_LIST_BYTES,
    )
    return [Evaluation.FromString(row["evaluation"]) for row in rows]


async def preview_steps(pool: Pool, job_id: str) -> list[int]:
    """Steps of the evaluations that have predictions, ascending."""
    rows = await pool.fetch(f"select distinct e.step {_COUNTING} and e.predictions is not null order by e.step", job_id)
    return [row["step"] for row in rows]


async def predictions(pool: Pool, job_id: str, step: int) -> tuple[int, list[Prediction]] | None:
    """The spool of the evaluation at this step, and what was predicted, by number; None where it has no predictions."""
    row = await pool.fetchrow(
        f"select s.spool_id, e.predictions {_COUNTING} and e.predictions is not null and e.step = $2 "
        "order by s.assigned_position desc, e.sequence desc limit 1",
        job_id,
        step,
    )
    if row is None:
        return None
    found = Evaluation.FromString(row["predictions"]).predictions
    return row["spool_id"], sorted(found, key=lambda prediction: prediction.number)


async def preview_images(pool: Pool, spool_id: int) -> list[PreviewImage]:
    """By number."""
    rows = await pool.fetch(
        "select distinct on (number) image from metrics.preview_images where spool_id = $1 "
        "order by number, sequence desc",
        spool_id,
    )
    return [PreviewImage.FromString(row["image"]) for row in rows]


async def facts(pool: Pool, job_id: str, spool_id: int | None = None) -> TrainingFacts | None:
    """Of the newest attempt that told them, or of one spool."""
    found: bytes | None = await pool.fetchval(
        "select f.facts from metrics.spools s join metrics.facts f using (spool_id) "
        "where s.job_id = $1 and ($2::bigint is null or s.spool_id = $2) "
        "order by s.assigned_position desc, f.sequence desc limit 1",
        job_id,
        spool_id,
    )
    return None if found is None else TrainingFacts.FromString(found)


async def history(pool: Pool, job_id: str) -> History:
    """All that advice follows from; facts that were not told are empty."""
    names = {
        row.name
        for row in await list_series(pool, job_id)
        if row.name == TRAIN_LOSS or row.name.endswith(_SYSTEM_SERIES)
    }
    async with pool.acquire() as connection, connection.transaction(readonly=True):
        curves = await read_curves(connection, job_id, sorted(names)) if names else {}
    return History(await facts(pool, job_id) or TrainingFacts(), await evaluations(pool, job_id), curves)
