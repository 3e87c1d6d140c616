"""Checks of what an architecture is built from."""

from collections.abc import Mapping
from typing import Any

from runner_agent.trainer.failures import ConfigurationFailure


def require_known(family: str, config: Mapping[str, Any], known: frozenset[str]) -> None:
    """Raises ConfigurationFailure for a setting that the family does not have."""
    unknown = sorted(config.keys() - known)
    if unknown:
        raise ConfigurationFailure(f"family {family} has no setting {unknown[0]}; it knows {', '.join(sorted(known))}")


def require_same_length(config: Any, first: str, second: str) -> None:
    """Raises ConfigurationFailure where two lists of a configuration differ in length, with one entry a stage each.

    transformers would leave out the stages that are in one list only.
    """
    if len(getattr(config, first) or ()) != len(getattr(config, second) or ()):
        raise ConfigurationFailure(f"the architecture's {first} and {second} are not of the same length")


def require_image_size(family: str, image_size: int, *, multiple: int = 1, minimum: int = 1) -> None:
    """Raises ConfigurationFailure, with the nearest size that fits, where a family cannot take images of this one."""
    if image_size >= minimum and image_size % multiple == 0:
        return
    nearest = max(round(image_size / multiple) * multiple, -(-minimum // multiple) * multiple)
    takes = f"multiples of {multiple} pixels" if multiple > 1 else f"{minimum} pixels or more"
    raise ConfigurationFailure(f"family {family} takes {takes}, and image_size is {image_size}; choose {nearest}")
