"""Pretrained weights that the box's owner has put there: for boxes that reach no model hub. Never code.

Each lies in a folder of its own below the runner's, `weights/<name, / as -->/`: `model.safetensors` and `about.json`.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import Any

from runner_agent import files, ownership
from runner_agent.errors import BoxError

FOLDER = "weights"
FILE = "model.safetensors"
_ABOUT = "about.json"
# As on the hub: an owner and a name, or a name alone.
_NAME = re.compile(r"(?=.{1,96}\Z)[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)
_PICKLED = ("pytorch_model.bin", "model.bin")
_PICKLED_ENDINGS = (".bin", ".pt", ".pth")
_CHUNK_BYTES = 1 << 22


@dataclass(frozen=True)
class Weights:
    """Weights on this box."""

    name: str
    bytes: int
    # Numbers in all tensors.
    parameters: int
    # SHA-256 of the file, hexadecimal.
    sha256: str
    # Of the configuration beside them, for example `resnet`; empty where there was none.
    model_type: str


def find(runner: Path, name: str) -> Path | None:
    """The file of weights below a runner's folder; None where there is none of this name."""
    if not _is_name(name):
        return None
    path = _folder(runner, name) / FILE
    return path if path.is_file() else None


def listed(runner: Path) -> list[Weights]:
    """By name; a folder that is damaged is left out."""
    found = [_about(path) for path in sorted((runner / FOLDER).glob(f"*/{_ABOUT}"))]
    return sorted((one for one in found if one is not None), key=lambda one: one.name)


def add(runner: Path, name: str, source: Path) -> Weights:
    """Copy weights below a runner's folder, in place of those of the same name.

    `source`: a folder with `model.safetensors` (and `config.json`), or one file. Raises BoxError where it is neither,
    or holds anything but tensors, and OSError where the disk does not take it.
    """
    if not _is_name(name):
        raise BoxError(f"{name!r} is not a name for weights; choose one such as microsoft/resnet-18 or my-weights")
    root = runner / FOLDER
    root.mkdir(mode=0o700, exist_ok=True)
    temporary = root / f".{_folder(runner, name).name}.{os.getpid()}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(mode=0o700)
    try:
        # What the caller may read need not be readable for the runner's owner.
        with ownership.as_caller():
            file, model_type = _file_of(source)
            opened = file.open("rb")
        with opened:
            if file.suffix == ".safetensors":
                with (temporary / FILE).open("wb") as copy:
                    shutil.copyfileobj(opened, copy, _CHUNK_BYTES)
            else:
                _convert(opened, file, temporary / FILE)
        parameters = _count(temporary / FILE, file)
        with (temporary / FILE).open("rb") as written:
            os.fsync(written.fileno())
            digest = hashlib.file_digest(written, "sha256").hexdigest()
        about = Weights(name, (temporary / FILE).stat().st_size, parameters, digest, model_type)
        files.replace(temporary / _ABOUT, json.dumps(asdict(about)).encode())
        shutil.rmtree(_folder(runner, name), ignore_errors=True)
        temporary.rename(_folder(runner, name))
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    files.sync_folder(root)
    return about


def remove(runner: Path, name: str) -> None:
    """Raises BoxError where there are none of this name."""
    if not _is_name(name) or not _folder(runner, name).is_dir():
        raise BoxError(f"this runner has no weights {name!r}; see `tether-runner weights list`")
    shutil.rmtree(_folder(runner, name))


def _is_name(name: str) -> bool:
    # Two hyphens stand for the slash in the folder's name.
    return bool(_NAME.fullmatch(name)) and "--" not in name and not name.endswith((".", "-"))


def _folder(runner: Path, name: str) -> Path:
    return runner / FOLDER / name.replace("/", "--")


def _about(path: Path) -> Weights | None:
    content = files.read_json(path)
    try:
        return None if content is None else Weights(**content)
    except TypeError:
        return None


def _file_of(source: Path) -> tuple[Path, str]:
    """The file to copy, and the configuration's model type. Raises BoxError where there is nothing that can be used."""
    if source.is_file():
        if source.suffix not in (".safetensors", *_PICKLED_ENDINGS):
            raise BoxError(f"{source} is not a file of weights; give a .safetensors file, or a folder with {FILE}")
        return source, ""
    if not source.is_dir():
        raise BoxError(f"there is no {source}; give a .safetensors file, or a folder with {FILE}")
    if (source / f"{FILE}.index.json").exists():
        raise BoxError(f"the weights in {source} are in several parts; save them as one {FILE}")
    config: dict[str, Any] = files.read_json(source / "config.json") or {}
    model_type = str(config.get("model_type", ""))[:100]
    for name in (FILE, *_PICKLED):
        if (source / name).is_file():
            return source / name, model_type
    raise BoxError(f"there is no {FILE} in {source}; save the model with save_pretrained, or give the file itself")


def _count(path: Path, source: Path) -> int:
    """Numbers in all tensors of a safetensors file. Raises BoxError where it is not one, or is empty."""
    from safetensors import SafetensorError, safe_open  # only `add` needs it

    try:
        with safe_open(path, framework="numpy") as content:
            shapes = [content.get_slice(key).get_shape() for key in content.keys()]  # noqa: SIM118 (no mapping)
    except SafetensorError as error:
        raise BoxError(f"{source} is not a whole safetensors file ({error}); copy it again") from None
    if not shapes:
        raise BoxError(f"{source} holds no tensors; give the weights of a model")
    return sum(prod(shape) for shape in shapes)


def _convert(opened: Any, source: Path, target: Path) -> None:
    """A pickled file of tensors as safetensors; anything in it that is not a tensor is refused, never run."""
    import pickle
    import warnings

    import torch  # takes seconds to import, and only such files need it
    from safetensors.torch import save_file

    try:
        # Its warnings are about old formats.
        with warnings.catch_warnings(action="ignore"):
            content = torch.load(opened, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        why = " ".join(str(error).split())[:120]
        raise BoxError(
            f"{source} holds something else than tensors, or is damaged ({why}); save the weights as safetensors"
        ) from None
    tensors = {name: tensor.clone().contiguous() for name, tensor in _tensors_in(content)}
    if not tensors:
        raise BoxError(f"{source} holds no tensors by name; give the state dict of a model, or a safetensors file")
    save_file(tensors, target)


def _tensors_in(content: Any) -> Iterator[tuple[str, Any]]:
    """A state dict, or one below a usual name of a checkpoint."""
    import torch

    if not isinstance(content, dict):
        return
    for key in ("state_dict", "model"):
        if isinstance(content.get(key), dict):
            content = content[key]
            break
    yield from ((str(name), value) for name, value in content.items() if isinstance(value, torch.Tensor))
