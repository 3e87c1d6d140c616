"""Envoy's way to name the type of a piece of configuration."""

from typing import Any

Json = dict[str, Any]


def typed(message: str, **fields: Any) -> Json:
    """A message of Envoy's API; `message` as in `extensions.filters.http.router.v3.Router`."""
    return {"@type": f"type.googleapis.com/envoy.{message}", **fields}


def extension(name: str, message: str, **fields: Any) -> Json:
    """A filter, or whatever else Envoy finds by a name."""
    return {"name": name, "typed_config": typed(message, **fields)}


def seconds(duration_s: float) -> str:
    return f"{duration_s:g}s"
