"""Names of classes as files beside the images give them: classes.txt and YOLO's data.yaml."""

import re
from typing import Any

from runner_agent.trainer.datasets.listing import MAX_CLASSES, ListingError, printable
from runner_agent.trainer.datasets.walk import Walk

CLASSES = "classes.txt"
_YAML = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
_MAX_BYTES = 1024 * 1024
_COLOUR = re.compile(r"(.*\S)\s+(\d{1,3})[\s,]+(\d{1,3})[\s,]+(\d{1,3})")


def from_text(walk: Walk, path: str) -> list[str]:
    """One name a line, the first for class 0. Raises ListingError."""
    names = [line.strip() for line in _text(walk, path).splitlines()]
    while names and not names[-1]:
        names.pop()
    for number, name in enumerate(names, 1):
        if not name:
            raise ListingError(f"{path}: line {number} is empty; write one class name a line", path, number)
        if name in names[: number - 1]:
            raise ListingError(f"{path}: {printable(name)} is named again in line {number}", path, number)
    return _checked(path, names)


def with_colours(walk: Walk, path: str) -> tuple[list[str], list[int]]:
    """One name a line, each with a colour behind it, as in `road 128 64 128`, or none. Raises ListingError."""
    lines = from_text(walk, path)
    found = [_COLOUR.fullmatch(line) for line in lines]
    if not any(found):
        return lines, []
    names, colours = [], []
    for number, one in enumerate(found, 1):
        if one is None:
            raise ListingError(f"{path}: line {number} has no colour behind its name, others have", path, number)
        red, green, blue = (int(one[part]) for part in (2, 3, 4))
        if max(red, green, blue) > 255:
            raise ListingError(f"{path}: line {number} has a colour above 255", path, number)
        colours.append(red << 16 | green << 8 | blue)
        names.append(one[1])
        if colours[-1] in colours[:-1] or names[-1] in names[:-1]:
            raise ListingError(f"{path}: the name or the colour of line {number} was used before", path, number)
    return _checked(path, names), colours


def of_yolo(walk: Walk) -> list[str]:
    """From data.yaml, or else from classes.txt; empty where neither is there. Raises ListingError."""
    for path in _YAML:
        if walk.is_file(path):
            return _from_yaml(walk, path)
    for path in (CLASSES, f"labels/{CLASSES}"):
        if walk.is_file(path):
            return from_text(walk, path)
    return []


def _from_yaml(walk: Walk, path: str) -> list[str]:
    import yaml  # only a YOLO dataset needs it

    text = _text(walk, path)
    try:
        content: Any = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark is not None else 0
        raise ListingError(f"{path} is not YAML: {error.problem} in line {line}", path, line) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ListingError(f"{path} is not YAML: {' '.join(str(error).split())[:200]}", path) from None
    names = content.get("names") if isinstance(content, dict) else None
    if isinstance(names, dict) and set(names) == set(range(len(names))):
        names = [names[number] for number in range(len(names))]
    if not isinstance(names, list) or not all(isinstance(name, str | int | float) for name in names):
        raise ListingError(f"{path} has no list `names` with the name of each class, from 0 without a hole", path)
    found = [str(name) for name in names]
    if len(set(found)) < len(found):
        raise ListingError(f"{path} names a class twice", path)
    return _checked(path, found)


def _checked(path: str, names: list[str]) -> list[str]:
    if not names or len(names) > MAX_CLASSES:
        raise ListingError(f"{path} names {len(names):,} classes; from 1 to {MAX_CLASSES:,} can be learned", path)
    return [printable(name) for name in names]


def _text(walk: Walk, path: str) -> str:
    try:
        return walk.read(path, _MAX_BYTES, "class names").decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ListingError(f"{path} is not a text in UTF-8: byte {error.start}", path) from None
