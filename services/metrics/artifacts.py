"""The parts of the metrics service that keep artifacts, put together."""

from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import platformdirs

from protos.metrics.v1.artifact_pb2_grpc import add_ArtifactServiceServicer_to_server
from services.eventlog.appender import Appender
from services.eventlog.projection import Projection
from services.metrics.artifacts_api import ArtifactApi
from services.metrics.artifacts_exports import Exports
from services.metrics.artifacts_rows import project
from services.metrics.artifacts_saved import Checkpoints, SavedCheckpoints
from services.metrics.artifacts_store import Store
from services.metrics.artifacts_sweep import Sweeper
from services.metrics.artifacts_uploads import UploadLimits, Uploads
from services.metrics.attempts import Register
from services.rpc.kernel import Kernel
from services.rpc.server import Mount


class Artifacts:
    """`start` before use, `stop` after, and run `loops` meanwhile."""

    def __init__(self, kernel: Kernel, register: Register, store: str, uploads: str, limits: UploadLimits) -> None:
        """`store` and `uploads` as the settings name them. Raises StartRefused."""
        url = kernel.settings.postgres_url
        own = Path(platformdirs.user_data_dir("tether"))
        folder = Path(uploads) if uploads else own / "uploads"
        self._store = Store(store or str(own / "artifacts"))
        self._appender = Appender(
            url, "metrics", kernel.clock, project, on_commit=lambda _records: kernel.bus.hint_head()
        )
        self._saved = Projection(url, kernel.pool, kernel.bus, "metrics", SavedCheckpoints())
        checkpoints = Checkpoints(kernel.pool, self._saved, kernel.clock)
        taking = Uploads(kernel.pool, kernel.clock, register, checkpoints, self._appender, self._store, folder, limits)
        self._exports = Exports(kernel, checkpoints)
        self._sweeper = Sweeper(url, kernel.pool, kernel.clock, self._appender, self._store, folder)
        api = ArtifactApi(kernel, register, self._store, taking, self._exports)
        self.mount: Mount = (add_ArtifactServiceServicer_to_server, api, "tether.metrics.v1.ArtifactService")

    def start(self) -> None:
        self._appender.start()

    def loops(self) -> list[Coroutine[Any, Any, None]]:
        return [self._saved.run(), self._exports.run(), self._sweeper.run(), self._sweeper.remove_partials()]

    async def stop(self) -> None:
        await self._appender.stop()
        self._store.close()
