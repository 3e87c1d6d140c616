"""Options of what a training is made of besides dataset and architecture: of `tether train` and `tether workflows`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import typer

from protos.scheduler.v1.workflow_pb2 import ListArchitecturesRequest
from protos.training.v1.training_pb2 import (
    OPTIMIZER_UNSPECIFIED,
    PRECISION_UNSPECIFIED,
    SCHEDULE_UNSPECIFIED,
    Augmentations,
    Hyperparameters,
    InitialWeights,
)
from services.cli import completion, pick
from services.cli.connection import Platform
from services.cli.train_options import (
    Optimizer,
    Precision,
    Schedule,
    augmentations,
    batch_size,
    gradient_clip,
    weights,
)

_BEGINNING, _HYPER = "What the model begins with", "Hyperparameters (default: the architecture's)"


@dataclass(frozen=True)
class Made:
    """As it was typed; what was not has its default."""

    initial_weights: Annotated[
        str,
        typer.Option(
            "--weights",
            metavar="pretrained|random|NAME",
            help="NAME: weights that the box knows. Default: pretrained where the box has them.",
            rich_help_panel=_BEGINNING,
            show_default=False,
        ),
    ] = ""
    from_checkpoint: Annotated[
        str,
        typer.Option(
            metavar="JOB[/NAME]",
            help="The weights of an earlier job; to go on with its training: tether jobs resume.",
            autocompletion=completion.job_checkpoint,
            rich_help_panel=_BEGINNING,
            show_default=False,
        ),
    ] = ""
    images_a_step: Annotated[
        str,
        typer.Option(
            "--batch-size",
            metavar="N|auto",
            help="Images a step, over all GPUs; auto: the largest that fits.",
            rich_help_panel=_HYPER,
            show_default=False,
        ),
    ] = ""
    vram_share: Annotated[
        float,
        typer.Option(help="How much of a GPU auto fills, 0.6 = 60 %.", rich_help_panel=_HYPER, show_default=False),
    ] = 0
    accumulate: Annotated[
        int,
        typer.Option(metavar="N", help="Compute a batch in so many parts.", rich_help_panel=_HYPER, show_default=False),
    ] = 0
    image_size: Annotated[
        int, typer.Option(help="Pixels in height and width.", rich_help_panel=_HYPER, show_default=False)
    ] = 0
    learning_rate: Annotated[
        float, typer.Option(help="Peak learning rate.", rich_help_panel=_HYPER, show_default=False)
    ] = 0
    weight_decay: Annotated[float, typer.Option(help="Weight decay.", rich_help_panel=_HYPER, show_default=False)] = 0
    validation_share: Annotated[
        float, typer.Option(help="Share held out, 0.2 = 20 %.", rich_help_panel=_HYPER, show_default=False)
    ] = 0
    seed: Annotated[
        int,
        typer.Option(
            min=0, metavar="N", help="Of split, weights and order.", rich_help_panel=_HYPER, show_default=False
        ),
    ] = 0
    optimizer: Annotated[
        Optimizer | None, typer.Option(help="What makes the steps.", rich_help_panel=_HYPER, show_default=False)
    ] = None
    schedule: Annotated[
        Schedule | None,
        typer.Option(help="The learning rate over the training.", rich_help_panel=_HYPER, show_default=False),
    ] = None
    precision: Annotated[
        Precision | None,
        typer.Option(help="Mixed where it is not float32.", rich_help_panel=_HYPER, show_default=False),
    ] = None
    clip: Annotated[
        str,
        typer.Option(
            "--gradient-clip",
            metavar="NORM|never",
            help="Longest gradient.",
            rich_help_panel=_HYPER,
            show_default=False,
        ),
    ] = ""
    augment: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE|none",
            help="Change one of the random changes of the images; may be repeated.",
            autocompletion=completion.augmentation,
            rich_help_panel=_HYPER,
        ),
    ] = None

    @property
    def given(self) -> bool:
        return self != Made()

    def hyperparameters(self) -> Hyperparameters:
        """Raises CliError."""
        return Hyperparameters(
            batch_size=batch_size(self.images_a_step),
            auto_batch_vram_share=self.vram_share,
            accumulate_batches=self.accumulate,
            optimizer=self.optimizer.to_proto() if self.optimizer else OPTIMIZER_UNSPECIFIED,
            schedule=self.schedule.to_proto() if self.schedule else SCHEDULE_UNSPECIFIED,
            precision=self.precision.to_proto() if self.precision else PRECISION_UNSPECIFIED,
            gradient_clip_norm=gradient_clip(self.clip),
            image_size=self.image_size,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            validation_share=self.validation_share,
            seed=self.seed,
        )

    def augmentations(self, own: Callable[[], Augmentations]) -> Augmentations | None:
        """None where nothing was given; `own` tells the ones to change. Raises CliError."""
        return augmentations(self.augment or [], own)

    def weights(self, platform: Platform) -> InitialWeights | None:
        """None where nothing was given. Raises CliError."""
        return weights(self.initial_weights, self.from_checkpoint, lambda job: pick.job_id(platform, job))


def augmentations_of(platform: Platform, architecture_id: str) -> Augmentations:
    """The architecture's own; none where the platform will refuse its name."""
    known = platform.workflows.ListArchitectures(ListArchitecturesRequest()).architectures
    found = (one.default_augmentations for one in known if one.architecture_id == architecture_id)
    return next(found, Augmentations())
