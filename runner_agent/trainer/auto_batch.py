"""The batch size `auto`: the largest that fits a share of a GPU's memory."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from lightning.fabric import Fabric

from protos.training.v1 import training_pb2
from runner_agent.trainer.batch_trials import Trials, along_a_line, computed_peaks
from runner_agent.trainer.datasets.loading import Data
from runner_agent.trainer.failures import OutOfMemoryFailure
from runner_agent.trainer.models.base import Model
from runner_agent.trainer.settings import Settings

GIB = 1024**3

# An epoch keeps at least so many steps; fewer train badly, however fast they are.
MIN_STEPS_PER_EPOCH = 8
# How close the search comes: an eighth of the size.
_REFINEMENTS = 3


@dataclass(frozen=True)
class Found:
    """Images per optimiser step, and one line about them for people."""

    batch_size: int
    line: str


def most(train_images: int, usual: int, unit: int) -> int:
    """The largest batch that is tried, in `unit`s of images (one for each GPU and accumulated part); at least one.

    So many that an epoch keeps MIN_STEPS_PER_EPOCH steps, or the usual batch size, where there are images for it.
    """
    return max(max(train_images // MIN_STEPS_PER_EPOCH, min(usual, train_images)) // unit, 1)


def largest(fits: Callable[[int], bool], most: int) -> int:
    """The largest number up to `most` that fits: by powers of two, then closer to within an eighth. 0: none does.

    A single image is the last that is tried: layers that normalise over a batch may not take it.
    """
    found, candidate = 0, 2
    while candidate <= most and fits(candidate):
        found, candidate = candidate, candidate * 2
    if not found:
        return int(fits(1))
    step = found
    for _ in range(_REFINEMENTS):
        step //= 2
        if step and found + step <= most and fits(found + step):
            found += step
    return found


def find(
    settings: Settings,
    architecture: training_pb2.Architecture,
    data: Data,
    model: Model,
    fabric: Fabric,
    simulated_vram_bytes: int,
) -> Found:
    """The batch size of a training that has not begun; nothing of it changes.

    By trying on GPUs; for simulated ones computed, or the usual one where that cannot be, or their memory is not known
    (0). Raises OutOfMemoryFailure where not even one image fits.
    """
    unit = fabric.world_size * settings.accumulate_batches
    usual = max(settings.usual_batch_size, unit)
    on_gpu = fabric.device.type == "cuda"
    vram_bytes = torch.cuda.get_device_properties(fabric.device).total_memory if on_gpu else simulated_vram_bytes
    allowed_bytes = int(settings.auto_batch_vram_share * vram_bytes)
    fits: Callable[[int], bool]
    if on_gpu:
        fits = partial(Trials(settings, data, model, fabric).fits, allowed_bytes=allowed_bytes)
    else:
        peaks = computed_peaks(architecture, settings.image_size) if vram_bytes else None
        if peaks is None:
            return Found(usual, f"batch size auto: {usual}, the usual one; what fits is not known")
        fits = along_a_line(*peaks, allowed_bytes)
    limit = most(len(data.train), usual, unit)
    found = largest(fits, limit)
    share = f"{settings.auto_batch_vram_share:.0%} of {vram_bytes / GIB:.1f} GiB"
    if not found:
        raise OutOfMemoryFailure(
            f"not even one image of {settings.image_size} pixels can be trained on in {share} of a GPU's memory; "
            "choose a smaller image_size or architecture, or a runner with more memory"
        )
    why = f"whose steps fit into {share}" if found < limit else f"for {len(data.train):,} images; it fits into {share}"
    return Found(found * unit, f"batch size auto: {found * unit}, the largest {why}")
