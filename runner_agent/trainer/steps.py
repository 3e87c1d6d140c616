"""One optimiser step: the batch's parts one after another, their gradients together, clipped, then the update."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext

import torch
from lightning.fabric import Fabric
from torch import Tensor

from runner_agent.trainer import optimisers, randomness
from runner_agent.trainer.augment import Augment
from runner_agent.trainer.batch import Batch
from runner_agent.trainer.failures import ConfigurationFailure
from runner_agent.trainer.models.base import Model
from runner_agent.trainer.pixels import normalise
from runner_agent.trainer.precision import scaler_of
from runner_agent.trainer.settings import Settings


class Steps:
    """The optimiser and the model that it trains, over all processes."""

    def __init__(self, settings: Settings, batch_size: int, model: Model, fabric: Fabric) -> None:
        """Raises ConfigurationFailure where a batch is too small to be shared."""
        self._parts = settings.accumulate_batches
        if batch_size < fabric.world_size * self._parts:
            shared = f"{fabric.world_size} GPUs" + (f" in {self._parts} parts each" if self._parts > 1 else "")
            raise ConfigurationFailure(
                f"a batch of {batch_size} images cannot be shared by {shared}; choose a larger batch_size"
                f"{', fewer accumulate_batches' if self._parts > 1 else ''} or add images"
            )
        self._settings = settings
        self._batch_size = batch_size
        self._fabric = fabric
        self._augment = Augment(settings.augmentations)
        # lightning refuses to clip what a fused optimiser would unscale by itself.
        fused = scaler_of(fabric) is None
        optimizer = optimisers.build(
            settings.optimizer, model, settings.learning_rate, settings.weight_decay, fused=fused
        )
        self._model, self.optimizer = fabric.setup(model, optimizer)

    def shares(self, batches: Iterable[Sequence[int]]) -> list[list[int]]:
        """What this process computes of these batches, part by part."""
        rank, processes = self._fabric.global_rank, self._fabric.world_size
        # Of sizes that differ by one image at most.
        return [list(batch[rank::processes][part :: self._parts]) for batch in batches for part in range(self._parts)]

    def part_size(self) -> int:
        """Images that this process holds at once, at most."""
        return -(-self._batch_size // (self._fabric.world_size * self._parts))

    def batches(self, parts: Iterator[Batch]) -> Iterator[tuple[Batch, ...]]:
        """The parts that belong to one step, together."""
        return zip(*[parts] * self._parts, strict=True)

    def take(self, parts: Iterable[Batch], step: int, learning_rate: float) -> Tensor:
        """The step with this number, from 1. Returns the mean loss over this process's images, a scalar."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        fabric = self._fabric
        losses: list[Tensor] = []
        self.optimizer.zero_grad()
        for number, part in enumerate(parts, 1):
            randomness.begin(self._settings.seed, step, fabric.global_rank, number)
            pixels, targets = self._augment(part, fabric.device)
            last = number == self._parts
            with nullcontext() if last else fabric.no_backward_sync(self._model):
                loss, _ = self._model(normalise(pixels), targets)
                # Every image weighs the same. Processes are averaged, which is undone for parts of unequal sizes.
                weight = len(part.indices) * fabric.world_size / self._batch_size
                weighted = loss if weight == 1 else loss * weight
                fabric.backward(weighted)
            losses.append(weighted.detach())
        if self._settings.gradient_clip_norm:
            # Gradients that are no numbers are the scaler's to leave out, or show as a loss that is none.
            fabric.clip_gradients(
                self._model,
                self.optimizer,
                max_norm=self._settings.gradient_clip_norm,
                error_if_nonfinite=False,
            )
        self.optimizer.step()
        return torch.stack(losses).sum()


def memory_format(model: Model) -> torch.memory_format:
    """Convolutions are faster over channels-last memory, on CPUs as on recent GPUs; transformers gain nothing."""
    weights = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    of_convolutions = sum(weight.numel() for weight in weights if weight.ndim == 4)
    mostly = 2 * of_convolutions > sum(weight.numel() for weight in weights)
    return torch.channels_last if mostly else torch.contiguous_format
