"""Does once, while nobody waits, what a first training step would otherwise wait for."""

import torch
from PIL import Image

from protos.training.v1 import training_pb2
from runner_agent.trainer.augment import Augment
from runner_agent.trainer.batch import Batch
from runner_agent.trainer.models import registry
from runner_agent.trainer.pixels import normalise

_CONFIG = '{"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}'

_AUGMENTATIONS = training_pb2.Augmentations(
    horizontal_flip=0.5, rotation_degrees=5, brightness=0.1, contrast=0.1, saturation=0.1, hue=0.1, blur=0.5
)


def warm_up() -> None:
    """Run one step of a tiny model on the CPU: loads kernels, starts threads, leaves nothing behind.

    Touches no GPU: which ones are the training's is not known yet.
    """
    Image.init()
    model = registry.build("resnet", _CONFIG, 2, 32).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(model.parameters())
    labels = torch.zeros(4, dtype=torch.int64)
    batch = Batch((0, 1, 2, 3), torch.zeros(4, 3, 32, 32, dtype=torch.uint8), labels, torch.full((4, 2), 32))
    pixels, targets = Augment(_AUGMENTATIONS)(batch, torch.device("cpu"))
    loss, _ = model(normalise(pixels), targets)
    torch.autograd.backward(loss)
    optimizer.step()
