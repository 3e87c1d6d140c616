"""Advice: each rule speaks on a training that has its trouble, and is silent on one that goes well."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from protos.metrics.v1.evaluation_pb2 import Recommendation, RecommendationKind
from protos.metrics.v1.ingest_pb2 import ClassMetrics, Evaluation, TrainingFacts
from protos.training.v1 import training_pb2
from services.metrics.history import Curve, History
from services.metrics.recommendations import recommendations

GIB = 1 << 30
STEPS_PER_EVALUATION = 50


def facts(**changes: object) -> TrainingFacts:
    return TrainingFacts(
        **{  # type: ignore[arg-type]
            "classes": ["ant", "bee", "cat"],
            "train_support": [400, 500, 450],
            "train_images": 1350,
            "batch_size": 32,
            "task": training_pb2.TASK_CLASSIFICATION,
            "learning_rate": 0.001,
            "steps_per_epoch": 42,
            "vram_bytes": 24 * GIB,
            **changes,
        }
    )


def evaluations(
    losses: Sequence[float], accuracies: Sequence[float], scores: Sequence[float] = (0.8, 0.8, 0.8)
) -> list[Evaluation]:
    classes = [
        ClassMetrics(name=name, metrics={"f1": score})
        for name, score in zip(("ant", "bee", "cat"), scores, strict=True)
    ]
    return [
        Evaluation(
            step=at * STEPS_PER_EVALUATION,
            metrics={"validation/loss": loss, "validation/accuracy": accuracy},
            classes=classes,
        )
        for at, (loss, accuracy) in enumerate(zip(losses, accuracies, strict=True), 1)
    ]


def train_loss(values: Sequence[float]) -> dict[str, Curve]:
    """One value an evaluation, each for all of its steps, with the noise of batches."""
    noise = np.random.default_rng(0).normal(1, 0.1, len(values) * STEPS_PER_EVALUATION)
    repeated = np.repeat(np.array(values), STEPS_PER_EVALUATION) * noise
    return {"train/loss": Curve.of(range(1, len(repeated) + 1), repeated.tolist())}


def system(samples: int = 60, **values: float) -> dict[str, Curve]:
    """System series with one value all the time; the names have `/` as `__`."""
    steps = [5000 * at for at in range(samples)]
    return {name.replace("__", "/"): Curve.of(steps, [value] * samples) for name, value in values.items()}


FALLING = [2.0 * 0.8**at for at in range(20)]
HEALTHY_ACCURACY = [1 - 0.6 * 0.85**at for at in range(20)]
BUSY = system(gpu0__utilization_percent=92, gpu0__memory_used_bytes=16 * GIB, cpu__utilization_percent=40)


def healthy() -> History:
    validation = [loss + 0.1 for loss in FALLING]
    return History(facts(), evaluations(validation, HEALTHY_ACCURACY), {**train_loss(FALLING), **BUSY})


def overfitting() -> History:
    losses = [1.2 - 0.1 * at for at in range(8)] + [0.5 + 0.05 * at for at in range(12)]
    accuracies = [0.4 + 0.05 * at for at in range(8)] + [0.75] * 12
    return History(facts(), evaluations(losses, accuracies), {**train_loss(FALLING), **BUSY})


def plateau() -> History:
    losses = [1.5, 1.2, 1.0, 0.9] + [0.85] * 16
    accuracies = [0.3, 0.4, 0.5, 0.55] + [0.6] * 16
    train = [1.5, 1.2, 1.0, 0.9] + [0.8] * 16
    return History(facts(), evaluations(losses, accuracies), {**train_loss(train), **BUSY})


def imbalanced() -> History:
    rare = facts(train_support=[1000, 900, 30])
    validation = evaluations([one + 0.1 for one in FALLING], HEALTHY_ACCURACY, scores=(0.9, 0.8, 0.2))
    return History(rare, validation, {**train_loss(FALLING), **BUSY})


def starving() -> History:
    slow = system(gpu0__utilization_percent=22, gpu1__utilization_percent=26, cpu__utilization_percent=97)
    return History(facts(vram_bytes=0), healthy().evaluations, {**train_loss(FALLING), **slow})


def roomy() -> History:
    used = system(gpu0__utilization_percent=80, gpu0__memory_used_bytes=5 * GIB, cpu__utilization_percent=40)
    return History(facts(), healthy().evaluations, {**train_loss(FALLING), **used})


def diverging() -> History:
    train = [2.0, 1.0, 0.8, 0.7, 0.7, 1.0, 1.4, 1.8, 2.0, 2.2]
    return History(facts(), evaluations(train, [0.5] * 10), {**train_loss(train), **BUSY})


def not_a_number() -> History:
    train = [2.0, 1.0, math.nan, math.nan]
    return History(facts(), evaluations(train, [0.5] * 4), {**train_loss(train), **BUSY})


def swinging() -> History:
    losses = [1.0 if at % 2 else 3.0 for at in range(12)]
    accuracies = [0.7 if at % 2 else 0.3 for at in range(12)]
    return History(facts(), evaluations(losses, accuracies), {**train_loss([1.0] * 12), **BUSY})


def small() -> History:
    few = facts(train_support=[20, 25, 30], train_images=75, steps_per_epoch=2)
    validation = evaluations([1.6, 1.3, 1.1, 1.05, 1.0], [0.4, 0.5, 0.55, 0.6, 0.65])
    return History(few, validation, {**train_loss([1.5, 1.0, 0.6, 0.4, 0.3]), **BUSY})


KINDS: dict[Callable[[], History], str] = {
    overfitting: "OVERFITTING",
    plateau: "PLATEAU",
    imbalanced: "CLASS_IMBALANCE",
    starving: "STARVING_GPU",
    roomy: "UNUSED_VRAM",
    diverging: "LEARNING_RATE_TOO_HIGH",
    not_a_number: "LEARNING_RATE_TOO_HIGH",
    swinging: "LEARNING_RATE_TOO_HIGH",
    small: "TOO_LITTLE_DATA",
}


def kinds(found: Sequence[Recommendation]) -> list[str]:
    return [RecommendationKind.Name(one.kind).removeprefix("RECOMMENDATION_KIND_") for one in found]


@pytest.mark.parametrize("trouble", KINDS, ids=lambda trouble: trouble.__name__)
def test_a_trouble_is_found_and_nothing_else_and_its_evidence_is_beyond_its_threshold(
    trouble: Callable[[], History],
) -> None:
    found = recommendations(trouble())
    assert kinds(found) == [KINDS[trouble]]
    (one,) = found
    assert one.finding.endswith(".")
    assert one.advice.endswith(".")
    assert one.evidence
    assert trouble is not_a_number or any(evidence.threshold for evidence in one.evidence)


def test_a_training_that_goes_well_hears_nothing_at_any_moment() -> None:
    whole = healthy()
    for length in range(len(whole.evaluations) + 1):
        curve = whole.curves["train/loss"]
        so_far = curve.steps <= length * STEPS_PER_EVALUATION
        curves = {**whole.curves, "train/loss": Curve.of(curve.steps[so_far], curve.values[so_far])}
        assert recommendations(History(whole.facts, whole.evaluations[:length], curves)) == []


def test_a_training_of_which_nothing_is_known_hears_nothing() -> None:
    assert recommendations(History(TrainingFacts(), [], {})) == []
    assert recommendations(History(TrainingFacts(), [Evaluation(step=1)], {})) == []


def test_there_is_no_advice_on_a_simulated_gpu() -> None:
    # It has neither figures of its own nor VRAM; the CPU trains and is busy.
    busy = system(cpu__utilization_percent=99, process__cpu_utilization_percent=100)
    history = History(facts(vram_bytes=0), healthy().evaluations, {**train_loss(FALLING), **busy})
    assert recommendations(history) == []


def test_a_minute_of_samples_comes_before_any_advice_on_the_gpu() -> None:
    brief = system(17, gpu0__utilization_percent=5, gpu0__memory_used_bytes=GIB, cpu__utilization_percent=99)
    assert recommendations(History(facts(), [], brief)) == []


def test_a_loss_that_is_not_a_number_is_told_with_its_first_step() -> None:
    (found,) = recommendations(not_a_number())
    assert (found.evidence[0].name, found.evidence[0].step) == ("train/loss", 2 * STEPS_PER_EVALUATION + 1)
    assert math.isnan(found.evidence[0].value)


def test_overfitting_names_the_step_whose_checkpoint_was_best() -> None:
    (found,) = recommendations(overfitting())
    assert (found.evidence[0].name, found.evidence[0].step) == ("validation/loss", 8 * STEPS_PER_EVALUATION)
    assert found.evidence[1].value > found.evidence[1].threshold


def test_a_wobble_at_the_end_of_a_good_training_is_no_overfitting() -> None:
    """Of the digits, as they were really trained: a tenth of next to nothing."""
    losses = [1.9394, 0.9045, 0.2962, 0.2276, 0.1036, 0.0679, 0.0552, 0.0635, 0.0598, 0.0607]
    train = [1.8328, 0.9029, 0.2605, 0.0820, 0.0288, 0.0685, 0.0148, 0.0062, 0.0196, 0.0067]
    accuracies = [0.6351, 0.8830, 0.9387, 0.9387, 0.9694, 0.9861, 0.9889, 0.9777, 0.9833, 0.9805]
    assert recommendations(History(facts(), evaluations(losses, accuracies), train_loss(train))) == []


def test_the_background_of_a_segmentation_makes_no_class_rare() -> None:
    named = {"classes": ["background", "bee", "cat"], "task": training_pb2.TASK_SEGMENTATION}
    ious = [
        ClassMetrics(name=name, metrics={"iou": iou})
        for name, iou in (("background", 0.99), ("bee", 0.7), ("cat", 0.3))
    ]
    measured = [
        Evaluation(step=50 * at, metrics={"validation/loss": 1 / at, "validation/miou": 0.6 + at / 100}, classes=ious)
        for at in range(1, 6)
    ]
    even = facts(**named, train_support=[1_000_000, 30_000, 25_000])
    assert recommendations(History(even, measured, BUSY)) == []
    rare = facts(**named, train_support=[1_000_000, 30_000, 2_500])
    assert kinds(recommendations(History(rare, measured, BUSY))) == ["CLASS_IMBALANCE"]
