"""Wiring of the metrics service: ingest with its group commit, the reading services, and the attempts' read model."""

import asyncio
from pathlib import Path

from pydantic import Field

from protos.metrics.v1.evaluation_pb2_grpc import add_EvaluationServiceServicer_to_server
from protos.metrics.v1.ingest_pb2_grpc import add_IngestServiceServicer_to_server
from protos.metrics.v1.metrics_pb2_grpc import add_MetricsServiceServicer_to_server
from services.eventlog.projection import Projection
from services.metrics.api import MetricsApi
from services.metrics.artifacts import Artifacts
from services.metrics.artifacts_uploads import UploadLimits
from services.metrics.attempts import Assignments, Register
from services.metrics.evaluations import EvaluationApi
from services.metrics.hub import Hub
from services.metrics.ingest import IngestApi
from services.metrics.limits import Limits
from services.metrics.upkeep import Upkeep
from services.metrics.writer import Writer
from services.rpc.kernel import Kernel, open_kernel
from services.rpc.process import run_until
from services.rpc.server import Mount, Server
from services.rpc.settings import ServiceSettings

MIGRATIONS = Path(__file__).parent / "migrations"


class Settings(ServiceSettings):
    """Settings of the service metrics."""

    max_series_per_job: int = Field(Limits().series_per_job, ge=1, description="names of series that a job may have")
    max_series_name_length: int = Field(Limits().name_length, ge=1, le=1000, description="characters")
    max_values_per_record: int = Field(Limits().values_per_record, ge=1, description="values at one step")
    max_points_per_s: int = Field(
        Limits().points_per_s, ge=1, description="points a second that a job may report, by the stamps of its records"
    )
    max_log_line_bytes: int = Field(Limits().log_line_bytes, ge=1, le=1 << 20, description="of one line, as UTF-8")
    max_batch_records: int = Field(Limits().batch_records, ge=1, le=100_000, description="records of one batch")
    metrics_retention_days: int = Field(
        0, ge=0, description="points and logs are removed so many days after their job's end; 0: never"
    )
    artifact_store: str = Field(
        "",
        description="where checkpoints and exports are kept: a folder, or a URL of fsspec, for example "
        "s3://bucket/folder; empty: a folder `artifacts` of the user who runs the service",
    )
    artifact_uploads: str = Field(
        "", description="folder of files that have not come whole yet; empty: `uploads`, beside the above"
    )
    max_artifact_bytes: int = Field(0, ge=0, description="of one checkpoint or export; 0: no limit")
    max_artifact_bytes_per_workspace: int = Field(0, ge=0, description="of all artifacts together; 0: no limit")

    @property
    def upload_limits(self) -> UploadLimits:
        return UploadLimits(self.max_artifact_bytes, self.max_artifact_bytes_per_workspace)

    @property
    def limits(self) -> Limits:
        return Limits(
            series_per_job=self.max_series_per_job,
            name_length=self.max_series_name_length,
            values_per_record=self.max_values_per_record,
            points_per_s=self.max_points_per_s,
            log_line_bytes=self.max_log_line_bytes,
            batch_records=self.max_batch_records,
        )


class Service:
    """The parts of one process."""

    def __init__(self, settings: Settings, kernel: Kernel) -> None:
        self._kernel = kernel
        self._hub = Hub(kernel.bus)
        self._projection = Projection(settings.postgres_url, kernel.pool, kernel.bus, "metrics", Assignments())
        self._writer = Writer(settings.postgres_url, settings.limits, self._hub.stored)
        self._upkeep = Upkeep(settings.postgres_url, kernel.clock, settings.metrics_retention_days)
        register = Register(kernel.pool, self._projection, kernel.clock)
        ingest = IngestApi(kernel, register, self._writer, settings.limits)
        metrics = MetricsApi(kernel, register, self._hub)
        evaluations = EvaluationApi(kernel.pool, register)
        self._artifacts = Artifacts(
            kernel, register, settings.artifact_store, settings.artifact_uploads, settings.upload_limits
        )
        mounts: list[Mount] = [
            self._artifacts.mount,
            (add_IngestServiceServicer_to_server, ingest, "tether.metrics.v1.IngestService"),
            (add_MetricsServiceServicer_to_server, metrics, "tether.metrics.v1.MetricsService"),
            (add_EvaluationServiceServicer_to_server, evaluations, "tether.metrics.v1.EvaluationService"),
        ]
        self.server = Server(settings.listen, mounts, kernel.shell)

    async def run(self, stopping: asyncio.Event) -> None:
        """Serve until `stopping` is set."""
        self._writer.start()
        self._artifacts.start()
        await self.server.start()
        try:
            await run_until(
                stopping,
                self._kernel.follow(),
                self._kernel.keep_clock(),
                self._projection.run(),
                self._hub.listen(),
                self._upkeep.run(),
                *self._artifacts.loops(),
            )
        finally:
            await self.server.stop(grace_s=2)
            await self._writer.stop()
            await self._artifacts.stop()
            await self._kernel.close()


async def serve(settings: Settings, stopping: asyncio.Event) -> None:
    """Serve until `stopping` is set."""
    await Service(settings, await open_kernel(settings, "metrics", MIGRATIONS)).run(stopping)
