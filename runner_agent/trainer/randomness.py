"""Random numbers of a training: a function of its seed and the step, never of what was computed before.

A training that goes on from a checkpoint thereby draws what it would have drawn, on any number of processes, and
nothing of it has to be saved.
"""

import random

import torch


def begin(seed: int, step: int, rank: int, part: int) -> None:
    """Set torch's generators for one part of the step's batch on one process."""
    state = random.Random(f"{seed}/{step}/{rank}/{part}").getrandbits(63)
    # torch.manual_seed would also queue a call, with its stack, for each kind of device that is not there.
    torch.default_generator.manual_seed(state)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.manual_seed(state)
