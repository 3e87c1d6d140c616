"""Makes exports on the box, one at a time, in a process of its own, and sends them to the platform."""

import asyncio
import shutil
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import grpc.aio
import structlog

from protos.metrics.v1 import artifact_pb2 as pb
from runner_agent import files, inputs, side_process
from runner_agent.artifact_calls import AWAY, ArtifactCalls, Refused, Vanished, digest_of, is_final, reason_of
from runner_agent.attempts import ID_PATTERN
from runner_agent.inputs import Input, InputFailed
from runner_agent.threads import in_daemon_thread
from runner_agent.uploads import NAME

TIME_LIMIT_S = 900.0
LONGEST_BACKOFF_S = 30.0
# Between two streams of exports.
LONGEST_PAUSE_S = 10.0
FORMATS = {pb.ARTIFACT_KIND_ONNX: "onnx", pb.ARTIFACT_KIND_SAFETENSORS: "safetensors"}

log = structlog.get_logger()


class ExportFailed(Exception):
    """The export cannot be made; one sentence."""


class Exporter:
    """Works in `folder`, which is empty when nothing is being made."""

    def __init__(self, calls: ArtifactCalls, attempts: Path, folder: Path, jitter: Callable[[], float]) -> None:
        self._calls, self._attempts, self._folder, self._jitter = calls, attempts, folder, jitter
        self._orders: asyncio.Queue[pb.ExportOnBox] = asyncio.Queue()
        # Waiting, or being made.
        self._taken: set[str] = set()

    async def run(self) -> None:
        """Until cancelled; the platform tells again what was not made."""
        shutil.rmtree(self._folder, ignore_errors=True)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch())
            group.create_task(self._work())

    async def _watch(self) -> None:
        failures = 0
        while True:
            if self._calls.ready:
                try:
                    async for order in self._calls.exports():
                        failures = 0
                        if order.artifact_id not in self._taken:
                            self._taken.add(order.artifact_id)
                            self._orders.put_nowait(order)
                except AWAY as error:
                    log.debug("exports cannot be asked for now", reason=reason_of(error))
            await asyncio.sleep(0.2 + self._jitter() * min(LONGEST_PAUSE_S, 2.0**failures))
            failures = min(failures + 1, 5)

    async def _work(self) -> None:
        while True:
            order = await self._orders.get()
            try:
                await self._make(order)
            finally:
                shutil.rmtree(self._folder, ignore_errors=True)
                self._taken.discard(order.artifact_id)

    async def _make(self, order: pb.ExportOnBox) -> None:
        header = pb.UploadHeader(
            attempt_id=order.attempt_id, job_id=order.job_id, kind=order.kind, artifact_id=order.artifact_id
        )
        try:
            made, header.step = await self._export(order)
            header.name = made.name
            header.bytes, header.sha256 = await in_daemon_thread(lambda: digest_of(made))
            log.info("model exported", job=order.job_id, name=made.name)
            await self._again(lambda: self._calls.upload(header, made))
            return
        except (ExportFailed, InputFailed) as error:
            sentence = str(error)
        except Vanished:
            sentence = "the export was removed from the box while it was sent; ask for it again"
        except grpc.aio.AioRpcError as error:
            sentence = f"the platform does not take the export: {reason_of(error)}"
        except OSError as error:
            sentence = f"the box cannot write or read the export: {error.strerror or error}"
        log.warning("a model cannot be exported", job=order.job_id, checkpoint=order.checkpoint, reason=sentence)
        try:
            await self._again(lambda: self._calls.fail(header, sentence))
        except (grpc.aio.AioRpcError, OSError) as error:
            log.warning("the platform is not told that an export has failed", reason=reason_of(error))

    async def _export(self, order: pb.ExportOnBox) -> tuple[Path, int]:
        """The file and its step. Raises ExportFailed, InputFailed, OSError."""
        format_ = FORMATS.get(order.kind)
        if format_ is None:
            raise ExportFailed("this version of the agent does not know the export's format; upgrade the agent")
        checkpoint = await self._checkpoint(order)
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        stem = Path(order.checkpoint).stem
        output = self._folder / (f"{stem}.onnx" if format_ == "onnx" else f"{stem}-weights.safetensors")
        report = self._folder / "report.json"
        command = [sys.executable, "-P", "-m", "runner_agent.trainer.export", "--format", format_]
        command += ["--checkpoint", str(checkpoint), "--sha256", order.sha256, "--job-id", order.job_id]
        command += ["--output", str(output), "--report", str(report)]
        code = await side_process.run(command, TIME_LIMIT_S)
        found = files.read_json(report) or {}
        if found.get("failed"):
            raise ExportFailed(str(found["failed"]))
        if code != 0 or not output.exists():
            how = f"took longer than {TIME_LIMIT_S / 60:g} minutes" if code is None else f"ended with code {code}"
            raise ExportFailed(f"the export of {order.checkpoint} {how} on the box; see `tether-runner logs`")
        return output, int(found.get("step", 0))

    async def _checkpoint(self, order: pb.ExportOnBox) -> Path:
        if not NAME.fullmatch(order.checkpoint) or not ID_PATTERN.fullmatch(order.attempt_id):
            raise ExportFailed(f"{order.checkpoint[:100]!r} is not the name of a checkpoint")
        here = self._attempts / order.attempt_id / "checkpoints" / order.checkpoint
        if here.exists():
            return here
        if not order.checkpoint_artifact_id:
            raise ExportFailed(f"the checkpoint {order.checkpoint} is neither on its box any more nor on the platform")
        wanted = Input(order.attempt_id, order.checkpoint, order.sha256, order.checkpoint_artifact_id)
        return await inputs.fetch(self._calls, wanted, self._folder, self._jitter)

    async def _again(self, tell: Callable[[], Awaitable[object]]) -> None:
        """Until the platform has taken it, or says that it will not.

        Raises what `tell` raises where asking again does not help.
        """
        failures = 0
        while True:
            try:
                await tell()
                return
            except Refused as error:
                log.warning("the platform does not take an export", reason=str(error))
                return
            except AWAY as error:
                if is_final(error):
                    raise
                if failures == 0:
                    log.warning("an export cannot be delivered now", reason=reason_of(error))
            failures += 1
            await asyncio.sleep(self._jitter() * min(LONGEST_BACKOFF_S, 2.0 ** min(failures, 5)))
