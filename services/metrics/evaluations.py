"""EvaluationService: what evaluations found."""

import grpc

from protos.metrics.v1 import evaluation_pb2 as pb
from protos.metrics.v1 import evaluation_pb2_grpc as pb_grpc
from protos.metrics.v1.ingest_pb2 import Evaluation
from protos.training.v1.training_pb2 import ConfusionMatrix
from services.metrics.attempts import Register
from services.postgres import Pool
from services.rpc.errors import NotFound
from services.rpc.shell import caller

# Of all evaluations in one response; the newest that fit are told.
_MAX_LIST_BYTES = 12 << 20


class EvaluationApi(pb_grpc.EvaluationServiceServicer):
    def __init__(self, pool: Pool, register: Register) -> None:
        self._pool, self._register = pool, register

    async def ListEvaluations(
        self,
        request: pb.ListEvaluationsRequest,
        context: grpc.aio.ServicerContext[pb.ListEvaluationsRequest, pb.ListEvaluationsResponse],
    ) -> pb.ListEvaluationsResponse:
        await self._register.check_job(request.job_id, caller())
        rows = await self._pool.fetch(
            "select evaluation from (select e.evaluation, s.assigned_position, e.sequence, "
            "sum(octet_length(e.evaluation)) over (order by s.assigned_position desc, e.sequence desc) as bytes "
            "from metrics.spools s join metrics.evaluations e using (spool_id) where s.job_id = $1 "
            # Those that a later attempt has made again count no more.
            "and not exists (select from metrics.spools l join metrics.evaluations m using (spool_id) "
            "where l.job_id = $1 and l.assigned_position > s.assigned_position and m.step <= e.step)) newest "
            "where bytes <= $2 order by assigned_position, sequence",
            request.job_id,
            _MAX_LIST_BYTES,
        )
        return pb.ListEvaluationsResponse(evaluations=[Evaluation.FromString(row["evaluation"]) for row in rows])

    async def GetConfusionMatrix(
        self,
        request: pb.GetConfusionMatrixRequest,
        context: grpc.aio.ServicerContext[pb.GetConfusionMatrixRequest, pb.GetConfusionMatrixResponse],
    ) -> pb.GetConfusionMatrixResponse:
        await self._register.check_job(request.job_id, caller())
        row = await self._pool.fetchrow(
            "select e.step, e.matrix from metrics.spools s join metrics.evaluations e using (spool_id) "
            "where s.job_id = $1 and e.matrix is not null and ($2 = 0 or e.step = $2) "
            "order by s.assigned_position desc, e.sequence desc limit 1",
            request.job_id,
            request.step,
        )
        if row is None:
            where = f"{request.job_id} at step {request.step}" if request.step else request.job_id
            raise NotFound("confusion matrix", where, "switch it on in the training's advanced evaluation")
        return pb.GetConfusionMatrixResponse(step=row["step"], matrix=ConfusionMatrix.FromString(row["matrix"]))
