"""Many small chunks become one, and those who read on with a cursor notice nothing. Pure.

A spool is cut into stretches of equal length. Once it has passed the end of one, all chunks of the stretch, of every
series, get the highest sequence among them, and those of one series become one chunk that remembers its parts. So the
chunks in the order of their sequences hold whole stretches one after another, whatever was merged in between.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from services.metrics.chunks import CHUNK_LINE_BYTES, CHUNK_LINES, encode_steps, encode_times
from services.metrics.series import Chunk, decode

Integers = npt.NDArray[np.int64]

# Records of a stretch: soon, so that a live series is never in many pieces, and once more for good.
MERGE_EVERY = 128
MERGE_FAR = 8192

_LAST_SERIES = (1 << 63) - 1

MERGED_COLUMNS = (
    "spool_id",
    "sequence",
    "series_id",
    "points",
    "first_step",
    "last_step",
    "first_at_ms",
    "steps",
    "values",
    "at_ms",
    "parts",
)


def stretches(after: int, up_to: int) -> list[tuple[int, int]]:
    """The stretches (first exclusive, last inclusive) whose ends lie in after + 1 … up_to, in order.

    A short stretch inside a long one that has ended as well is left to that.
    """
    far = [(end - MERGE_FAR, end) for end in _ends(after, up_to, MERGE_FAR)]
    begin = far[-1][1] if far else after
    return far + [(end - MERGE_EVERY, end) for end in _ends(begin, up_to, MERGE_EVERY)]


def _ends(after: int, up_to: int, length: int) -> range:
    return range((after // length + 1) * length, up_to + 1, length)


def merged(chunks: Sequence[Chunk], sequence: int) -> tuple[Any, ...]:
    """The row of MERGED_COLUMNS that holds the chunks of one series (ordered by sequence, at least one)."""
    points = decode(chunks)
    first_step, last_step, steps = encode_steps(points.steps)
    first_at_ms, at_ms = encode_times(points.at_ms)
    parts = [parts_of(chunk) for chunk in chunks]
    sequences = np.concatenate([sequences for sequences, _ in parts])
    counts = np.concatenate([counts for _, counts in parts])
    return (
        chunks[0]["spool_id"],
        sequence,
        chunks[0]["series_id"],
        len(points),
        first_step,
        last_step,
        first_at_ms,
        steps,
        points.values.astype("<f8").tobytes(),
        at_ms,
        _encode_parts(sequences, counts),
    )


def parts_of(chunk: Chunk) -> tuple[Integers, Integers]:
    """The batches of which a chunk was made: their sequences, ascending, and the points of each."""
    if chunk["parts"] is None:
        return np.array([chunk["sequence"]], np.int64), np.array([chunk["points"]], np.int64)
    differences, counts = np.frombuffer(zlib.decompress(chunk["parts"]), "<i8").reshape(2, -1)
    return np.cumsum(differences), counts


def _encode_parts(sequences: Integers, counts: Integers) -> bytes:
    # Batches are alike, so that hardly anything is left of the differences.
    both = np.stack([np.diff(sequences, prepend=0), counts])
    return zlib.compress(both.astype("<i8").tobytes(), 1)


def runs(chunks: Sequence[tuple[int, int]]) -> list[range]:
    """Neighbours among log chunks (lines and bytes of each) that fit one chunk together, at least two each."""
    found = []
    begin = lines = size = 0
    for index, (more_lines, more_bytes) in enumerate(chunks):
        if lines + more_lines > CHUNK_LINES or size + more_bytes > CHUNK_LINE_BYTES:
            found.append(range(begin, index))
            begin, lines, size = index, 0, 0
        lines, size = lines + more_lines, size + more_bytes
    found.append(range(begin, len(chunks)))
    return [run for run in found if len(run) > 1]


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a reader has come who reads a spool's chunks by (sequence, series), a page at a time.

    `told` says up to which sequence every part of a series was told: the first entry with a series id not below it
    counts. It is more than one pair because a page may end amid the series of a stretch, and the rest of the stretch
    may be merged with what follows before the next page is read.
    """

    sequence: int
    series_id: int
    told: tuple[tuple[int, int], ...]

    @staticmethod
    def after(sequence: int) -> "Cursor":
        """Everything up to a sequence was told."""
        return Cursor(sequence, _LAST_SERIES, ((_LAST_SERIES, sequence),))

    def untold(self, chunk: Chunk, up_to: int) -> tuple[int, int]:
        """The points of a chunk behind the cursor that come up to the sequence `up_to`: from, to."""
        floor = next(sequence for series_id, sequence in self.told if chunk["series_id"] <= series_id)
        if chunk["parts"] is None:
            return 0, chunk["points"] if floor < chunk["sequence"] <= up_to else 0
        sequences, counts = parts_of(chunk)
        ends = np.concatenate([[0], np.cumsum(counts)])
        begin, end = np.searchsorted(sequences, [floor, up_to], side="right")
        return int(ends[begin]), int(ends[max(begin, end)])

    def behind(self, page: Sequence[Chunk]) -> "Cursor":
        """The cursor after a page: the chunks that follow it, in order, at least one."""
        sequence, series_id = page[-1]["sequence"], page[-1]["series_id"]
        earlier = [chunk["sequence"] for chunk in page if chunk["sequence"] < sequence]
        told = ((_LAST_SERIES, earlier[-1]),) if earlier else self.told
        return Cursor(sequence, series_id, ((series_id, sequence), *(one for one in told if one[0] > series_id)))
