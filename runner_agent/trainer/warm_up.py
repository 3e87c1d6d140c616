"""Does once, while nobody waits, what a first training step would otherwise wait for."""

import torch
from PIL import Image

from runner_agent.trainer.models import registry
from runner_agent.trainer.pixels import normalise

_CONFIG = '{"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}'


def warm_up() -> None:
    """Run one step of a tiny model on the CPU: loads kernels, starts threads, leaves nothing behind.

    Touches no GPU: which ones are the training's is not known yet.
    """
    Image.init()
    model = registry.build("resnet", _CONFIG, 2).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(model.parameters())
    loss, _ = model(normalise(torch.zeros(4, 3, 32, 32, dtype=torch.uint8)), torch.zeros(4, dtype=torch.int64))
    torch.autograd.backward(loss)
    optimizer.step()
