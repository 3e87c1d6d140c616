"""What is trained on what, as it is told once at the start of a training."""

import torch
from lightning.fabric import Fabric

from protos.metrics.v1 import ingest_pb2
from runner_agent.trainer.datasets.loading import Data
from runner_agent.trainer.settings import Settings


def of(
    settings: Settings, data: Data, fabric: Fabric, batch_size: int, steps_per_epoch: int
) -> ingest_pb2.TrainingFacts:
    """`batch_size` is what the training really uses."""
    cuda = fabric.device.type == "cuda"
    return ingest_pb2.TrainingFacts(
        classes=data.classes,
        train_support=data.train_support,
        train_images=len(data.train),
        batch_size=batch_size,
        vram_bytes=torch.cuda.get_device_properties(fabric.device).total_memory if cuda else 0,
        task=settings.task,
        learning_rate=settings.learning_rate,
        steps_per_epoch=steps_per_epoch,
    )
