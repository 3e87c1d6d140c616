"""`tether train`: Run Training, and the catalogue of what can be trained."""

from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.text import Text
from typer.core import TyperGroup

from protos.events.v1.runner_pb2 import RunnerStatus
from protos.scheduler.v1 import job_pb2 as pb
from protos.scheduler.v1.runner_pb2 import ListRunnersRequest
from protos.scheduler.v1.workflow_pb2 import ListArchitecturesRequest
from protos.training.v1.training_pb2 import (
    AdvancedEvaluation,
    CheckpointPolicy,
    CheckpointStrategy,
    Hyperparameters,
    Limits,
    Task,
)
from services.cli import completion, live
from services.cli import format as fmt
from services.cli.connection import Platform, connect, new_request_id
from services.cli.errors import CliError
from services.cli.output import console, error_console, print_json
from services.cli.parameters import AsJson, DatasetArgument, parse_labels
from services.cli.tables import facts

_RUN = "run"
_WHERE, _LENGTH, _HYPER = "Where", "How long", "Hyperparameters (default: the architecture's)"
_CHECKPOINTS, _EVALUATION, _OUTPUT = "Checkpoints", "Evaluation", "Output"


class _RunByDefault(TyperGroup):
    """`tether train DATASET ARCHITECTURE` means `tether train run DATASET ARCHITECTURE`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or args[0] not in self.commands:
            args = [_RUN, *(args or ["--help"])]
        return super().parse_args(ctx, args)


class Policy(StrEnum):
    """Which checkpoints are kept."""

    BEST_METRIC = "best-metric"
    LOWEST_VALIDATION_LOSS = "lowest-validation-loss"
    LATEST = "latest"
    EVERY_N_EVALUATIONS = "every-n-evaluations"

    def to_proto(self) -> "CheckpointPolicy.ValueType":
        return CheckpointPolicy.Value(f"CHECKPOINT_POLICY_{self.name}")


def register(app: typer.Typer, name: str, help_: str, panel: str) -> None:
    group = typer.Typer(cls=_RunByDefault)
    group.command(
        _RUN,
        epilog="Examples: tether train digits resnet-tiny --runner box-1\n\n"
        "tether train digits resnet-18 --any --queue --epochs 30 --confusion-matrix --detach\n\n"
        "What can be trained: tether train architectures",
    )(run)
    group.command("architectures", epilog="Example: tether train architectures")(architectures)
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
    stall_minutes: Annotated[
        str,
        typer.Option(
            metavar="N|never",
            help="Without a step for so long it counts as stalled.",
            rich_help_panel=_LENGTH,
        ),
    ] = "30",
    stop_when_stalled: Annotated[
        bool, typer.Option("--stop-when-stalled", help="Stop it then.", rich_help_panel=_LENGTH)
    ] = False,
    batch_size: Annotated[
        int, typer.Option(help="Images a step, over all GPUs.", rich_help_panel=_HYPER, show_default=False)
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
                batch_size=batch_size,
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
                stall_minutes=_stall_minutes(stall_minutes),
                stop_when_stalled=stop_when_stalled,
            ),
        )
    )
    if detach:
        _submitted(answer.job, as_json)
        return
    if not as_json:
        console().print(f"Submitted [bold]{escape(answer.job.job_id)}[/]", soft_wrap=True)
    over = live.watch(platform, answer.job, quiet=as_json)
    if as_json:
        print_json(over)
    raise typer.Exit(live.exit_code(over))


def architectures(context: typer.Context, as_json: AsJson = False) -> None:
    """List what can be trained, and what it needs."""
    response = connect(context).workflows.ListArchitectures(ListArchitecturesRequest())
    if as_json:
        print_json(response)
        return
    for one in response.architectures:
        task, needs = fmt.words(Task, one.task, "TASK_"), one.requirements
        title = Text(one.architecture_id, "bold").append(
            f"  {task}, {fmt.count(one.default_epochs, 'epoch')} by default", "not bold"
        )
        console().print(title)
        vram = _least(needs.min_gpu_vram_bytes, needs.recommended_gpu_vram_bytes)
        ram = _least(needs.min_cpu_ram_bytes, needs.recommended_cpu_ram_bytes)
        console().print(facts(("  about", one.description), ("  VRAM a GPU", vram), ("  CPU RAM", ram)))
        console().print()


def _stall_minutes(text: str) -> int:
    if text == "never":
        return -1
    if not (text.isascii() and text.isdigit()) or not 0 < int(text[:9]) < 10_001:
        raise CliError(f"--stall-minutes is {text!r}; give whole minutes from 1 to 10000, or never")
    return int(text)


def _least(minimum_bytes: int, recommended_bytes: int) -> Text:
    return Text(f"at least {fmt.size(minimum_bytes)}, ").append(f"{fmt.size(recommended_bytes)} recommended", "dim")


def _submitted(job: pb.Job, as_json: bool) -> None:
    if as_json:
        print_json(job)
        return
    out, aside = console(), error_console()
    out.print(job.job_id, soft_wrap=True)
    for warning in job.warnings:
        aside.print(f"[yellow]warning:[/] {escape(warning)}")
    aside.print(f"[dim]Watch it: tether jobs watch {fmt.short_id(job.job_id)}[/]")


def _online(platform: Platform) -> str:
    """The runners that could be chosen now, for the sentence that asks for one."""
    runners = platform.runners.ListRunners(ListRunnersRequest()).runners
    names = [one.name for one in runners if one.status == RunnerStatus.RUNNER_STATUS_ONLINE]
    if names:
        return f"; online now: {', '.join(names[:10])}"
    return "; no runner is online now, see `tether runners list`"
