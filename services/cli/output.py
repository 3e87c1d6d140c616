"""Where things are printed: people's words and tables, programs' JSON, errors."""

import sys
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:
    from google.protobuf.message import Message

# A pipe has no width; lines in it are for grep and must not be cut.
_PIPE_WIDTH = 240


def console() -> Console:
    """People's output, on stdout."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else _PIPE_WIDTH)


def error_console() -> Console:
    """What must not get into a pipe: errors, progress, hints. On stderr."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def print_error(sentence: str) -> None:
    error_console().print(f"[bold red]error:[/] {escape(sentence)}")


def print_json(message: "Message") -> None:
    """One document with every field of the message, names as in the protos, keys sorted, 64-bit numbers as strings
    (the rule of proto JSON)."""
    print(to_json(message, indent=2))


def to_json(message: "Message", indent: int | None = None) -> str:
    from google.protobuf.json_format import MessageToJson

    return MessageToJson(
        message,
        preserving_proto_field_name=True,
        always_print_fields_with_no_presence=True,
        ensure_ascii=False,
        sort_keys=True,
        indent=indent,
    )
