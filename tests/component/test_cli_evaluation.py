"""Evaluations through `tether`: metrics and classes, the matrix, previews as pictures, advice, jobs side by side."""

import io
from pathlib import Path

from PIL import Image

from protos.metrics.v1 import ingest_pb2, preview_pb2
from protos.scheduler.v1 import session_pb2
from protos.training.v1.training_pb2 import AdvancedEvaluation, ConfusionMatrix, Hyperparameters, Task
from tests.component.test_cli_figures import finish, shipped
from tests.support.box import Box
from tests.support.cli import served
from tests.support.metrics_service import batch
from tests.support.platform import DatabaseUrls


def jpeg() -> bytes:
    drawn = io.BytesIO()
    Image.new("RGB", (200, 180), "grey").save(drawn, "JPEG")
    return drawn.getvalue()


def records(accuracy: float) -> list[ingest_pb2.Record]:
    """Facts, one preview image, and an evaluation with everything."""
    truth = preview_pb2.Annotation(boxes=[preview_pb2.Box(left=0.2, top=0.2, right=0.6, bottom=0.7, confidence=1)])
    found = preview_pb2.Annotation(
        boxes=[preview_pb2.Box(left=0.25, top=0.2, right=0.6, bottom=0.7, class_index=1, confidence=0.8)]
    )
    evaluation = ingest_pb2.Evaluation(
        step=22,
        epoch=1,
        metrics={"validation/accuracy": accuracy, "validation/f1": 0.5, "validation/loss": 1 - accuracy},
        confusion_matrix=ConfusionMatrix(classes=["ant", "bee"], counts=[5, 1, 0, 4], iou_threshold=0.5),
        classes=[
            ingest_pb2.ClassMetrics(name="ant", metrics={"f1": 0.95}, support=100),
            ingest_pb2.ClassMetrics(name="bee", metrics={"f1": 0.1}, support=3),
        ],
        predictions=[preview_pb2.Prediction(number=0, annotation=found)],
    )
    facts = ingest_pb2.TrainingFacts(
        classes=["ant", "bee"], train_support=[400, 12], task=Task.TASK_CLASSIFICATION, learning_rate=0.01
    )
    image = preview_pb2.PreviewImage(number=0, path="in/a b.png", width=200, height=180, jpeg=jpeg(), truth=truth)
    return [
        ingest_pb2.Record(facts=facts),
        ingest_pb2.Record(preview_image=image),
        ingest_pb2.Record(evaluation=evaluation),
    ]


async def test_what_was_evaluated_is_shown_drawn_and_compared(database: DatabaseUrls, tmp_path: Path) -> None:
    async with served(database, tmp_path / "home", figures=True) as (control, tether):
        await control.dataset()
        created = await control.create_runner("box")
        box = Box(control.channel, created.secret_key)
        welcome = await box.connect()
        at = session_pb2.BoxMoment(anchor_at_ms=welcome.platform_at_ms + 1)
        ids = []
        for name, accuracy in (("first", 0.75), ("second", 0.5)):
            rate = Hyperparameters(learning_rate=accuracy / 100)
            advanced = AdvancedEvaluation(enabled=name == "first", confusion_matrix=True)
            await control.submit(name=name, advanced_evaluation=advanced, hyperparameters=rate)
            given = await box.assignment()
            await box.report(given, 1, started=session_pb2.Started(at=at, weights="random"))
            metrics = {"validation/accuracy": accuracy, "validation/loss": 1 - accuracy}
            await box.report(given, 2, evaluated=session_pb2.Evaluated(step=22, epoch=1, metrics=metrics))
            which = {"attempt_id": given.attempt_id, "job_id": given.job_id}
            await shipped(tether, created.secret_key, batch(1, records(accuracy), **which))
            await finish(box, given, at)
            ids.append(given.job_id)

        whole = await tether("jobs", "show", "first")
        assert whole.code == 0, whole.err
        for words in (
            "Evaluation of step 22",
            "F1",
            "ground truth, IoU ≥ 0.5",
            "Add images of bee",
            "train_support of bee",
        ):
            assert words in whole.out
        told = (await tether("jobs", "show", "first", "--json")).json
        assert told["job_id"] == ids[0]
        assert [one["name"] for one in told["evaluation"]["classes"]] == ["ant", "bee"]
        assert [one["kind"] for one in told["recommendations"]] == ["RECOMMENDATION_KIND_CLASS_IMBALANCE"]

        pictures = tmp_path / "pictures"
        drawn = await tether("jobs", "preview", "first", "--output", str(pictures))
        assert drawn.code == 0, drawn.err
        assert "1 ant" in drawn.out
        assert "1 bee" in drawn.out
        picture = Image.open(pictures / "00-a_b-step-22.png")
        # Ground truth and prediction beside each other, and both are drawn in a colour of their class.
        assert picture.width > 2 * 200
        left, right = picture.crop((0, 14, 200, 194)), picture.crop((204, 14, 404, 194))
        colours = [{pixel for _, pixel in side.getcolors(1 << 16) or ()} for side in (left, right)]
        assert (255, 64, 64) in colours[0] - colours[1]
        without = await tether("jobs", "preview", "second")
        assert "submitted without advanced evaluation" in without.error

        advised = await tether("jobs", "advice", "first")
        assert "Add images of bee" in advised.out
        matrix = (await tether("jobs", "confusion", "second", "--json")).json["matrix"]
        assert matrix["counts"] == ["5", "1", "0", "4"]

        side_by_side = await tether("jobs", "compare", "first", "second")
        assert side_by_side.code == 0, side_by_side.err
        assert "0.7500 ★" in side_by_side.out
        assert "learning rate" in side_by_side.out
        compared = (await tether("jobs", "compare", *ids, "--json")).json
        assert compared["best"] == {"validation/accuracy": [ids[0]], "validation/loss": [ids[0]]}
        settings = compared["jobs"][1]["settings"]
        assert settings["hyperparameters.learning_rate"] == 0.005
        assert "advanced_evaluation.enabled" in settings
