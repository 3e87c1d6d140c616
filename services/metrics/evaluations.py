"""EvaluationService: what evaluations found."""

import asyncio

import grpc

from protos.common.v1.errors_pb2 import WrongState
from protos.metrics.v1 import evaluation_pb2 as pb
from protos.metrics.v1 import evaluation_pb2_grpc as pb_grpc
from protos.training.v1.training_pb2 import ConfusionMatrix
from services.metrics import evaluations_store as store
from services.metrics.attempts import Register
from services.metrics.recommendations import recommendations
from services.postgres import Pool
from services.rpc.errors import NotFound, Refused
from services.rpc.shell import caller


class NotAdvanced(Refused):
    """Previews and recommendations belong to advanced evaluation."""

    def __init__(self, what: str, job_id: str) -> None:
        super().__init__(
            f"{job_id} has no {what}: it was submitted without advanced evaluation, which multiplies the minutes by "
            "1.5; submit it again with advanced evaluation to have it",
            WrongState(kind="job", id=job_id, state="without advanced evaluation"),
        )


class EvaluationApi(pb_grpc.EvaluationServiceServicer):
    def __init__(self, pool: Pool, register: Register) -> None:
        self._pool, self._register = pool, register

    async def ListEvaluations(
        self,
        request: pb.ListEvaluationsRequest,
        context: grpc.aio.ServicerContext[pb.ListEvaluationsRequest, pb.ListEvaluationsResponse],
    ) -> pb.ListEvaluationsResponse:
        await self._register.check_job(request.job_id, caller())
        return pb.ListEvaluationsResponse(evaluations=await store.evaluations(self._pool, request.job_id))

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

    async def GetPreview(
        self,
        request: pb.GetPreviewRequest,
        context: grpc.aio.ServicerContext[pb.GetPreviewRequest, pb.GetPreviewResponse],
    ) -> pb.GetPreviewResponse:
        await self._check_advanced("previews", request.job_id)
        steps = await store.preview_steps(self._pool, request.job_id)
        step = request.step or (steps[-1] if steps else 0)
        found = await store.predictions(self._pool, request.job_id, step)
        if found is None:
            where = f"{request.job_id} at step {request.step}" if request.step else request.job_id
            there = ", ".join(str(one) for one in steps[-10:])
            raise NotFound(
                "preview", where, f"there are previews of {there}" if there else "no evaluation told one yet"
            )
        spool_id, predictions = found
        images = await store.preview_images(self._pool, spool_id)
        if request.without_pixels:
            for image in images:
                image.ClearField("jpeg")
        facts = await store.facts(self._pool, request.job_id, spool_id)
        classes = facts.classes if facts is not None else []
        return pb.GetPreviewResponse(step=step, classes=classes, images=images, predictions=predictions, steps=steps)

    async def ListRecommendations(
        self,
        request: pb.ListRecommendationsRequest,
        context: grpc.aio.ServicerContext[pb.ListRecommendationsRequest, pb.ListRecommendationsResponse],
    ) -> pb.ListRecommendationsResponse:
        await self._check_advanced("recommendations", request.job_id)
        history = await store.history(self._pool, request.job_id)
        found = await asyncio.to_thread(recommendations, history)
        return pb.ListRecommendationsResponse(recommendations=found)

    async def _check_advanced(self, what: str, job_id: str) -> None:
        await self._register.check_job(job_id, caller())
        if not await store.is_advanced(self._pool, job_id):
            raise NotAdvanced(what, job_id)
