"""Sharing a whole number out without losing any of it."""

from collections.abc import Mapping
from functools import lru_cache


def share(amount: int, weights: Mapping[str, int]) -> dict[str, int]:
    """Whole parts of `amount` in proportion to the weights; they add up to it exactly.

    Largest remainder: each gets amount × weight / Σ weights rounded down, and the units that are left go one each to
    those whose remainders are largest, equal ones in the order of their names. A negative amount is shared as its
    opposite is. Weights that are all zero count as equal. Empty where there are no weights.
    """
    if amount < 0:
        return {name: -part for name, part in share(-amount, weights).items()}
    total = sum(weights.values())
    if not total:
        weights, total = dict.fromkeys(weights, 1), len(weights)
    if not total:
        return {}
    parts = {name: amount * weight // total for name, weight in weights.items()}
    left = amount - sum(parts.values())
    for name in sorted(weights, key=lambda name: (-(amount * weights[name] % total), name))[:left]:
        parts[name] += 1
    return parts


@lru_cache(maxsize=4096)
def shared_rate(rate_micros: int, gpus: tuple[tuple[str, int], ...]) -> tuple[tuple[str, int], ...]:
    """`share` of a rate among GPU types with their multipliers, as pairs. A fleet has few kinds of boxes."""
    return tuple(share(rate_micros, dict(gpus)).items())
