"""Settings, their defaults and refusals; architectures built from them."""

import pytest
import torch
from google.protobuf.json_format import ParseDict

from protos.training.v1 import training_pb2
from runner_agent.trainer.failures import ConfigurationFailure
from runner_agent.trainer.models import registry
from runner_agent.trainer.settings import resolve
from tests.support.trainer_process import RESNET_TINY

VALID: dict[str, dict[str, object]] = {
    "dataset": {"location": "/data", "format": "DATASET_FORMAT_IMAGE_FOLDER"},
    "architecture": {"family": "resnet", "task": "TASK_CLASSIFICATION", "defaults": {"batch_size": 32, "seed": "7"}},
}


def spec(**changes: object) -> training_pb2.TrainingSpec:
    return ParseDict({**VALID, **changes}, training_pb2.TrainingSpec())


def test_a_zero_means_the_architectures_default_and_then_the_built_in_one() -> None:
    settings = resolve(spec(hyperparameters={"image_size": 16}))
    assert (settings.image_size, settings.batch_size, settings.seed) == (16, 32, 7)
    assert settings.validation_share == 0.2
    assert settings.learning_rate == 1e-3
    assert settings.policy == training_pb2.CHECKPOINT_POLICY_BEST_METRIC
    assert (settings.keep_best, settings.every_n_evaluations) == (1, 1)


def test_a_training_without_any_limit_gets_a_number_of_epochs_and_one_with_a_limit_keeps_to_it() -> None:
    assert resolve(spec()).epochs == 10
    assert resolve(spec(limits={"minutes": 5})).epochs == 0


def test_augmentations_are_the_architectures_until_a_training_brings_its_own() -> None:
    usual = {**VALID["architecture"], "default_augmentations": {"horizontal_flip": 0.5}}
    assert resolve(spec(architecture=usual)).augmentations.horizontal_flip == 0.5
    own = resolve(spec(architecture=usual, augmentations={"blur": 0.1})).augmentations
    assert (own.horizontal_flip, own.blur) == (0, 0.1)
    assert resolve(spec(architecture=usual, augmentations={})).augmentations.horizontal_flip == 0, "none at all"


def test_what_nobody_chooses_trains_well() -> None:
    settings = resolve(spec())
    assert settings.optimizer == training_pb2.OPTIMIZER_ADAMW
    assert settings.schedule == training_pb2.SCHEDULE_ONE_CYCLE
    assert (settings.accumulate_batches, settings.gradient_clip_norm, settings.auto_batch_vram_share) == (1, 5.0, 0.6)
    assert resolve(spec(hyperparameters={"gradient_clip_norm": -1})).gradient_clip_norm == 0


@pytest.mark.parametrize(
    ("optimizer", "batch_size", "factor"),
    [
        ("OPTIMIZER_ADAMW", 128, 2),
        ("OPTIMIZER_ADAMW", 8, 0.5),
        ("OPTIMIZER_ADAMW", 32_000, 4),
        ("OPTIMIZER_SGD", 64, 2),
        ("OPTIMIZER_SGD", 1, 0.25),
    ],
)
def test_the_usual_learning_rate_follows_a_batch_size_that_was_found_and_a_chosen_one_stays(
    optimizer: str, batch_size: int, factor: float
) -> None:
    auto = {"batch_size": -1, "optimizer": optimizer}
    found = resolve(spec(hyperparameters=auto)).with_batch_size(batch_size)
    assert found.batch_size == batch_size
    assert found.learning_rate == pytest.approx(1e-3 * factor)
    chosen = resolve(spec(hyperparameters={**auto, "learning_rate": 0.5})).with_batch_size(batch_size)
    assert chosen.learning_rate == 0.5


def test_a_confusion_matrix_comes_with_either_setting() -> None:
    assert not resolve(spec()).confusion_matrix
    assert resolve(spec(advanced_evaluation={"enabled": True})).confusion_matrix
    assert resolve(spec(advanced_evaluation={"confusion_matrix": True})).confusion_matrix


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"hyperparameters": {"batch_size": -3}}, "batch_size is -3"),
        ({"hyperparameters": {"image_size": 100_000}}, "image_size is 100000"),
        ({"hyperparameters": {"learning_rate": "NaN"}}, "learning_rate is nan"),
        ({"hyperparameters": {"weight_decay": -1}}, "weight_decay is -1"),
        ({"hyperparameters": {"validation_share": 1.5}}, "validation_share is 1.5"),
        ({"limits": {"epochs": -1}}, "epochs is -1"),
        ({"limits": {"early_stopping_patience": -1}}, "early_stopping_patience is -1"),
        ({"checkpoint_strategy": {"keep_best": -2}}, "keep_best is -2"),
        ({"dataset": {"location": "/data"}}, "format"),
        ({"architecture": {}}, "task 0 is unknown"),
        (
            {"architecture": {"task": "TASK_DETECTION", "architecture_id": "d"}},
            "image-folder, which is for classification, but d is for detection",
        ),
        ({"hyperparameters": {"accumulate_batches": -1}}, "accumulate_batches is -1"),
        ({"hyperparameters": {"accumulate_batches": 33}}, "more than the 32 images of a batch"),
        ({"hyperparameters": {"auto_batch_vram_share": 1}}, "auto_batch_vram_share is 1;"),
        ({"hyperparameters": {"gradient_clip_norm": "Infinity"}}, "gradient_clip_norm is inf"),
        ({"hyperparameters": {"optimizer": 9}}, "optimizer 9 is unknown to this runner"),
        ({"hyperparameters": {"schedule": 9}}, "schedule 9 is unknown to this runner"),
        ({"hyperparameters": {"precision": 9}}, "precision 9 is unknown to this runner"),
        (
            {"augmentations": {"crop_min_area": 1}},
            "augmentation crop_min_area is 1; choose a number from 0.01 to 0.99, or 0 to leave it out",
        ),
        ({"augmentations": {"crop_min_area": 0.001}}, "augmentation crop_min_area is 0.001"),
        ({"augmentations": {"hue": 0.6}}, "augmentation hue is 0.6; choose a number from 0 to 0.5"),
        ({"augmentations": {"blur": -0.1}}, "augmentation blur is -0.1"),
        ({"augmentations": {"rotation_degrees": "NaN"}}, "augmentation rotation_degrees is nan"),
    ],
)
def test_a_value_that_cannot_be_used_is_named(changes: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigurationFailure, match=told):
        resolve(spec(**changes))


@pytest.mark.parametrize(
    ("family", "config_json", "told"),
    [
        ("unet", "{}", "family unet is unknown; this runner knows .*resnet, "),
        ("resnet", "{", "not JSON"),
        ("resnet", "[1]", "not a JSON object"),
        ("resnet", '{"depth": [1]}', "no setting depth"),
        ("resnet", '{"depths": [1, 1], "hidden_sizes": [8], "embedding_size": 8}', "not of the same length"),
        ("resnet", '{"embedding_size": -1}', "no resnet can be built"),
        ("resnet", '{"layer_type": "round"}', "no resnet can be built"),
        ("resnet", '{"hidden_sizes": "wide"}', "no resnet can be built"),
    ],
)
def test_an_architecture_that_cannot_be_built_is_refused_in_one_sentence(
    family: str, config_json: str, told: str
) -> None:
    with pytest.raises(ConfigurationFailure, match=told) as refused:
        registry.build(family, config_json, 3, 32)
    assert "\n" not in refused.value.message


def test_a_model_has_one_output_for_each_class() -> None:
    (logits,) = registry.build("resnet", RESNET_TINY, 7, 32).outputs(torch.zeros(2, 3, 32, 32))
    assert logits.shape == (2, 7)
