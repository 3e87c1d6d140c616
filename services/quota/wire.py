"""Exact sums on the wire."""

_LARGEST = (1 << 63) - 1


def fitting(ms_micros: int) -> int:
    """A sum as 64 bits hold it; one that passes them is the largest number."""
    return max(min(ms_micros, _LARGEST), -_LARGEST)
