"""Previews, per-class metrics and advice: stored once, apart from the lists, and told only to those who have them."""

from collections.abc import AsyncIterator

import grpc
import pytest

from protos.metrics.v1 import evaluation_pb2, ingest_pb2, preview_pb2
from protos.metrics.v1.evaluation_pb2 import RecommendationKind
from protos.training.v1 import training_pb2
from tests.support.metrics_service import (
    ATTEMPT,
    JOB,
    OTHER_TOKEN,
    TOKEN,
    Log,
    Metrics,
    batch,
    log_of,
    metadata,
    point,
    serving,
)
from tests.support.platform import DatabaseUrls

JPEG = b"\xff\xd8\xff" + bytes(1000)
PLAIN = "jb_plain"
FACTS = ingest_pb2.TrainingFacts(
    classes=["ant", "bee"], train_support=[500, 20], train_images=520, task=training_pb2.TASK_CLASSIFICATION
)


@pytest.fixture
async def log(database: DatabaseUrls) -> AsyncIterator[Log]:
    async with log_of(database) as log:
        await log.people()
        await log.job(JOB, ATTEMPT, advanced=True)
        await log.job(PLAIN, "at_plain")
        yield log


@pytest.fixture
async def metrics(database: DatabaseUrls, log: Log) -> AsyncIterator[Metrics]:
    async with serving(database) as metrics:
        yield metrics


def image(number: int, **fields: object) -> ingest_pb2.Record:
    labels = [preview_pb2.ScoredClass(class_index=number % 2, confidence=1)]
    told = preview_pb2.PreviewImage(
        number=number, path=f"{number}.png", width=8, height=6, jpeg=JPEG, truth=preview_pb2.Annotation(labels=labels)
    )
    for name, value in fields.items():
        setattr(told, name, value)
    return ingest_pb2.Record(preview_image=told)


def evaluation(step: int, *numbers: int, accuracy: float = 0.5) -> ingest_pb2.Record:
    labels = [preview_pb2.ScoredClass(class_index=0, confidence=0.7)]
    told = ingest_pb2.Evaluation(
        step=step,
        metrics={"validation/accuracy": accuracy},
        classes=[
            ingest_pb2.ClassMetrics(name="ant", metrics={"f1": 0.9}, support=100),
            ingest_pb2.ClassMetrics(name="bee", metrics={"f1": 0.1}, support=4),
        ],
        predictions=[
            preview_pb2.Prediction(number=number, annotation=preview_pb2.Annotation(labels=labels))
            for number in numbers
        ],
    )
    return ingest_pb2.Record(evaluation=told)


async def preview(metrics: Metrics, step: int = 0, **fields: object) -> evaluation_pb2.GetPreviewResponse:
    request = evaluation_pb2.GetPreviewRequest(job_id=JOB, step=step, **fields)  # type: ignore[arg-type]
    return await metrics.evaluations.GetPreview(request, metadata=metadata(TOKEN), timeout=10)


async def refused(metrics: Metrics, job_id: str, step: int = 0, token: str = TOKEN) -> grpc.aio.AioRpcError:
    request = evaluation_pb2.GetPreviewRequest(job_id=job_id, step=step)
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await metrics.evaluations.GetPreview(request, metadata=metadata(token), timeout=10)
    return error.value


async def test_previews_are_told_by_step_and_lists_are_without_them(metrics: Metrics) -> None:
    records = [ingest_pb2.Record(facts=FACTS), image(1), image(0), evaluation(10, 1, 0), evaluation(20, 0)]
    # A repeat changes nothing.
    for _ in range(2):
        (answer,) = await metrics.report(batch(1, records))
        assert (answer.acknowledged_sequence, answer.refused) == (5, "")
    found = await preview(metrics)
    assert (found.step, list(found.steps), list(found.classes)) == (20, [10, 20], ["ant", "bee"])
    assert [one.number for one in found.images] == [0, 1]
    assert [one.jpeg for one in found.images] == [JPEG, JPEG]
    assert [one.number for one in found.predictions] == [0]
    earlier = await preview(metrics, 10, without_pixels=True)
    assert [one.number for one in earlier.predictions] == [0, 1]
    assert [(one.jpeg, one.path) for one in earlier.images] == [(b"", "0.png"), (b"", "1.png")]
    assert earlier.images[1] == preview_pb2.PreviewImage(
        number=1, path="1.png", width=8, height=6, truth=records[1].preview_image.truth
    )
    request = evaluation_pb2.ListEvaluationsRequest(job_id=JOB)
    listed = (await metrics.evaluations.ListEvaluations(request, metadata=metadata(TOKEN), timeout=10)).evaluations
    assert [len(one.predictions) for one in listed] == [0, 0]
    assert [(one.name, dict(one.metrics), one.support) for one in listed[0].classes] == [
        ("ant", {"f1": 0.9}, 100),
        ("bee", {"f1": 0.1}, 4),
    ]


async def test_of_steps_that_a_later_attempt_made_again_its_previews_are_told(metrics: Metrics, log: Log) -> None:
    await metrics.report(batch(1, [image(0), evaluation(10, 0), evaluation(20, 0), evaluation(30, 0)]))
    await log.attempt(JOB, "at_two")
    again = [ingest_pb2.Record(facts=FACTS), image(0, path="again.png"), evaluation(20, 0)]
    await metrics.report(batch(1, again, attempt_id="at_two"))
    found = await preview(metrics)
    assert (list(found.steps), found.step, found.images[0].path) == ([10, 20], 20, "again.png")
    assert (await preview(metrics, 10)).images[0].path == "0.png"


async def test_a_training_without_advanced_evaluation_has_no_previews_and_no_advice(metrics: Metrics) -> None:
    await metrics.report(batch(1, [evaluation(10)], job_id=PLAIN, attempt_id="at_plain"))
    error = await refused(metrics, PLAIN)
    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert "submit it again with advanced evaluation" in (error.details() or "")
    request = evaluation_pb2.ListRecommendationsRequest(job_id=PLAIN)
    with pytest.raises(grpc.aio.AioRpcError) as without:
        await metrics.evaluations.ListRecommendations(request, metadata=metadata(TOKEN), timeout=10)
    assert without.value.code() is grpc.StatusCode.FAILED_PRECONDITION


async def test_a_preview_that_is_not_there_says_which_are(metrics: Metrics) -> None:
    error = await refused(metrics, JOB)
    assert (error.code(), error.details()) == (
        grpc.StatusCode.NOT_FOUND,
        f"there is no preview '{JOB}' in this workspace; no evaluation told one yet",
    )
    await metrics.report(batch(1, [image(0), evaluation(10, 0)]))
    error = await refused(metrics, JOB, step=11)
    assert (error.details() or "").endswith("there are previews of 10")
    assert (await refused(metrics, JOB, token=OTHER_TOKEN)).code() is grpc.StatusCode.NOT_FOUND


async def test_what_is_too_large_or_makes_no_sense_is_refused_with_a_sentence_and_the_rest_is_stored(
    metrics: Metrics,
) -> None:
    broken_map = image(0)
    broken_map.preview_image.truth.label_map.CopyFrom(
        preview_pb2.LabelMap(width=4, height=4, classes=[1], lengths=[15])
    )
    refused = {
        "the number of a preview image is 64, not 0 to 63": image(64),
        "a preview image is no JPEG": image(0, jpeg=b"GIF89a"),
        "is above the limit of 1048576": image(0, jpeg=JPEG + bytes(1 << 20)),
        "a label map of 4 × 4 has runs of 15 pixels": broken_map,
        "predictions of preview images: 65 is above the limit of 64": evaluation(5, *range(65)),
    }
    answers = await metrics.report(*(batch(at, [record]) for at, record in enumerate(refused.values(), 1)))
    for reason, answer in zip(refused, answers, strict=True):
        assert reason in answer.refused
    (answer,) = await metrics.report(batch(6, [image(0), evaluation(10, 0)]))
    assert (answer.acknowledged_sequence, answer.refused) == (7, "")
    assert [one.number for one in (await preview(metrics)).images] == [0]


async def test_advice_follows_from_facts_evaluations_and_series(metrics: Metrics) -> None:
    async def advice() -> list[evaluation_pb2.Recommendation]:
        request = evaluation_pb2.ListRecommendationsRequest(job_id=JOB)
        answer = await metrics.evaluations.ListRecommendations(request, metadata=metadata(TOKEN), timeout=10)
        return list(answer.recommendations)

    assert await advice() == []
    await metrics.report(batch(1, [ingest_pb2.Record(facts=FACTS), evaluation(10)]))
    (found,) = await advice()
    assert found.kind == RecommendationKind.RECOMMENDATION_KIND_CLASS_IMBALANCE
    assert {one.name: one.value for one in found.evidence}["train_support of bee"] == 20
    losses = [point(step, **{"train/loss": float("nan") if step == 7 else 1.0}) for step in range(20)]
    await metrics.report(batch(3, losses))
    (found,) = await advice()
    assert found.kind == RecommendationKind.RECOMMENDATION_KIND_LEARNING_RATE_TOO_HIGH
    assert found.evidence[0].step == 7


async def test_advice_rests_on_the_mean_of_all_points_of_all_attempts(metrics: Metrics, log: Log) -> None:
    names = ("gpu0/utilization_percent", "cpu/utilization_percent")
    # A reduction to extremes would tell 47.5 %: each of its buckets has both.
    busy = [95.0, 0.0, 0.0, 95.0, 0.0, 0.0, 95.0, 0.0]
    samples = [point(5000 * at, **dict.fromkeys(names, busy[at % 8])) for at in range(8000)]
    answers = await metrics.report(*(batch(at + 1, samples[at : at + 1000], "system") for at in range(0, 8000, 1000)))
    assert {answer.refused for answer in answers} == {""}
    await log.attempt(JOB, "at_two")
    await metrics.report(batch(1, samples[:24], "system", "at_two"))
    request = evaluation_pb2.ListRecommendationsRequest(job_id=JOB)
    answer = await metrics.evaluations.ListRecommendations(request, metadata=metadata(TOKEN), timeout=10)
    (found,) = answer.recommendations
    assert found.kind == RecommendationKind.RECOMMENDATION_KIND_STARVING_GPU
    assert found.evidence[0].value == pytest.approx(95 * 3 / 8, abs=0.2)
