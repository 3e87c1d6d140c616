"""What a model is to the training loop, whatever its architecture and task."""

from abc import abstractmethod

from torch import Tensor, nn

from runner_agent.trainer.batch import Predictions, Targets


class Model(nn.Module):
    """Images, float32 (n, 3, size, size) and normalised, to a loss and what is predicted.

    The loop calls the model itself, so that what wraps it (DDP, mixed precision) sees one forward pass a step.
    """

    @abstractmethod
    def forward(self, pixels: Tensor, targets: Targets) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The mean loss over the images, a scalar, and the raw outputs that `decode` takes."""

    @abstractmethod
    def outputs(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Raw outputs without targets: what an exported model gives."""

    @abstractmethod
    def decode(self, raw: tuple[Tensor, ...]) -> Predictions:
        """Predictions from raw outputs."""
