"""Whether a training step of so many images fits into a GPU's memory: tried on the GPU, or computed without one."""

import contextlib
import copy
import multiprocessing
import os
from collections.abc import Callable
from multiprocessing.connection import Connection

import torch
from lightning.fabric import Fabric
from torch import Tensor, distributed
from torch._subclasses.fake_tensor import FakeTensorMode

from protos.training.v1 import training_pb2
from runner_agent.processes import die_with_parent
from runner_agent.trainer import optimisers, randomness, requirements
from runner_agent.trainer.augment import Augment
from runner_agent.trainer.batch import Batch, Boxes
from runner_agent.trainer.datasets.loading import Data
from runner_agent.trainer.failures import is_out_of_memory
from runner_agent.trainer.models.base import Model
from runner_agent.trainer.pixels import normalise
from runner_agent.trainer.settings import Settings
from runner_agent.trainer.steps import memory_format

# The first step makes the optimiser's state, which takes part in the peak of the second one.
_STEPS = 2
# Of so many images a trial's batch is made; more would only be decoded for nothing.
_DECODED = 16
FEW, MANY = 2, 8
COMPUTE_TIMEOUT_S = 60.0


class Trials:
    """Steps on a copy of the model, which is thrown away: the training itself is as before."""

    def __init__(self, settings: Settings, data: Data, model: Model, fabric: Fabric) -> None:
        self._settings = settings
        self._model = model
        self._fabric = fabric
        self._augment = Augment(settings.augmentations)
        (self._batch,) = data.source.batches([list(data.train[:_DECODED])])

    def fits(self, images: int, allowed_bytes: int) -> bool:
        """Whether steps of so many images on each GPU leave its memory below `allowed_bytes`, on all processes."""
        try:
            fits = self._peak_bytes(images) <= allowed_bytes
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            fits = False
        # What a failed step held is free only now that its exception is gone.
        torch.cuda.empty_cache()
        if self._fabric.world_size > 1:
            agreed = torch.tensor(int(fits), device=self._fabric.device)
            distributed.all_reduce(agreed, distributed.ReduceOp.MIN)
            fits = bool(agreed.item())
        return fits

    def _peak_bytes(self, images: int) -> int:
        device, settings = self._fabric.device, self._settings
        torch.cuda.reset_peak_memory_stats(device)
        model = copy.deepcopy(self._model).to(device, memory_format=memory_format(self._model))  # type: ignore[call-overload]
        optimizer = optimisers.build(settings.optimizer, model, settings.learning_rate, settings.weight_decay)
        model.train()
        batch = repeated(self._batch, images)
        for step in range(_STEPS):
            randomness.begin(settings.seed, step, self._fabric.global_rank, 0)
            pixels, targets = self._augment(batch, device)
            with self._fabric.autocast():
                loss, _ = model(normalise(pixels), targets)
            torch.autograd.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
        peak_bytes = torch.cuda.max_memory_allocated(device)
        if self._fabric.world_size > 1:
            # Processes exchange gradients through buffers of the same size.
            peak_bytes += sum(parameter.nbytes for parameter in model.parameters())
        return peak_bytes


def repeated(batch: Batch, images: int) -> Batch:
    """A batch of so many images, made of these again and again."""
    order = [index % len(batch.indices) for index in range(images)]
    targets: Tensor | tuple[Boxes, ...]
    if isinstance(batch.targets, Tensor):
        targets = batch.targets[order]
    else:
        targets = tuple(batch.targets[index] for index in order)
    return Batch(tuple(batch.indices[index] for index in order), batch.pixels[order], targets, batch.sizes[order])


def along_a_line(at_few: int, at_many: int, allowed_bytes: int) -> Callable[[int], bool]:
    """Whether so many images fit, from the peaks at FEW and MANY: what a step keeps grows evenly with its images."""
    each = (at_many - at_few) / (MANY - FEW)
    return lambda images: at_few + (images - FEW) * each <= allowed_bytes


def computed_peaks(architecture: training_pb2.Architecture, image_size: int) -> tuple[int, int] | None:
    """Peaks of a step of FEW and of MANY images, in bytes, by torch's memory tracker; None where it finds none.

    In a process of its own: libraries keep tensors without content for later, which a training must not meet.
    """
    context = multiprocessing.get_context("fork")
    reader, writer = context.Pipe(duplex=False)
    process = context.Process(target=_tell_peaks, args=(architecture, image_size, os.getpid(), writer), daemon=True)
    process.start()
    writer.close()
    try:
        if not reader.poll(COMPUTE_TIMEOUT_S):
            return None
        at_few, at_many = reader.recv()
    except EOFError:
        return None
    finally:
        process.kill()
        process.join()
        process.close()
        reader.close()
    return at_few, at_many


def _tell_peaks(architecture: training_pb2.Architecture, image_size: int, trainer_pid: int, writer: Connection) -> None:
    die_with_parent(trainer_pid)
    mode, peaks = FakeTensorMode(), []
    # Hollow tensors fail in ways of their own. What cannot be computed is not known, and fails no training.
    with contextlib.suppress(Exception):
        for images in (FEW, MANY):
            one = training_pb2.Architecture()
            one.CopyFrom(architecture)
            one.defaults.batch_size, one.defaults.image_size = images, image_size
            peaks.append(requirements.compute(one, mode).peak_bytes)
        writer.send(peaks)
