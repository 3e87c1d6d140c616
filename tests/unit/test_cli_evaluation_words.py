"""What `tether` makes of evaluations: words for annotations, what is best, which settings differ."""

import io
import math

import pytest
from rich.console import Console, RenderableType

from protos.metrics.v1.evaluation_pb2 import Recommendation, RecommendationKind
from protos.metrics.v1.ingest_pb2 import ClassMetrics, Evaluation
from protos.metrics.v1.preview_pb2 import Annotation, Box, LabelMap, PreviewImage, ScoredClass
from protos.training.v1 import training_pb2
from services.cli import evaluation_view, jobs_compare, jobs_preview
from services.words import format as fmt


def rendered(shown: RenderableType) -> str:
    out = io.StringIO()
    Console(file=out, width=120).print(shown)
    return out.getvalue()


def test_the_tasks_own_metric_and_the_loss_are_shown_where_there_is_little_room() -> None:
    detection = {"validation/ar_1": 0.2, "validation/map": 0.4, "validation/map_50": 0.6, "validation/loss": 1.5}
    assert fmt.metrics(detection) == "mAP 0.4000, loss 1.5000"
    assert fmt.best_metric(detection) == ("mAP", "0.4000")
    assert [fmt.metric_name(name) for name in fmt.by_importance(detection)] == ["mAP", "AR 1", "mAP 50", "loss"]
    assert fmt.metrics({"validation/f1": 0.5}) == "F1 0.5000"
    assert fmt.metrics({}) == ""


def test_an_annotation_is_told_in_a_few_words() -> None:
    names = ["cat", "dog"]
    labels = [ScoredClass(class_index=1, confidence=0.7), ScoredClass(class_index=0, confidence=0.3)]
    assert jobs_preview.words(Annotation(labels=labels), names) == "dog 0.70, cat 0.30"
    assert jobs_preview.words(Annotation(labels=[ScoredClass(class_index=1, confidence=1)]), names) == "dog"
    boxes = [Box(class_index=0, confidence=0.9), Box(class_index=0, confidence=0.3), Box(class_index=1, confidence=0.1)]
    assert jobs_preview.words(Annotation(boxes=boxes), names) == "2 cat"
    mask = LabelMap(width=4, height=1, classes=[1, 255], lengths=[3, 1])
    assert jobs_preview.words(Annotation(label_map=mask), names) == "dog 75%, not labelled 25%"
    assert jobs_preview.words(Annotation(), names) == "nothing"


def test_the_best_is_told_of_each_metric_that_differs() -> None:
    sides = [{"a": 0.5, "loss": 0.2, "same": 1.0}, {"a": 0.7, "loss": 0.1, "same": 1.0}, {"a": 0.7, "loss": math.nan}]
    assert jobs_compare.best_of(sides) == {"a": {1, 2}, "loss": {1}}


def test_the_best_evaluation_is_that_of_the_tasks_own_metric() -> None:
    steps = [
        Evaluation(step=1, metrics={"validation/miou": 0.5, "validation/loss": 0.1}),
        Evaluation(step=2, metrics={"validation/miou": 0.7, "validation/loss": 0.9}),
        Evaluation(step=3, metrics={"validation/miou": math.nan, "validation/loss": 0.0}),
    ]
    best = jobs_compare.best_evaluation(steps)
    assert best is not None
    assert best.step == 2
    assert jobs_compare.best_evaluation([]) is None


def test_only_settings_that_differ_are_compared() -> None:
    one, other = training_pb2.TrainingSpec(), training_pb2.TrainingSpec()
    for spec in (one, other):
        spec.hyperparameters.seed = 3
        spec.architecture.config_json = str(id(spec))
    one.architecture.architecture_id, other.architecture.architecture_id = "resnet-tiny", "resnet-18"
    other.hyperparameters.learning_rate = 0.1
    assert jobs_compare.differences([one, other]) == {
        "architecture": ["resnet-tiny", "resnet-18"],
        "hyperparameters.learning_rate": [None, 0.1],
    }


def test_of_many_classes_the_worst_are_shown_and_the_rest_counted() -> None:
    classes = [ClassMetrics(name=f"class {at}", metrics={"f1": at / 100}, support=at) for at in range(100)]
    classes.append(ClassMetrics(name="absent"))
    shown = rendered(evaluation_view.class_table(list(reversed(classes))))
    assert "class 0 " in shown
    assert "class 39" in shown
    assert "class 40" not in shown
    assert "61 better ones" in shown


def test_advice_names_its_numbers_with_their_units_and_bounds() -> None:
    found = Recommendation(
        kind=RecommendationKind.RECOMMENDATION_KIND_UNUSED_VRAM, finding="Much is unused.", advice="Use it."
    )
    found.evidence.add(name="largest gpu memory_used_bytes", value=5 << 30, threshold=12 << 30)
    found.evidence.add(name="validation/loss", value=0.5, step=1200)
    shown = rendered(evaluation_view.advice([found]))
    for words in ("unused vram", "5 GiB (threshold 12 GiB)", "validation/loss 0.5000 at step 1,200"):
        assert words in shown


def test_a_path_of_a_dataset_becomes_a_file_name_that_stays_in_the_folder() -> None:
    for path, stem in (("../../etc/pass wd.png", "pass_wd"), ("a/..", "image"), ("ü/ö.jpeg", "ö"), ("", "image")):
        assert jobs_preview._stem(path) == stem
    assert len(jobs_preview._stem("x" * 500)) == 60


def test_each_class_has_a_colour_that_its_neighbours_have_not() -> None:
    from services.cli.preview_drawing import colour_of, draw

    assert len({colour_of(index) for index in range(60)}) == 60
    broken = PreviewImage(jpeg=b"\xff\xd8\xffnothing")
    with pytest.raises(OSError, match="cannot identify"):
        draw(broken, Annotation(), [])
