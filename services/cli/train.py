"""`tether train`: Run Training, and the catalogue of what can be trained."""

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from protos.events.v1.runner_pb2 import RunnerStatus
from protos.scheduler.v1 import job_pb2 as pb
from protos.scheduler.v1.runner_pb2 import ListRunnersRequest
from protos.training.v1.training_pb2 import AdvancedEvaluation, CheckpointStrategy, Limits
from services.cli import architectures, completion
from services.cli.connection import Platform, connect, new_request_id
from services.cli.errors import CliError
from services.cli.following import OUTPUT, Following
from services.cli.parameters import ArchitectureArgument, DatasetArgument, parse_labels, spread
from services.cli.train_options import CheckpointPolicy, stall_minutes
from services.cli.workflow_options import Made, augmentations_of

_RUN = "run"
_WHERE, _LENGTH, _CHECKPOINTS, _EVALUATION = "Where", "How long", "Checkpoints", "Evaluation"


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
        "tether train --workflow digits-small --any --queue\n\n"
        "What can be trained: tether train architectures",
    )(spread(run))
    group.command("architectures", epilog=architectures.EPILOG)(architectures.architectures)
    app.add_typer(group, name=name, help=help_, rich_help_panel=panel)


def run(
    context: typer.Context,
    *,
    dataset: DatasetArgument = "",
    architecture: ArchitectureArgument = "",
    workflow: Annotated[
        str,
        typer.Option(
            metavar="WORKFLOW",
            help="Train this saved workflow, instead of a dataset and an architecture; see `tether workflows`.",
            autocompletion=completion.workflow,
            show_default=False,
        ),
    ] = "",
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
    made: Made,
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
        CheckpointPolicy,
        typer.Option(
            metavar="POLICY",
            help=f"Which are kept: {', '.join(CheckpointPolicy)}.",
            rich_help_panel=_CHECKPOINTS,
        ),
    ] = CheckpointPolicy.BEST_METRIC,
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
    name: Annotated[
        str, typer.Option(help="For people; default: the workflow's, or dataset and model.", rich_help_panel=OUTPUT)
    ] = "",
    following: Following,
) -> None:
    """Run a training on a runner and watch it live. Ctrl-C stops watching, not the training.

    The exit code is 0 only if the training finished.
    """
    if workflow and (dataset or architecture or made.given):
        raise CliError(
            f"--workflow says what is trained, with all of its settings; leave those out, or change the workflow with "
            f"`tether workflows revise {workflow}`"
        )
    if not workflow and not (dataset and architecture):
        raise CliError("say what to train: DATASET and ARCHITECTURE, or --workflow WORKFLOW")
    platform = connect(context)
    if runner and (any_runner or label):
        raise CliError("--runner names one runner and --any or --label leave the choice open; give one of them")
    if not (runner or any_runner or label):
        raise CliError(f"say where to train: --runner NAME, or --any{_online(platform)}")
    answer = platform.jobs.SubmitJob(
        pb.SubmitJobRequest(
            request_id=new_request_id(),
            name=name,
            workflow_id=workflow,
            dataset_id=dataset,
            architecture_id=architecture,
            runner_id=runner,
            labels=parse_labels(label or []),
            queue=queue,
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
            hyperparameters=made.hyperparameters(),
            augmentations=made.augmentations(lambda: augmentations_of(platform, architecture)),
            weights=made.weights(platform),
        )
    )
    following.follow(platform, answer.job)


def _online(platform: Platform) -> str:
    """The runners that could be chosen now, for the sentence that asks for one."""
    runners = platform.runners.ListRunners(ListRunnersRequest()).runners
    names = [one.name for one in runners if one.status == RunnerStatus.RUNNER_STATUS_ONLINE]
    if names:
        return f"; online now: {', '.join(names[:10])}"
    return "; no runner is online now, see `tether runners list`"
