"""Which lines of a log chunk are wanted: by number, and by a text in whatever case and colours. Pure."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from protos.metrics.v1 import ingest_pb2

# Colours and other control sequences (ECMA-48), titles and links that a terminal is told, and single escapes.
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]*[0-Z\\-~])")
# What becomes ASCII in lower case: K (Kelvin) and İ, as UTF-8.
_FOLDS_TO_ASCII = ("\u212a".encode(), "\u0130".encode())


@dataclass(frozen=True, slots=True)
class Range:
    """Lines after + 1 … up_to."""

    after: int
    up_to: int


class Search:
    """A text that lines must contain; every line contains the empty one."""

    def __init__(self, text: str) -> None:
        self.text = text.lower()
        self._bytes = self.text.encode()
        self._ascii = text.isascii()

    def fits(self, line: str) -> bool:
        return self.text in plain(line).lower()

    def may_fit(self, chunk: bytes) -> bool:
        """False where no line of the serialised chunk can fit; much cheaper than to look at each."""
        if not self._ascii or b"\x1b" in chunk or any(letter in chunk for letter in _FOLDS_TO_ASCII):
            return True
        return self._bytes in chunk.lower()


def plain(text: str) -> str:
    """The text as a terminal would show it, without colours."""
    return _ESCAPES.sub("", text) if "\x1b" in text else text


def lines_of(chunk: bytes, first: int, wanted: Range, search: Search) -> Iterator[tuple[int, ingest_pb2.Record]]:
    """The wanted lines of a chunk that fit, each with its number; `first` is that of the chunk's first line."""
    if search.text and not search.may_fit(chunk):
        return
    for number, record in enumerate(ingest_pb2.ReportRequest.FromString(chunk).records, first):
        if wanted.after < number <= wanted.up_to and (not search.text or search.fits(record.log_line.text)):
            yield number, record
