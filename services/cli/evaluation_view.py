"""What evaluations found, as people read it: metrics, classes, the confusion matrix, and advice."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import grpc
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from protos.metrics.v1 import evaluation_pb2 as pb
from protos.metrics.v1.ingest_pb2 import ClassMetrics, Evaluation
from protos.scheduler.v1.job_pb2 import Job
from protos.training.v1.training_pb2 import ConfusionMatrix
from services.cli.connection import Platform
from services.cli.errors import PlatformError
from services.cli.tables import facts, table
from services.words import format as fmt

# What may be missing without spoiling the rest.
_MISSING = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.FAILED_PRECONDITION,
)
_MAX_MATRIX, _MAX_CLASSES = 20, 40

T = TypeVar("T")


def sections(platform: Platform, job: Job, *, past: bool) -> Iterator[tuple[str, RenderableType]]:
    """Titles and contents of what the metrics service knows of the job; of the past, up to its last evaluation then."""
    found = last(platform, job)
    if found is not None:
        yield f"Evaluation of step {found.step}", metrics(found)
        if any(one.metrics for one in found.classes):
            yield "Classes", class_table(found.classes)
    if job.spec.advanced_evaluation.confusion_matrix or job.spec.advanced_evaluation.enabled:
        request = pb.GetConfusionMatrixRequest(job_id=job.job_id, step=job.evaluated_step if past else 0)
        answer = optional(lambda: platform.evaluations.GetConfusionMatrix(request))
        if answer is not None and answer.matrix.classes:
            yield matrix_title(answer), confusion_matrix(answer.matrix)
    if not past and (advised := advice_of(platform, job)):
        yield "Advice", advice(advised)


def last(platform: Platform, job: Job) -> Evaluation | None:
    """The newest evaluation that the job tells of; None where the metrics service does not have it."""
    request = pb.ListEvaluationsRequest(job_id=job.job_id)
    answer = optional(lambda: platform.evaluations.ListEvaluations(request))
    there = [one for one in answer.evaluations if one.step <= job.evaluated_step] if answer is not None else []
    return there[-1] if there else None


def advice_of(platform: Platform, job: Job) -> list[pb.Recommendation]:
    """Empty where there is none, or cannot be."""
    if not job.spec.advanced_evaluation.enabled:
        return []
    request = pb.ListRecommendationsRequest(job_id=job.job_id)
    answer = optional(lambda: platform.evaluations.ListRecommendations(request))
    return list(answer.recommendations) if answer is not None else []


def metrics(found: Evaluation) -> RenderableType:
    """Every metric for all images."""
    return facts(
        *((fmt.metric_name(name), fmt.number(found.metrics[name])) for name in fmt.by_importance(found.metrics))
    )


def class_table(classes: Sequence[ClassMetrics]) -> RenderableType:
    """One line a class, the worst first where there are too many for a terminal."""
    names = list(dict.fromkeys(name for one in classes for name in one.metrics))
    shown = list(classes)
    if len(shown) > _MAX_CLASSES:
        shown = sorted(shown, key=lambda one: one.metrics.get(names[0], 2.0))[:_MAX_CLASSES]
    made = table("class", *map(fmt.metric_name, names), "examples", right=(*map(fmt.metric_name, names), "examples"))
    for one in shown:
        values = [fmt.number(one.metrics[name]) if name in one.metrics else "–" for name in names]
        made.add_row(Text(one.name), *values, f"{one.support:,}")
    if len(shown) == len(classes):
        return made
    return Group(made, Text(f"… and {len(classes) - len(shown)} better ones; see them with --json", "dim"))


def matrix_title(answer: pb.GetConfusionMatrixResponse) -> str:
    rule = f", IoU ≥ {answer.matrix.iou_threshold:g}" if answer.matrix.iou_threshold else ""
    return f"Confusion matrix of step {answer.step} (rows: predictions, columns: ground truth{rule})"


def confusion_matrix(matrix: ConfusionMatrix) -> RenderableType:
    """Counts shaded by their share of the ground truth: the diagonal green, mistakes red."""
    count = len(matrix.classes)
    if count > _MAX_MATRIX:
        return Text(f"{count} classes are too many for a terminal; use --json of a client, or the page", "dim")
    made = Table(box=None, pad_edge=False, padding=(0, 1), header_style="dim")
    made.add_column("", style="dim", no_wrap=True)
    for name in matrix.classes:
        made.add_column(name, justify="right", no_wrap=True)
    truths = [sum(matrix.counts[row * count + column] for row in range(count)) for column in range(count)]
    for row, name in enumerate(matrix.classes):
        cells = []
        for column in range(count):
            number = matrix.counts[row * count + column]
            cells.append(_cell(number, number / truths[column] if truths[column] else 0.0, row == column))
        made.add_row(Text(name), *cells)
    return made


def _cell(number: int, share: float, right: bool) -> Text:
    if not number:
        return Text("·", "dim")
    # From a third of full colour, so that a single mistake among many is still seen.
    strength = round(80 + 140 * min(share if right else share * 4, 1.0))
    colour = f"rgb(0,{strength},60)" if right else f"rgb({strength},40,40)"
    return Text(f" {number} ", f"bold white on {colour}")


def advice(found: Sequence[pb.Recommendation]) -> RenderableType:
    """What was seen, what to do, and the numbers that it follows from."""
    lines = Text()
    for one in found:
        lines.append(f"{fmt.words(pb.RecommendationKind, one.kind, 'RECOMMENDATION_KIND_')}\n", "bold yellow")
        lines.append(f"  {one.finding}\n  {one.advice}\n")
        for evidence in one.evidence:
            at = f" at step {evidence.step:,}" if evidence.step else ""
            bound = f" (threshold {fmt.measured(evidence.name, evidence.threshold)})" if evidence.threshold else ""
            lines.append(f"  {evidence.name} {fmt.measured(evidence.name, evidence.value)}{at}{bound}\n", "dim")
    lines.rstrip()
    return lines


def optional(ask: Callable[[], T]) -> T | None:
    """None where the service that knows it is away, older, does not have it, or not for this token."""
    try:
        return ask()
    except PlatformError as error:
        if error.code in _MISSING:
            return None
        raise
