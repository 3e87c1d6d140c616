"""Settings as they are typed: each means one thing to the platform, and a mistake is told in one sentence."""

import io
from typing import Any

import pytest
from rich.console import Console

from protos.events.v1 import job_pb2 as ev
from protos.scheduler.v1 import job_pb2 as jobs
from protos.training.v1 import training_pb2 as pb
from services.cli import job_view, jobs_resume
from services.cli.errors import CliError
from services.cli.live_state import LiveState
from services.cli.settings_view import begins, hyperparameters
from services.cli.train_options import (
    CheckpointPolicy,
    Optimizer,
    Precision,
    Schedule,
    augmentations,
    batch_size,
    gradient_clip,
    weights,
)
from services.words.events import sentence
from tests.unit.test_cli_words import recorded

MINUTE_MS = 60_000
OWN = pb.Augmentations(horizontal_flip=0.5, blur=0.1)


def augmented(*given: str) -> pb.Augmentations | None:
    return augmentations(given, lambda: OWN)


def test_an_augmentation_changes_one_of_the_architectures_and_none_leaves_them_all_out() -> None:
    assert augmented() is None
    assert augmented("blur=0", "hue=0.2") == pb.Augmentations(horizontal_flip=0.5, hue=0.2)
    assert augmented("none") == pb.Augmentations()
    assert augmented("none", "rotation-degrees=10") == pb.Augmentations(rotation_degrees=10)
    assert pb.Augmentations(horizontal_flip=0.5, blur=0.1) == OWN, "the architecture itself is left alone"


@pytest.mark.parametrize("text", ["flip=1", "blur", "blur=much", "rotation_degrees=1", "=1", ""])
def test_an_augmentation_that_does_not_exist_is_told_with_those_that_do(text: str) -> None:
    with pytest.raises(CliError, match=r"--augment is .*; give (key=value with one of: horizontal-flip, |a number)"):
        augmented(text)


def test_a_batch_is_a_number_of_images_or_auto() -> None:
    assert [batch_size(text) for text in ("", "64", "auto")] == [0, 64, -1]
    for text in ("0", "-1", "many", "65537", "9" * 5000, "１"):
        with pytest.raises(CliError, match="give a number of images from 1 to 65536, or auto"):
            batch_size(text)


def test_a_gradient_is_clipped_to_a_norm_or_never() -> None:
    assert [gradient_clip(text) for text in ("", "1.5", "never")] == [0, 1.5, -1]
    for text in ("-1", "nan", "inf", "x"):
        with pytest.raises(CliError, match=r"give a norm, for example 1\.0, or never"):
            gradient_clip(text)


def test_the_weights_have_one_source() -> None:
    def of(named: str, checkpoint: str = "") -> pb.InitialWeights | None:
        return weights(named, checkpoint, lambda job: f"jb_{job}")

    assert of("") is None
    assert of("random") == pb.InitialWeights(source=pb.WEIGHTS_SOURCE_RANDOM)
    assert of("pretrained") == pb.InitialWeights(source=pb.WEIGHTS_SOURCE_PRETRAINED)
    assert of("mine") == pb.InitialWeights(source=pb.WEIGHTS_SOURCE_PRETRAINED, name="mine")
    checkpoint = pb.CheckpointReference(job_id="jb_last", name="step-2.safetensors")
    expected = pb.InitialWeights(source=pb.WEIGHTS_SOURCE_CHECKPOINT, checkpoint=checkpoint)
    assert of("", "last/step-2.safetensors") == expected
    expected.checkpoint.name = ""
    assert of("", "last") == expected
    with pytest.raises(CliError, match="give one of them"):
        of("random", "last")


@pytest.mark.parametrize("kind", [CheckpointPolicy, Optimizer, Schedule, Precision])
def test_every_value_of_the_protos_can_be_typed(kind: Any) -> None:
    known = getattr(pb, kind.__name__)
    assert all(known.Name(choice.to_proto()).endswith(choice.name) for choice in kind)
    assert {choice.to_proto() for choice in kind} == set(known.values()) - {0}


def test_a_job_tells_the_workflow_that_it_was_made_from() -> None:
    said = Console(file=io.StringIO(), width=100)
    spec = pb.TrainingSpec(workflow_id="wf_1", workflow_name="small", workflow_revision=2)
    said.print(job_view._settings(spec))
    said.print(job_view._settings(pb.TrainingSpec()))
    assert isinstance(said.file, io.StringIO)
    (line,) = (one for one in said.file.getvalue().splitlines() if "workflow" in one)
    assert line.split() == ["workflow", "small,", "revision", "2"]


def test_settings_are_shown_in_words() -> None:
    hyper = pb.Hyperparameters(
        batch_size=-1,
        auto_batch_vram_share=0.6,
        learning_rate=0.001,
        optimizer=pb.OPTIMIZER_SGD,
        schedule=pb.SCHEDULE_ONE_CYCLE,
        precision=pb.PRECISION_BFLOAT16,
        gradient_clip_norm=-1,
    )
    shown = hyperparameters(hyper)
    for words in ("batch size auto", "optimizer sgd", "schedule one cycle", "precision bfloat16", "clip norm never"):
        assert words in shown
    assert "image size" not in shown, "an earlier version left it to the box"
    assert "seed 0" in shown


def test_what_a_job_begins_with_is_shown() -> None:
    resumed = pb.TrainingSpec(resume_from=pb.ResumeFrom(job_id="jb_a", step=20, checkpoint="step-20"))
    assert begins(resumed) == "step 20 of job jb_a (step-20)"
    assert begins(pb.TrainingSpec(resume_from=pb.ResumeFrom(attempt_id="at_1", step=20))) == "", "its own repeat"
    source = pb.WEIGHTS_SOURCE_CHECKPOINT
    reference = pb.CheckpointReference(job_id="jb_a", name="step-20")
    by_weights = pb.TrainingSpec(weights=pb.InitialWeights(source=source, checkpoint=reference))
    assert begins(by_weights) == "weights of step-20 of job jb_a"


@pytest.mark.parametrize(
    ("started", "words"),
    [
        (ev.JobStarted(weights="random"), "the training runs, with random weights; minutes count from here"),
        (ev.JobStarted(weights="step-2 of at_1"), "the training runs, from checkpoint step-2 of at_1; minutes"),
        (
            ev.JobStarted(weights="hub/net", weights_source=pb.WEIGHTS_SOURCE_PRETRAINED, batch_size=48),
            "with pretrained weights (hub/net), 48 images a step; minutes",
        ),
        (
            ev.JobStarted(weights="step-2", weights_source=pb.WEIGHTS_SOURCE_CHECKPOINT),
            "the training runs, with the weights of step-2; minutes",
        ),
        (ev.JobStarted(weights="random", warnings=["a", "b"]), "from here; warning: a; warning: b"),
    ],
)
def test_a_start_tells_the_weights_the_batch_and_the_warnings(started: ev.JobStarted, words: str) -> None:
    assert words in sentence(recorded(started))


def test_a_checkpoint_lies_on_the_box_of_its_attempt_and_on_the_platform_where_it_has_it() -> None:
    earlier = jobs.EarlierAttempt(attempt_id="at_1", runner_name="box-1")
    job = jobs.Job(attempt_id="at_2", runner_name="box-2", earlier_attempts=[earlier])
    places = [
        jobs_resume.places(job, pb.Checkpoint(attempt_id=attempt, artifact_id=artifact))
        for attempt, artifact in (("at_1", ""), ("at_2", "af_1"))
    ]
    assert places == ["box-1", "box-2, platform"]


def test_a_new_end_replaces_all_ends_and_leaves_the_other_limits() -> None:
    earlier = pb.Limits(steps=100, retries=2, stall_minutes=30)
    limits = jobs_resume._limits
    assert limits(earlier, pb.Limits(), None, None) is None, "nothing is new"
    assert limits(earlier, pb.Limits(epochs=9), None, None) == pb.Limits(epochs=9, retries=2, stall_minutes=30)
    assert limits(earlier, pb.Limits(), 3, 0) == pb.Limits(steps=100, early_stopping_patience=3, stall_minutes=30)


def test_a_limit_of_minutes_counts_what_the_earlier_job_has_trained() -> None:
    begins = pb.ResumeFrom(job_id="jb_a", trained_ms=6 * MINUTE_MS)
    spec = pb.TrainingSpec(limits=pb.Limits(minutes=10), resume_from=begins)
    interval = ev.ChargedInterval(started_at_ms=1)
    state = LiveState(jobs.Job(state=jobs.JOB_STATE_RUNNING, spec=spec, interval=interval))
    now_ms = 1 + 2 * MINUTE_MS
    assert state.share_done(now_ms) == 0.8
    assert state.left_ms(now_ms) == 2 * MINUTE_MS
    assert state.elapsed_ms(now_ms) == 2 * MINUTE_MS, "and its own time is its own"
