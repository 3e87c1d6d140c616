"""The tables that the scheduler reads at its start: architectures with their requirements, and GPU multipliers."""

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from google.protobuf.json_format import ParseDict, ParseError

from protos.training.v1.training_pb2 import Architecture
from services.rpc.settings import StartRefused
from services.scheduler.domain.placement import MICROS, Rates

ARCHITECTURES = Path(__file__).parent / "architectures.toml"
RATES = Path(__file__).parent / "rates.toml"


def read_architectures(file: Path) -> Mapping[str, Architecture]:
    """By id. Raises StartRefused naming what is wrong."""
    found: dict[str, Architecture] = {}
    for name, entry in _read(file).items():
        try:
            config = json.dumps(entry.pop("config", {}), sort_keys=True)
            architecture = ParseDict(entry, Architecture(architecture_id=name, config_json=config))
        except (ParseError, AttributeError) as error:
            raise StartRefused(f"architecture {name} in {file}: {error}") from None
        found[name] = architecture
    return found


def read_rates(file: Path) -> Rates:
    """Raises StartRefused naming what is wrong."""
    table = _read(file)
    try:
        return Rates(
            {str(name): _micros(value) for name, value in table["gpus"].items()},
            _micros(table["unlisted"]),
            _micros(table["advanced_evaluation"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StartRefused(f"the multipliers in {file} are incomplete or no numbers: {error}") from None


def _micros(value: float) -> int:
    micros = round(value * MICROS)
    if micros <= 0:
        raise ValueError(f"a multiplier is above 0, this one is {value}")
    return micros


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text())
    except OSError as error:
        raise StartRefused(f"cannot read {file}: {error.strerror}") from None
    except tomllib.TOMLDecodeError as error:
        raise StartRefused(f"{file} is not valid TOML: {error}") from None
