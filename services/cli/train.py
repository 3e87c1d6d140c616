"""`tether train`: Run Training, and the catalogue of what can be trained."""

from typing import Annotated, Any

import typer
from rich.markup import escape
from typer.core import TyperGroup

from protos.events.v1.runner_pb2 import RunnerStatus
from protos.scheduler.v1 import job_pb2 as pb
from protos.scheduler.v1.runner_pb2 import ListRunnersRequest
from protos.scheduler.v1.workflow_pb2 import ListArchitecturesRequest
from protos.training.v1.training_pb2 import (
    OPTIMIZER_UNSPECIFIED,
    PRECISION_UNSPECIFIED,
    SCHEDULE_UNSPECIFIED,
    AdvancedEvaluation,
    Augmentations,
    CheckpointStrategy,
    Hyperparameters,
    Limits,
)
from services.cli import architectures, completion, live, pick
from services.cli import format as fmt
from services.cli.connection import Platform, connect, new_request_id
from services.cli.errors import CliError
from services.cli.output import console, error_console, print_json
from services.cli.parameters import DatasetArgument, parse_labels
from services.cli.train_options import (
    Optimizer,
    Policy,
    Precision,
    Schedule,
    augmentations,
    batch_size,
    gradient_clip,
    stall_minutes,
    weights,
)

_RUN = "run"
_BEGINNING = "What the model begins with"
_WHERE, _LENGTH, _HYPER = "Where", "How long", "Hyperparameters (default: the architecture's)"
_CHECKPOINTS, _EVALUATION, _OUTPUT = "Checkpoints", "Evaluation", "Output"


class _RunByDefault(TyperGroup):
    """`tether train DATASET ARCHITECTURE` means `tether train run DATASET ARCHITECTURE`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or args[0] not in self.commands:
            args = [_RUN, *(args or ["--help"])]
        return super().parse_args(ctx, args)


def register(app: typer.Typer, name: str, help_: str, panel: str) -> None:
    group = typer.Typer(cls=_RunByDefault)
    group.command(
        _RUN,
        epilog="Examples: tether train digits resnet-tiny --runner box-1\n\n"
        "tether train digits resnet-18 --any --queue --epochs 30 --confusion-matrix --detach\n\n"
        "tether train digits resnet-18 --runner box-1 --batch-size auto --augment blur=0.1 --weights random\n\n"
        "What can be trained: tether train architectures",
    )(run)
    group.command("architectures", epilog=architectures.EPILOG)(architectures.architectures)
    app.add_typer(group, name=name, help=help_, rich_help_panel=panel)


def run(
    context: typer.Context,
    dataset: DatasetArgument,
    architecture: Annotated[
        str,
        typer.Argument(
            metavar="ARCHITECTURE", help="See `tether train architectures`.", autocompletion=completion.architecture
        ),
    ],
    runner: Annotated[
        str,
        typer.Option("--runner", "-r", help="Train here.", autocompletion=completion.runner, rich_help_panel=_WHERE),
    ] = "",
    any_runner: Annotated[bool, typer.Option("--any", help="Any runner that fits.", rich_help_panel=_WHERE)] = False,
    label: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Any runner with this label; may be repeated.", rich_help_panel=_WHERE),
    ] = None,
    queue: Annotated[
        bool, typer.Option("--queue", help="Wait where no runner is free, up to 24 h.", rich_help_panel=_WHERE)
    ] = False,
    epochs: Annotated[int, typer.Option(help="End after this many.", rich_help_panel=_LENGTH, show_default=False)] = 0,
    steps: Annotated[int, typer.Option(help="End after this many.", rich_help_panel=_LENGTH, show_default=False)] = 0,
    minutes: Annotated[int, typer.Option(help="End after this many.", rich_help_panel=_LENGTH, show_default=False)] = 0,
    patience: Annotated[
        int,
        typer.Option(
            help="End after so many evaluations without improvement.", rich_help_panel=_LENGTH, show_default=False
        ),
    ] = 0,
    retries: Annotated[
        int,
        typer.Option(
            metavar="N",
            help="Go on from the last checkpoint, up to so often, where the box lets it down.",
            rich_help_panel=_LENGTH,
            show_default=False,
        ),
    ] = 0,
    stall: Annotated[
        str,
        typer.Option(
            "--stall-minutes",
            metavar="N|never",
            help="Without a step for so long it counts as stalled.",
            rich_help_panel=_LENGTH,
        ),
    ] = "30",
    stop_when_stalled: Annotated[
        bool, typer.Option("--stop-when-stalled", help="Stop it then.", rich_help_panel=_LENGTH)
    ] = False,
    initial_weights: Annotated[
        str,
        typer.Option(
            "--weights",
            metavar="pretrained|random|NAME",
            help="NAME: weights that the box knows. Default: pretrained where the box has them.",
            rich_help_panel=_BEGINNING,
            show_default=False,
        ),
    ] = "",
    from_checkpoint: Annotated[
        str,
        typer.Option(
            metavar="JOB[/NAME]",
            help="The weights of an earlier job; to go on with its training: tether jobs resume.",
            autocompletion=completion.job_checkpoint,
            rich_help_panel=_BEGINNING,
            show_default=False,
        ),
    ] = "",
    images_a_step: Annotated[
        str,
        typer.Option(
            "--batch-size",
            metavar="N|auto",
            help="Images a step, over all GPUs; auto: the largest that fits.",
            rich_help_panel=_HYPER,
            show_default=False,
        ),
    ] = "",
    vram_share: Annotated[
        float,
        typer.Option(help="How much of a GPU auto fills, 0.6 = 60 %.", rich_help_panel=_HYPER, show_default=False),
    ] = 0,
    accumulate: Annotated[
        int,
        typer.Option(metavar="N", help="Compute a batch in so many parts.", rich_help_panel=_HYPER, show_default=False),
    ] = 0,
    image_size: Annotated[
        int, typer.Option(help="Pixels in height and width.", rich_help_panel=_HYPER, show_default=False)
    ] = 0,
    learning_rate: Annotated[
        float, typer.Option(help="Peak learning rate.", rich_help_panel=_HYPER, show_default=False)
    ] = 0,
    weight_decay: Annotated[float, typer.Option(help="Weight decay.", rich_help_panel=_HYPER, show_default=False)] = 0,
    validation_share: Annotated[
        float, typer.Option(help="Share held out, 0.2 = 20 %.", rich_help_panel=_HYPER, show_default=False)
    ] = 0,
    seed: Annotated[
        int,
        typer.Option(
            min=0, metavar="N", help="Of split, weights and order.", rich_help_panel=_HYPER, show_default=False
        ),
    ] = 0,
    optimizer: Annotated[
        Optimizer | None, typer.Option(help="What makes the steps.", rich_help_panel=_HYPER, show_default=False)
    ] = None,
    schedule: Annotated[
        Schedule | None,
        typer.Option(help="The learning rate over the training.", rich_help_panel=_HYPER, show_default=False),
    ] = None,
    precision: Annotated[
        Precision | None,
        typer.Option(help="Mixed where it is not float32.", rich_help_panel=_HYPER, show_default=False),
    ] = None,
    clip: Annotated[
        str,
        typer.Option(
            "--gradient-clip",
            metavar="NORM|never",
            help="Longest gradient.",
            rich_help_panel=_HYPER,
            show_default=False,
        ),
    ] = "",
    augment: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE|none",
            help="Change one of the random changes of the images; may be repeated.",
            autocompletion=completion.augmentation,
            rich_help_panel=_HYPER,
        ),
    ] = None,
    evaluation_interval: Annotated[
        int,
        typer.Option(
            metavar="STEPS",
            help="Steps between evaluations; default: an epoch.",
            show_default=False,
            rich_help_panel=_CHECKPOINTS,
        ),
    ] = 0,
    policy: Annotated[
        Policy,
        typer.Option(
            metavar="POLICY",
            help=f"Which are kept: {', '.join(Policy)}.",
            rich_help_panel=_CHECKPOINTS,
        ),
    ] = Policy.BEST_METRIC,
    keep_best: Annotated[int, typer.Option(help="How many of the best.", rich_help_panel=_CHECKPOINTS)] = 1,
    every_n_evaluations: Annotated[
        int, typer.Option(metavar="N", help="For --policy every-n-evaluations.", rich_help_panel=_CHECKPOINTS)
    ] = 1,
    advanced_evaluation: Annotated[
        bool,
        typer.Option("--advanced-evaluation", help="Previews, advice; minutes × 1.5.", rich_help_panel=_EVALUATION),
    ] = False,
    confusion_matrix: Annotated[
        bool, typer.Option("--confusion-matrix", help="Free of charge.", rich_help_panel=_EVALUATION)
    ] = False,
    name: Annotated[str, typer.Option(help="For people; default: dataset and model.", rich_help_panel=_OUTPUT)] = "",
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Return at once, do not watch.", rich_help_panel=_OUTPUT)
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the job at its end (--detach: now).", rich_help_panel=_OUTPUT)
    ] = False,
) -> None:
    """Run a training on a runner and watch it live. Ctrl-C stops watching, not the training.

    The exit code is 0 only if the training finished.
    """
    platform = connect(context)
    if runner and (any_runner or label):
        raise CliError("--runner names one runner and --any or --label leave the choice open; give one of them")
    if not (runner or any_runner or label):
        raise CliError(f"say where to train: --runner NAME, or --any{_online(platform)}")
    answer = platform.jobs.SubmitJob(
        pb.SubmitJobRequest(
            request_id=new_request_id(),
            name=name,
            dataset_id=dataset,
            architecture_id=architecture,
            runner_id=runner,
            labels=parse_labels(label or []),
            queue=queue,
            hyperparameters=Hyperparameters(
                batch_size=batch_size(images_a_step),
                auto_batch_vram_share=vram_share,
                accumulate_batches=accumulate,
                optimizer=optimizer.to_proto() if optimizer else OPTIMIZER_UNSPECIFIED,
                schedule=schedule.to_proto() if schedule else SCHEDULE_UNSPECIFIED,
                precision=precision.to_proto() if precision else PRECISION_UNSPECIFIED,
                gradient_clip_norm=gradient_clip(clip),
                image_size=image_size,
                learning_rate=learning_rate,
                weight_decay=weight_decay,
                validation_share=validation_share,
                seed=seed,
            ),
            checkpoint_strategy=CheckpointStrategy(
                evaluation_interval_steps=evaluation_interval,
                policy=policy.to_proto(),
                every_n_evaluations=every_n_evaluations,
                keep_best=keep_best,
            ),
            advanced_evaluation=AdvancedEvaluation(enabled=advanced_evaluation, confusion_matrix=confusion_matrix),
            limits=Limits(
                epochs=epochs,
                steps=steps,
                minutes=minutes,
                early_stopping_patience=patience,
                retries=retries,
                stall_minutes=stall_minutes(stall),
                stop_when_stalled=stop_when_stalled,
            ),
            augmentations=augmentations(augment or [], lambda: _augmentations_of(platform, architecture)),
            weights=weights(initial_weights, from_checkpoint, lambda job: pick.job_id(platform, job)),
        )
    )
    follow(platform, answer.job, detach=detach, as_json=as_json)


def follow(platform: Platform, job: pb.Job, *, detach: bool, as_json: bool) -> None:
    """What comes after a submission: it is said, or watched to its end, which makes the exit code."""
    if detach:
        _submitted(job, as_json)
        return
    if not as_json:
        console().print(f"Submitted [bold]{escape(job.job_id)}[/]", soft_wrap=True)
    over = live.watch(platform, job, quiet=as_json)
    if as_json:
        print_json(over)
    raise typer.Exit(live.exit_code(over))


def _submitted(job: pb.Job, as_json: bool) -> None:
    if as_json:
        print_json(job)
        return
    out, aside = console(), error_console()
    out.print(job.job_id, soft_wrap=True)
    for warning in job.warnings:
        aside.print(f"[yellow]warning:[/] {escape(warning)}")
    aside.print(f"[dim]Watch it: tether jobs watch {fmt.short_id(job.job_id)}[/]")


def _augmentations_of(platform: Platform, architecture_id: str) -> Augmentations:
    """The architecture's own; none where the platform will refuse its name."""
    known = platform.workflows.ListArchitectures(ListArchitecturesRequest()).architectures
    found = (one.default_augmentations for one in known if one.architecture_id == architecture_id)
    return next(found, Augmentations())


def _online(platform: Platform) -> str:
    """The runners that could be chosen now, for the sentence that asks for one."""
    runners = platform.runners.ListRunners(ListRunnersRequest()).runners
    names = [one.name for one in runners if one.status == RunnerStatus.RUNNER_STATUS_ONLINE]
    if names:
        return f"; online now: {', '.join(names[:10])}"
    return "; no runner is online now, see `tether runners list`"
