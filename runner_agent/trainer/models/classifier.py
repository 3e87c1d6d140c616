"""Classification: one class an image."""

from torch import Tensor, nn
from torch.nn import functional

from runner_agent.trainer.batch import Predictions, Targets
from runner_agent.trainer.models.base import Model


class ImageClassifier(Model):
    """A network of transformers whose output has `logits`, (n, classes). The loss is the cross-entropy in nats."""

    def __init__(self, network: nn.Module, inputs: nn.Module | None = None) -> None:
        super().__init__()
        self.network = network
        self.inputs = inputs or nn.Identity()

    def forward(self, pixels: Tensor, targets: Targets) -> tuple[Tensor, tuple[Tensor, ...]]:
        assert isinstance(targets, Tensor)
        (logits,) = self.outputs(pixels)
        return functional.cross_entropy(logits.float(), targets), (logits,)

    def outputs(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Logits (n, classes)."""
        return (self.network(pixel_values=self.inputs(pixels)).logits,)

    def decode(self, raw: tuple[Tensor, ...]) -> Predictions:
        return raw[0].float().softmax(1)
