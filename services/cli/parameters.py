"""Arguments and options that several commands share."""

import functools
import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from typing import Annotated, Any, get_type_hints

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
ArchitectureArgument = Annotated[
    str,
    typer.Argument(
        metavar="ARCHITECTURE", help="See `tether train architectures`.", autocompletion=completion.architecture
    ),
]
WorkflowArgument = Annotated[
    str, typer.Argument(metavar="WORKFLOW", help="Name or id of the workflow.", autocompletion=completion.workflow)
]
JobOption = Annotated[str, typer.Option("--job", help="Only this job.", autocompletion=completion.job)]
Month = Annotated[
    str, typer.Option("--month", "--period", metavar="YYYY-MM", help="Calendar month in UTC; default: this one.")
]

_SPAN = re.compile(r"(\d+)\s*(s|m|min|h|d)")
_SPAN_MS = {"s": 1000, "m": 60_000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}


def spread(command: Callable[..., None]) -> Callable[..., None]:
    """The command with the fields of each parameter that is a dataclass as parameters of its own: commands share them.

    A field is declared as Typer's parameters are, and has a default.
    """
    signature = inspect.signature(command, eval_str=True)
    groups: dict[str, Any] = {
        one.name: one.annotation for one in signature.parameters.values() if is_dataclass(one.annotation)
    }
    parameters = []
    for one in signature.parameters.values():
        if one.name not in groups:
            parameters.append(one.replace(kind=one.KEYWORD_ONLY))
            continue
        hints = get_type_hints(groups[one.name], include_extras=True)
        for field in fields(groups[one.name]):
            parameters.append(
                one.replace(name=field.name, kind=one.KEYWORD_ONLY, default=field.default, annotation=hints[field.name])
            )

    @functools.wraps(command)
    def spreading(**given: Any) -> None:
        for name, group in groups.items():
            given[name] = group(**{field.name: given.pop(field.name) for field in fields(group)})
        command(**given)

    spreading.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return spreading


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
