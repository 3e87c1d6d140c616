"""Numbers, times and names as people read them. Pure; `now_ms` is always an argument."""

import itertools
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from protos.common.v1.inventory_pb2 import Inventory
from protos.training.v1.training_pb2 import Limits

_MICROS = 1_000_000
_KIB = 1024
# Sums and differences of a diverging training's values must stay numbers.
_LARGEST = 1e150
# The second day of the year 1 and the last but one of the year 9999: also in other zones `datetime` has them.
_FIRST_MS, _LAST_MS = -62_135_510_400_000, 253_402_214_399_000
_BLOCKS = "▁▂▃▄▅▆▇█"
# The metric of each task that tells most, and the loss: what is shown where there is little room.
PRIMARY = ("validation/accuracy", "validation/map", "validation/miou")
LOSS = "validation/loss"
_ABBREVIATIONS = {"map": "mAP", "miou": "mIoU", "iou": "IoU", "ar": "AR", "f1": "F1"}


def count(number_: int, unit: str) -> str:
    """`1 epoch`, `1,320 steps`."""
    return f"{number_:,} {unit}{'' if number_ == 1 else 's'}"


def duration(ms: float) -> str:
    """`0:42`, `12:31`, `1:02:03`; negative is zero."""
    seconds = max(int(ms) // 1000, 0)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def span(ms: int) -> str:
    """How long something took: `1.9 s`, from a minute on `12:31`."""
    return f"{max(ms, 0) / 1000:.1f} s" if ms < 60_000 else duration(ms)


def whole_minutes(ms: int) -> str:
    """`34 min`, `2 h 5 min`."""
    hours, minutes_ = divmod(max(ms, 0) // 60_000, 60)
    return f"{hours} h {minutes_} min" if hours else f"{minutes_} min"


def ago(at_ms: int, now_ms: int) -> str:
    """`just now`, `4 min ago`, `3 h ago`, `5 days ago`; `never` for zero."""
    if not at_ms:
        return "never"
    seconds = max(now_ms - at_ms, 0) // 1000
    if seconds < 10:
        return "just now"
    for unit_s, unit, below_s in ((1, "s", 60), (60, "min", 3600), (3600, "h", 86_400)):
        if seconds < below_s:
            return f"{seconds // unit_s} {unit} ago"
    days = seconds // 86_400
    return f"{days} day{'s' if days != 1 else ''} ago"


def moment(at_ms: int) -> str:
    """Local date and time, for example `2026-11-05 14:03:07`; `never` for zero."""
    return _local(at_ms).strftime("%Y-%m-%d %H:%M:%S") if at_ms else "never"


def clock_time(at_ms: int, zone: tzinfo | None = None) -> str:
    """Local time of day, for example `14:03:07`; where a zone is named, with its name: `13:03:07 UTC`."""
    return _local(at_ms, zone).strftime("%H:%M:%S" if zone is None else "%H:%M:%S %Z")


def _local(at_ms: int, zone: tzinfo | None = None) -> datetime:
    """The nearest that a calendar has, so that no number which somebody sent makes its readers fail."""
    return datetime.fromtimestamp(min(max(at_ms, _FIRST_MS), _LAST_MS) / 1000, UTC).astimezone(zone)


def size(bytes_: int) -> str:
    """`512 B`, `3.4 MiB`, `24 GiB`."""
    value, unit = float(bytes_), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < _KIB or unit == "TiB":
            break
        value /= _KIB
    return f"{value:.0f} {unit}" if unit == "B" or value >= 100 or value == int(value) else f"{value:.1f} {unit}"


def minutes(milliminutes: int) -> str:
    """Compute minutes, finer where they are few: `0.34`, `35.2`, `1,240`. Halves go away from zero."""
    exact = Decimal(milliminutes) / 1000
    step = "1" if abs(exact) >= 1000 else "0.01" if abs(exact) < 10 else "0.1"
    return f"{exact.quantize(Decimal(step), ROUND_HALF_UP):,}"


def rate(micros: int) -> str:
    """`2.5 minutes a minute`: compute minutes for each minute of the clock."""
    value = f"{micros / _MICROS:.3f}".rstrip("0").rstrip(".")
    return f"{value} minute{'' if value == '1' else 's'} a minute"


def charged_milliminutes(ms_micros: int) -> int:
    """Compute minutes × 1000 of a sum of milliseconds × millionths, rounded half up as the quota service does."""
    unit = 60 * _MICROS
    return (2 * ms_micros + unit) // (2 * unit)


def number(value: float) -> str:
    """A metric with four significant digits: `0.9833`, `12.35`, `1.2e-05`."""
    if not math.isfinite(value):
        return str(value)
    if value and abs(value) < 0.001:
        return f"{value:.1e}"
    return f"{value:,.4f}" if abs(value) < 10 else f"{value:,.2f}"


def metric_name(name: str) -> str:
    """`validation/accuracy` is `accuracy` to people, `validation/map_50` is `mAP 50`."""
    return " ".join(_ABBREVIATIONS.get(word, word) for word in name.removeprefix("validation/").split("_"))


def metrics(values: Mapping[str, float]) -> str:
    """`accuracy 0.9833, loss 0.0612`: the task's own metric and the loss; where there is neither, all."""
    names = [name for name in (*PRIMARY, LOSS) if name in values] or by_importance(values)
    return ", ".join(f"{metric_name(name)} {number(values[name])}" for name in names)


def by_importance(values: Mapping[str, float]) -> list[str]:
    """Names of metrics: the task's own, the others, the loss."""
    return sorted(values, key=lambda name: (name not in PRIMARY, name.endswith("loss"), name))


def gpus(inventory: Inventory) -> str:
    """`NVIDIA A10G ×2`, simulated ones marked."""
    types = [gpu.type for gpu in inventory.gpus]
    return gpu_types(types) + (" (simulated)" if inventory.simulated else "")


def gpu_types(types: Sequence[str]) -> str:
    """`NVIDIA A10G ×2`; several kinds are joined with +."""
    return " + ".join(f"{kind} ×{types.count(kind)}" for kind in dict.fromkeys(types))


def labels(found: Mapping[str, str]) -> str:
    return ", ".join(f"{key}={found[key]}" for key in sorted(found))


def limits(found: Limits) -> str:
    """`20 epochs or 60 minutes`."""
    ends = [(found.epochs, "epoch"), (found.steps, "step"), (found.minutes, "minute")]
    return " or ".join(count(number_, unit) for number_, unit in ends if number_)


def short_id(identifier: str) -> str:
    """Enough of an id to name it by: its prefix and eight characters."""
    prefix, _, rest = identifier.partition("_")
    return f"{prefix}_{rest[:8]}"


def label(kind: Any, value: int, prefix: str) -> str:
    """The name of an enum's value without its prefix, for example `ONLINE`; a value of a newer platform as a number."""
    try:
        return str(kind.Name(value)).removeprefix(prefix)
    except ValueError:
        return f"{prefix.lower().replace('_', ' ')}{value}"


def words(kind: Any, value: int, prefix: str) -> str:
    """`END_REASON_OUT_OF_MEMORY` → `out of memory`."""
    return label(kind, value, prefix).replace("_", " ").lower()


def sparkline(values: Sequence[float], width: int) -> str:
    """The values as at most `width` blocks, from the lowest to the highest; those that are no number are left out."""
    finite = [drawable(value) for value in values if math.isfinite(value)]
    if not finite:
        return ""
    count = min(width, len(finite))
    edges = [len(finite) * n // count for n in range(count + 1)]
    means = [sum(finite[a:b]) / (b - a) for a, b in itertools.pairwise(edges)]
    low, high = min(means), max(means)
    span = (high - low) or 1.0
    return "".join(_BLOCKS[round((mean - low) / span * (len(_BLOCKS) - 1))] for mean in means)


def drawable(value: float) -> float:
    """The value, or the nearest that can be added up and scaled without an overflow; NaN stays."""
    return max(min(value, _LARGEST), -_LARGEST) if math.isfinite(value) else value


def bar(share: float, width: int) -> str:
    """A bar of eighths of blocks; `share` from 0 to 1."""
    eighths = round(min(max(share, 0.0), 1.0) * width * 8)
    whole, rest = divmod(eighths, 8)
    return "█" * whole + (" ▏▎▍▌▋▊▉"[rest] if rest else "")


def rate_short(micros: int) -> str:
    """`×2.5`; empty where there is none."""
    return f"×{micros / _MICROS:.3f}".rstrip("0").rstrip(".") if micros else ""


def best_metric(values: Mapping[str, float]) -> tuple[str, str]:
    """Name and value of the metric that tells most: `accuracy`, `0.9833`; the loss only where there is no other."""
    names = by_importance(values)
    return (metric_name(names[0]), number(values[names[0]])) if names else ("", "")


def measured(name: str, value: float) -> str:
    """The value of a series with the unit that its name ends in."""
    if not math.isfinite(value):
        return str(value)
    if name.endswith("_bytes"):
        return size(int(value))
    for ending, unit in (("_percent", " %"), ("_celsius", " °C"), ("_watts", " W"), ("_mhz", " MHz")):
        if name.endswith(ending):
            return f"{value:.0f}{unit}"
    return number(value)
