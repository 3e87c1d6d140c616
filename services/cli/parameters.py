"""Arguments and options that several commands share."""

import re
from collections.abc import Sequence
from typing import Annotated

import typer

from services.cli import completion
from services.cli.errors import CliError

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document, for programs.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
JobArgument = Annotated[
    str,
    typer.Argument(metavar="JOB", help="Id, its beginning, a unique name, or `last`.", autocompletion=completion.job),
]
RunnerArgument = Annotated[
    str, typer.Argument(metavar="RUNNER", help="Name or id of the runner.", autocompletion=completion.runner)
]
DatasetArgument = Annotated[
    str, typer.Argument(metavar="DATASET", help="Name or id of the dataset.", autocompletion=completion.dataset)
]
JobOption = Annotated[str, typer.Option("--job", help="Only this job.", autocompletion=completion.job)]
Month = Annotated[
    str, typer.Option("--month", "--period", metavar="YYYY-MM", help="Calendar month in UTC; default: this one.")
]

_SPAN = re.compile(r"(\d+)\s*(s|m|min|h|d)")
_SPAN_MS = {"s": 1000, "m": 60_000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}


def parse_labels(given: Sequence[str]) -> dict[str, str]:
    """`key=value` each. Raises CliError."""
    labels: dict[str, str] = {}
    for text in given:
        key, sign, value = text.partition("=")
        if not sign or not key:
            raise CliError(f"the label {text!r} is not of the form key=value, for example --label room=2")
        labels[key] = value
    return labels


def parse_span_ms(text: str) -> int:
    """`90s`, `30m`, `2h`, `3d`. Raises CliError."""
    found = _SPAN.fullmatch(text.strip())
    if found is None or int(found[1]) == 0:
        raise CliError(f"{text!r} is not a time span; write for example 30m, 2h or 3d")
    return int(found[1]) * _SPAN_MS[found[2]]
