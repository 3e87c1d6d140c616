"""Gives the blocks of a file back to the disk where what they hold is not needed any more. Standard library only."""

import ctypes
import os

_KEEP_SIZE = 1
_PUNCH_HOLE = 2
# What is left in front of the place: the last line ends in there, so that a writer finds where to go on.
_KEPT_BYTES = 64 * 1024
UNIT_BYTES = 1024 * 1024
_libc = ctypes.CDLL(None, use_errno=True)


def reserve(descriptor: int, amount_bytes: int) -> bool:
    """Have the disk set blocks aside behind the end of a file, whose size stays; False where it cannot.

    Writing into them then needs no room any more, even on a disk that is full. `ftruncate` gives them up.
    """
    return _fallocate(descriptor, _KEEP_SIZE, os.fstat(descriptor).st_size, amount_bytes)


def freed_up_to(offset: int) -> int:
    """How much of a file goes when everything before `offset` is not needed: whole units, never its last part. Pure."""
    return max(0, offset - _KEPT_BYTES) // UNIT_BYTES * UNIT_BYTES


def punch(descriptor: int, start: int, end: int) -> bool:
    """Make a hole in a file: its size and the places in it stay, its blocks go. False where the disk cannot."""
    return end > start and _fallocate(descriptor, _KEEP_SIZE | _PUNCH_HOLE, start, end - start)


def _fallocate(descriptor: int, mode: int, offset: int, length: int) -> bool:
    call = _libc.fallocate
    call.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    return bool(call(descriptor, mode, offset, length) == 0)
