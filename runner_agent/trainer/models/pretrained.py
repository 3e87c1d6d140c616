"""Pretrained weights into a built model. They are read from this box; nothing is downloaded, and no code is run."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from huggingface_hub import constants, try_to_load_from_cache
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional
from transformers.utils import logging as transformers_logging

from runner_agent.trainer.failures import ConfigurationFailure, InfrastructureFailure
from runner_agent.trainer.models.base import Model

FILE = "model.safetensors"
# Less of a model than this is not the same architecture.
LEAST_SHARE = 0.5
_POSITIONS = "position_embeddings"


@dataclass(frozen=True)
class Fitted:
    """What came of fitting weights into a model."""

    # Names of parameters that keep their random values, without those of the network around them.
    fresh: tuple[str, ...]
    # Of the model's parameters, how many got a value, 0 to 1.
    share: float

    def line(self) -> str:
        """For the log; empty where everything fitted."""
        if not self.fresh:
            return ""
        shown = ", ".join(self.fresh[:4]) + (f" and {len(self.fresh) - 4} more" if len(self.fresh) > 4 else "")
        return f"begin with random values, because the weights do not fit: {shown}"


def in_hub_cache(name: str) -> Path | None:
    """A file of weights in this user's cache of the Hugging Face hub (HF_HUB_CACHE); None where it has none."""
    try:
        found = try_to_load_from_cache(name, FILE, cache_dir=constants.HF_HUB_CACHE)
    except ValueError:  # not a name of the hub
        return None
    return Path(found) if isinstance(found, str) else None


def read(path: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file. Raises InfrastructureFailure where it cannot be read."""
    try:
        # Not mapped into memory: there, a disk that fails would end the process instead of raising.
        return safetensors.torch.load(path.read_bytes())
    except OSError as error:
        why = error.strerror or str(error)
    except (SafetensorError, ValueError) as error:
        why = " ".join(str(error).split())[:300]
    raise InfrastructureFailure(f"the weights in {path} cannot be read ({why}); add them again, or choose others")


@torch.no_grad()
def load_published(model: Model, tensors: Mapping[str, Tensor], name: str) -> Fitted:
    """Take over weights as transformers saves them, those of a head for other classes left out.

    Raises ConfigurationFailure where less than half of the model's parameters get a value.
    """
    network: Any = model.network
    published = getattr(model, "published", type(network))
    given = _resized(network, _mirrored(tensors))
    with _silent():
        # Knows what transformers has renamed since the weights were saved.
        loaded, info = published.from_pretrained(
            None,
            config=network.config,
            state_dict=given,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            dtype=torch.float32,
        )
    left_out = {*info["missing_keys"], *(one[0] for one in info["mismatched_keys"])}
    # A detector's network is the inner one of what is published.
    prefix = "" if published is type(network) else "model."
    found = {
        key.removeprefix(prefix): tensor
        for key, tensor in loaded.state_dict().items()
        if key.startswith(prefix) and key not in left_out
    }
    return _take(network, found, name)


@torch.no_grad()
def load_own(model: Model, tensors: Mapping[str, Tensor], name: str, leave_out: frozenset[str]) -> Fitted:
    """Take over weights of an own checkpoint, without those named in `leave_out`.

    Raises ConfigurationFailure where less than half of the model's parameters get a value.
    """
    return _take(model, {key: tensor for key, tensor in _resized(model, tensors).items() if key not in leave_out}, name)


def _take(network: nn.Module, found: Mapping[str, Tensor], name: str) -> Fitted:
    state = network.state_dict()
    fitting = {key: tensor for key, tensor in found.items() if key in state and state[key].shape == tensor.shape}
    sizes = {key: parameter.numel() for key, parameter in network.named_parameters()}
    share = sum(size for key, size in sizes.items() if key in fitting) / max(1, sum(sizes.values()))
    if share < LEAST_SHARE:
        raise ConfigurationFailure(
            f"the weights {name} are of another architecture: only {share:.0%} of the model's parameters are in them; "
            "choose weights of this architecture, or random ones"
        )
    network.load_state_dict(fitting, strict=False)
    return Fitted(tuple(key for key in sizes if key not in fitting), share)


def _mirrored(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """With a detector's heads where its decoder has them: they are saved once, under either name."""
    mirrored = dict(tensors)
    for key, tensor in tensors.items():
        if key.startswith(("class_embed.", "bbox_embed.")):
            mirrored.setdefault(f"model.decoder.{key}", tensor)
    return mirrored


def _resized(network: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """With position embeddings (1, 1 + patches, width) interpolated to the model's image size, as is usual
    (https://arxiv.org/abs/2010.11929, section 3.2)."""
    wanted = {key: value.shape for key, value in network.named_parameters() if key.endswith(_POSITIONS)}
    resized = dict(tensors)
    for key, tensor in tensors.items():
        shape = next(iter(wanted.values()), None) if key.endswith(_POSITIONS) else None
        if shape is None or tensor.ndim != 3 or tensor.shape == shape or tensor.shape[2] != shape[2]:
            continue
        old, new = (round((count - 1) ** 0.5) for count in (tensor.shape[1], shape[1]))
        if old**2 + 1 != tensor.shape[1] or new**2 + 1 != shape[1]:
            continue
        grid = tensor[:, 1:].float().reshape(1, old, old, -1).permute(0, 3, 1, 2)
        grid = functional.interpolate(grid, (new, new), mode="bicubic", align_corners=False)
        resized[key] = torch.cat([tensor[:, :1].float(), grid.flatten(2).transpose(1, 2)], 1).contiguous()
    return resized


@contextmanager
def _silent() -> Iterator[None]:
    """Without the progress and the table that transformers prints: what matters is told in a sentence."""
    library: Any = transformers_logging
    before, bars = library.get_verbosity(), library.is_progress_bar_enabled()
    library.set_verbosity(logging.CRITICAL)
    library.disable_progress_bar()
    try:
        yield
    finally:
        library.set_verbosity(before)
        if bars:
            library.enable_progress_bar()
