"""Confusion matrices as they are told: predictions in rows, ground truth in columns, the background last."""

from collections.abc import Sequence

import torch
from torch import Tensor

from protos.training.v1 import training_pb2

BACKGROUND = "background"


def of_classes(classes: Sequence[str], counts: Tensor) -> training_pb2.ConfusionMatrix:
    """`counts` (n, n) in the order of the classes. One that is named background is moved to the end."""
    named = [index for index, name in enumerate(classes) if name.strip().lower() == BACKGROUND]
    order = [index for index in range(len(classes)) if index not in named[:1]] + named[:1]
    index = torch.tensor(order, device=counts.device)
    return training_pb2.ConfusionMatrix(
        classes=[classes[index] for index in order],
        counts=counts[index][:, index].flatten().tolist(),
        background=bool(named),
    )
