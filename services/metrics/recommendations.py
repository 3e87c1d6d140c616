"""Advice from rules: each says what was seen, what to do, and from which numbers that follows. Pure.

A rule is silent unless all of its evidence is there; a simulated GPU has no figures, so there is no advice on it.
Sources of the thresholds: a validation loss above its lowest ("generalization loss") as a sign of overfitting is from
Prechelt, Early Stopping - But When? (1998), whose strictest classes stop at 5 % and less, we speak at 10 %; that a
class with a tenth of another's examples suffers is from Buda, Maki & Mazurowski
(https://arxiv.org/abs/1710.05381), where harm begins between ratios of 10 and 100; several evaluations without
progress are torch's ReduceLROnPlateau. The other bounds are our own choice, wide enough that a training that goes well
hears nothing.
"""

from collections.abc import Callable, Sequence

import numpy as np

from protos.metrics.v1 import evaluation_pb2 as pb
from services.metrics import resource_rules
from services.metrics.history import LOSS, TRAIN_LOSS, History

# Overfitting.
_LOSS_ABOVE_LOWEST, _EVALUATIONS_SINCE_LOWEST, _TRAIN_LOSS_FELL = 0.10, 3, 0.10
# Of what the validation loss had gained; near its end a good training wobbles by a tenth of next to nothing.
_GAIN_LOST = 0.05
# Validation loss over training loss, for overfitting and too little data.
_GAP = 1.5
# An improvement of the task's metric that counts (0 to 1), and from where on there is little left to improve.
_BETTER, _GOOD = 0.005, 0.95
_PLATEAU_EVALUATIONS, _PLATEAU_MIN, _PLATEAU_SHARE = 10, 5, 0.4
_PLATEAU_LOSS_FELL, _PLATEAU_TRAIN_LOSS_FELL = 0.01, 0.05
_IMBALANCE, _RARE_CLASS_SCORE = 10.0, 0.8
# Of a class: images (classification) or objects; of a segmentation images in all.
_FEW_A_CLASS, _FEW_IMAGES = 100, 200
_BACKGROUND = "background"
_BINS, _BINS_SINCE_LOWEST, _MIN_POINTS = 20, 3, 40
_PROGRESS_LOST, _LOSS_ROSE = 0.25, 0.5
_SWINGS, _SWING_LOSS, _SWING_METRIC, _SWING_EVALUATIONS = 0.7, 0.5, 0.1, 6


def recommendations(history: History) -> list[pb.Recommendation]:
    """The most pressing first."""
    diverged = _diverged(history)
    if diverged is not None:
        # Nothing that was measured afterwards means anything.
        return [diverged]
    found = [one for rule in _RULES if (one := rule(history)) is not None]
    too_high = any(one.kind == pb.RECOMMENDATION_KIND_LEARNING_RATE_TOO_HIGH for one in found)
    # Of a learning rate that is too high a standstill is the consequence.
    return [one for one in found if not (too_high and one.kind == pb.RECOMMENDATION_KIND_PLATEAU)]


def _diverged(history: History) -> pb.Recommendation | None:
    """A loss that is not a number, or infinite."""
    curve = history.curves.get(TRAIN_LOSS)
    found = [(TRAIN_LOSS, *curve.broken)] if curve is not None and curve.broken is not None else []
    told = [(LOSS, one.step, one.metrics[LOSS]) for one in history.evaluations if LOSS in one.metrics]
    found += [one for one in told if not np.isfinite(one[2])]
    if not found:
        return None
    name, step, value = found[0]
    return pb.Recommendation(
        kind=pb.RECOMMENDATION_KIND_LEARNING_RATE_TOO_HIGH,
        finding=f"The loss is not a number any more from step {step:,} on.",
        advice=f"Stop it, and train again with a tenth of the learning rate{_now(history)}.",
        evidence=[pb.Evidence(name=name, value=value, step=step), *_learning_rate(history)],
    )


def _learning_rate_too_high(history: History) -> pb.Recommendation | None:
    return _rising(history) or _swinging(history)


def _rising(history: History) -> pb.Recommendation | None:
    """The training loss has lost a good part of what it had gained."""
    curve = history.curves.get(TRAIN_LOSS)
    if curve is None or len(curve.values) < _MIN_POINTS:
        return None
    steps, means = curve.in_bins(_BINS)
    lowest = int(means.argmin())
    rise = means[-1] - means[lowest]
    bound = max(_PROGRESS_LOST * (means[0] - means[lowest]), _LOSS_ROSE * abs(means[lowest]))
    if lowest > _BINS - 1 - _BINS_SINCE_LOWEST or rise <= bound:
        return None
    return pb.Recommendation(
        kind=pb.RECOMMENDATION_KIND_LEARNING_RATE_TOO_HIGH,
        finding=f"The training loss rises: {means[lowest]:.4g} around step {steps[lowest]:,}, {means[-1]:.4g} now.",
        advice=f"Train again with a third of the learning rate{_now(history)} or less.",
        evidence=[
            pb.Evidence(name=TRAIN_LOSS, value=means[lowest], step=int(steps[lowest])),
            pb.Evidence(name=TRAIN_LOSS, value=means[-1], step=int(steps[-1]), threshold=means[lowest] + bound),
            *_learning_rate(history),
        ],
    )


def _swinging(history: History) -> pb.Recommendation | None:
    """From evaluation to evaluation loss and metric jump up and down."""
    losses, metric = history.measured(LOSS), history.measured(history.primary)
    if len(losses) < _SWING_EVALUATIONS or np.isnan(metric).any() or np.isnan(losses).any():
        return None
    losses, metric = losses[len(losses) // 3 :], metric[len(metric) // 3 :]
    changes = np.diff(losses)
    turns = float(np.mean(np.sign(changes[1:]) != np.sign(changes[:-1]))) if len(changes) > 1 else 0.0
    swing, swing_metric = float(np.abs(changes).mean()), float(np.abs(np.diff(metric)).mean())
    bound = _SWING_LOSS * float(np.median(losses))
    if turns < _SWINGS or swing < bound or swing_metric < _SWING_METRIC:
        return None
    return pb.Recommendation(
        kind=pb.RECOMMENDATION_KIND_LEARNING_RATE_TOO_HIGH,
        finding=f"The validation loss swings by {swing:.4g} from one evaluation to the next.",
        advice=f"Train again with a third of the learning rate{_now(history)}, or with a larger batch.",
        evidence=[
            pb.Evidence(name=f"mean change of {LOSS}", value=swing, threshold=bound),
            pb.Evidence(name=f"mean change of {history.primary}", value=swing_metric, threshold=_SWING_METRIC),
            *_learning_rate(history),
        ],
    )


def _overfitting(history: History) -> pb.Recommendation | None:
    """The validation loss rises while the training loss falls, and the task's metric gains nothing by it."""
    losses, train = history.measured(LOSS), history.train_losses()
    if not len(losses) or np.isnan(train).any() or np.isnan(losses).any():
        return None
    lowest, steps = int(losses.argmin()), history.steps
    if len(losses) - 1 - lowest < _EVALUATIONS_SINCE_LOWEST:
        return None
    now, least = float(losses[-_EVALUATIONS_SINCE_LOWEST:].mean()), float(losses[lowest])
    bound = least + max(_LOSS_ABOVE_LOWEST * least, _GAIN_LOST * (float(losses[0]) - least))
    metric = history.measured(history.primary)
    gained = np.nanmax(metric[lowest + 1 :]) - metric[lowest] if not np.isnan(metric).any() else 0.0
    fell = train[-1] <= (1 - _TRAIN_LOSS_FELL) * train[lowest]
    if now < bound or now < _GAP * train[-1] or not fell or gained > _BETTER:
        return None
    return pb.Recommendation(
        kind=pb.RECOMMENDATION_KIND_OVERFITTING,
        finding=f"It overfits: the validation loss was lowest at step {steps[lowest]:,} and has risen by "
        f"{now / losses[lowest] - 1:.0%} since, while the training loss fell.",
        advice="Use the checkpoint of that step; next time stop early (early stopping patience), add augmentations or "
        "data, or take a smaller architecture.",
        evidence=[
            pb.Evidence(name=LOSS, value=losses[lowest], step=int(steps[lowest])),
            pb.Evidence(name=LOSS, value=now, step=int(steps[-1]), threshold=bound),
            pb.Evidence(name=TRAIN_LOSS, value=train[lowest], step=int(steps[lowest])),
            pb.Evidence(
                name=TRAIN_LOSS, value=train[-1], step=int(steps[-1]), threshold=(1 - _TRAIN_LOSS_FELL) * train[lowest]
            ),
        ],
    )


def _too_little_data(history: History) -> pb.Recommendation | None:
    """Few examples, and a model that does much worse on images that it has not seen."""
    facts, losses, train = history.facts, history.measured(LOSS), history.train_losses()
    metric = history.measured(history.primary)
    if len(losses) < _EVALUATIONS_SINCE_LOWEST or np.isnan(train[-1]) or np.isnan(metric).all() or np.isnan(losses[-1]):
        return None
    name, have, bound = _examples(history)
    gap = losses[-1] / train[-1] if train[-1] > 0 else np.inf
    if not 0 < have < bound or gap < _GAP or np.nanmax(metric) >= _GOOD:
        return None
    return pb.Recommendation(
        kind=pb.RECOMMENDATION_KIND_TOO_LITTLE_DATA,
        finding=f"There is little to learn from: {have:,.0f} {name}, and the loss on images that it has not seen is "
        f"{gap:.1f} times that on the ones that it trains on.",
        advice="Add images; until then begin with pretrained weights, add augmentations, or take a smaller "
        "architecture.",
        evidence=[
            pb.Evidence(name=name, value=have, threshold=bound),
            pb.Evidence(name="train_images", value=facts.train_images),
            pb.Evidence(name=LOSS, value=losses[-1], step=int(history.steps[-1]), threshold=_GAP * train[-1]),
            pb.Evidence(name=TRAIN_LOSS, value=train[-1], step=int(history.steps[-1])),
        ],
    )


def _examples(history: History) -> tuple[str, float, float]:
    """What the examples are, how many there are, and how many there should be."""
    facts = history.facts
    if history.class_metric == "iou":
        return "training images", facts.train_images, _FEW_IMAGES
    what = (
        "training objects of each class" if history.class_metric == "average_precision" else "training images a class"
    )
    return what, sum(facts.train_support) / max(len(facts.classes), 1), _FEW_A_CLASS


def _class_imbalance(history: History) -> pb.Recommendation | None:
    """A class has a tenth of another's examples or less, and is told apart worse than the others."""
    support = dict(zip(history.facts.classes, history.facts.train_support, strict=False))
    if history.class_metric == "iou":
        # The background has most pixels, and nobody would add or leave out any.
        support.pop(_BACKGROUND, None)
    measured = history.evaluations[-1].classes if history.evaluations else []
    kind = history.class_metric
    scores = {one.name: one.metrics[kind] for one in measured if kind in one.metrics and one.name in support}
    if len(scores) < 2:
        return None
    most = max(support, key=lambda name: support[name])
    rare = [name for name in scores if support[name] * _IMBALANCE <= support[most]]
    others = [scores[name] for name in scores if name not in rare]
    if not rare or not others:
        return None
    worst = min(rare, key=lambda name: scores[name])
    bound = _RARE_CLASS_SCORE * sum(others) / len(others)
    if scores[worst] > bound:
        return None
    step = history.evaluations[-1].step
    return pb.Recommendation(
        kind=pb.RECOMMENDATION_KIND_CLASS_IMBALANCE,
        finding=f"The class {worst} is rare and is told apart badly: {support[worst]:,} examples to train on against "
        f"{support[most]:,} of {most}, {kind.replace('_', ' ')} {scores[worst]:.2f}.",
        advice=f"Add images of {', '.join(rare[:5])}{' and others' if len(rare) > 5 else ''}, or leave out some of "
        f"{most}.",
        evidence=[
            pb.Evidence(name=f"train_support of {worst}", value=support[worst], threshold=support[most] / _IMBALANCE),
            pb.Evidence(name=f"train_support of {most}", value=support[most]),
            pb.Evidence(name=f"{kind} of {worst}", value=scores[worst], step=step, threshold=bound),
        ],
    )


def _plateau(history: History) -> pb.Recommendation | None:
    """For many evaluations neither metric nor losses have moved, and there is much left to gain."""
    metric, losses, train = history.measured(history.primary), history.measured(LOSS), history.train_losses()
    count = len(metric)
    window = max(_PLATEAU_MIN, round(_PLATEAU_SHARE * count))
    if count < _PLATEAU_EVALUATIONS or any(np.isnan(values).any() for values in (metric, losses, train)):
        return None
    before, now = float(metric[:-window].max()), float(metric[-window:].max())
    loss_before, loss_now = float(losses[:-window].min()), float(losses[-window:].min())
    stands = now - before < _BETTER and loss_now > (1 - _PLATEAU_LOSS_FELL) * loss_before
    if not stands or max(now, before) >= _GOOD or train[-1] < (1 - _PLATEAU_TRAIN_LOSS_FELL) * train[-window - 1]:
        return None
    since, last = int(history.steps[-window - 1]), int(history.steps[-1])
    return pb.Recommendation(
        kind=pb.RECOMMENDATION_KIND_PLATEAU,
        finding=f"It stands still: nothing has become better in {window} evaluations since step {since:,}.",
        advice="Stop it to save minutes; next time try another learning rate, a larger architecture or image size, or "
        "pretrained weights.",
        evidence=[
            pb.Evidence(name=history.primary, value=before, step=since),
            pb.Evidence(name=history.primary, value=now, step=last, threshold=before + _BETTER),
            pb.Evidence(name=LOSS, value=loss_now, step=last, threshold=(1 - _PLATEAU_LOSS_FELL) * loss_before),
        ],
    )


def _now(history: History) -> str:
    rate = history.facts.learning_rate
    return f" (now {rate:g})" if rate else ""


def _learning_rate(history: History) -> list[pb.Evidence]:
    rate = history.facts.learning_rate
    return [pb.Evidence(name="learning_rate", value=rate)] if rate else []


_RULES: Sequence[Callable[[History], pb.Recommendation | None]] = (
    _learning_rate_too_high,
    _overfitting,
    _too_little_data,
    _class_imbalance,
    _plateau,
    resource_rules.starving_gpu,
    resource_rules.unused_vram,
)
