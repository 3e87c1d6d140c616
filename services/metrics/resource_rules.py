"""Advice on how a training uses its box: a GPU that waits, VRAM that lies idle. Pure."""

from protos.metrics.v1 import evaluation_pb2 as pb
from services.metrics.history import Curve, History

# Samples come every 5 s; the first ones belong to the start.
_START_MS, _MIN_SAMPLES = 30_000, 12
_LOW_UTILIZATION, _FULL_UTILIZATION = 50.0, 95.0
# Of all cores of the box, and of the training's processes, where 100 is one core.
_BUSY_BOX, _BUSY_PROCESSES = 70.0, 90.0
# Below what a batch size of `auto` fills (60 % where nothing else is asked for).
_LOW_VRAM_SHARE = 0.5
# With fewer steps an epoch a larger batch takes the model more than it gives the GPU.
_MIN_STEPS_PER_EPOCH = 8
_GIB = 1 << 30


def starving_gpu(history: History) -> pb.Recommendation | None:
    """The GPUs are idle half of the time: they wait for data."""
    used = _mean(history, "utilization_percent")
    if used is None or used >= _LOW_UTILIZATION:
        return None
    box, own = _settled(history, "cpu/utilization_percent"), _settled(history, "process/cpu_utilization_percent")
    evidence = [pb.Evidence(name="mean of gpu utilization_percent", value=used, threshold=_LOW_UTILIZATION)]
    for name, mean, bound in (
        ("cpu/utilization_percent", box, _BUSY_BOX),
        ("process/cpu_utilization_percent", own, _BUSY_PROCESSES),
    ):
        if mean is not None:
            evidence.append(pb.Evidence(name=f"mean of {name}", value=mean, threshold=bound))
    if box is None and own is None:
        return None
    busy = (box or 0) >= _BUSY_BOX or (own or 0) >= _BUSY_PROCESSES
    cause = "the CPU is busy preparing images" if busy else "neither it nor the CPU is busy, so images come slowly"
    advice = (
        "Use smaller image files, fewer augmentations or a box with more CPU cores; where the model is small, a larger "
        "batch."
        if busy
        else "Keep the dataset on a fast local disk."
    )
    return pb.Recommendation(
        kind=pb.RECOMMENDATION_KIND_STARVING_GPU,
        finding=f"The GPU works {used:.0f} % of the time; {cause}.",
        advice=advice,
        evidence=evidence,
    )


def unused_vram(history: History) -> pb.Recommendation | None:
    """A larger batch would fit, and the GPU has time for it."""
    facts = history.facts
    peaks = [curve.highest for _, curve in history.of_gpus("memory_used_bytes") if _is_long(curve)]
    used = _mean(history, "utilization_percent")
    if not peaks or not facts.vram_bytes or (used or 0) >= _FULL_UTILIZATION:
        return None
    peak, bound = max(peaks), _LOW_VRAM_SHARE * facts.vram_bytes
    if peak >= bound or facts.steps_per_epoch < _MIN_STEPS_PER_EPOCH:
        return None
    return pb.Recommendation(
        kind=pb.RECOMMENDATION_KIND_UNUSED_VRAM,
        finding=f"At most {peak / _GIB:.1f} of {facts.vram_bytes / _GIB:.1f} GiB of VRAM are used.",
        advice=f"Use a larger batch size (now {facts.batch_size}), or `auto`, which finds the largest that fits; or a "
        "larger architecture or image size.",
        evidence=[
            pb.Evidence(name="largest gpu memory_used_bytes", value=peak, threshold=bound),
            pb.Evidence(name="vram_bytes", value=facts.vram_bytes),
            pb.Evidence(name="batch_size", value=facts.batch_size),
        ],
    )


def _mean(history: History, kind: str) -> float | None:
    """Over all GPUs; None where there are too few samples."""
    means = [_settled(history, name) for name, _ in history.of_gpus(kind)]
    there = [mean for mean in means if mean is not None]
    return sum(there) / len(there) if there else None


def _settled(history: History, name: str) -> float | None:
    """Mean of a system series after the start; its steps are milliseconds."""
    curve = history.curves.get(name)
    if curve is None or not _is_long(curve):
        return None
    return curve.mean_after(_START_MS)


def _is_long(curve: Curve) -> bool:
    return curve.points_after(_START_MS) >= _MIN_SAMPLES
