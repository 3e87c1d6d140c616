"""The precision in which a training computes."""

from collections.abc import Sequence
from typing import Any

import torch
from lightning.fabric import Fabric
from lightning.fabric.plugins import MixedPrecision, Precision

from protos.training.v1 import training_pb2
from runner_agent.trainer.failures import ConfigurationFailure

# Compute capability from which GPUs compute bfloat16 in hardware (Ampere).
BFLOAT16_CAPABILITY = (8, 0)


class Mixed(MixedPrecision):
    """Automatic mixed precision: torch casts what gains from it, operation by operation.

    lightning would also cast every input. Boxes would lose their pixels (bfloat16 has 8 bits of mantissa).
    """

    def convert_input(self, data: Any) -> Any:
        return data


def plugin(asked: int, capabilities: Sequence[tuple[int, int]]) -> Precision:
    """How to compute on GPUs of these compute capabilities; none of them: on the CPU, for simulated ones.

    Unspecified means bfloat16 where all GPUs compute it in hardware, otherwise float32. Raises ConfigurationFailure for
    what they cannot.
    """
    able = all(capability >= BFLOAT16_CAPABILITY for capability in capabilities)
    device = "cuda" if capabilities else "cpu"
    if asked == training_pb2.PRECISION_FLOAT16:
        if not capabilities:
            raise ConfigurationFailure(
                "precision float16 needs a real GPU, and those of this runner are simulated; choose bfloat16 or float32"
            )
        return Mixed("16-mixed", device)
    if asked == training_pb2.PRECISION_BFLOAT16 and not able:
        major, minor = min(capabilities)
        raise ConfigurationFailure(
            f"precision bfloat16 needs GPUs of compute capability 8.0, and this runner's have {major}.{minor}; choose "
            "float16 or float32"
        )
    if asked == training_pb2.PRECISION_BFLOAT16 or (
        asked == training_pb2.PRECISION_UNSPECIFIED and capabilities and able
    ):
        return Mixed("bf16-mixed", device)
    return Precision()


def told(precision: Precision) -> str:
    """Its name for people."""
    names = {"bf16-mixed": "bfloat16 where it gains", "16-mixed": "float16 where it gains"}
    return names.get(str(precision.precision), "float32")


def scaler_of(fabric: Fabric) -> torch.amp.GradScaler | None:
    """What scales the loss; None where nothing does."""
    return getattr(fabric.strategy.precision, "scaler", None)
