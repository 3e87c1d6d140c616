"""`tether workflows`: what trainings are made of, saved under names."""

import sys
from typing import Annotated

import typer
from rich.markup import escape
from rich.text import Text

from protos.scheduler.v1 import workflow_pb2 as pb
from protos.training.v1.training_pb2 import Augmentations, Workflow
from services.cli import completion
from services.cli.connection import Platform, connect, new_request_id
from services.cli.errors import NEEDS_AN_ANSWER, CliError
from services.cli.output import console, print_json
from services.cli.parameters import AsJson, WorkflowArgument, Yes, spread
from services.cli.settings_view import augmentations, hyperparameters, weights
from services.cli.tables import facts, table
from services.cli.workflow_options import Made, augmentations_of
from services.words import format as fmt

_Dataset = Annotated[
    str, typer.Option(metavar="DATASET", help="Name or id of the dataset.", autocompletion=completion.dataset)
]
_Architecture = Annotated[
    str,
    typer.Option(
        metavar="ARCHITECTURE", help="See `tether train architectures`.", autocompletion=completion.architecture
    ),
]
_NewName = Annotated[str, typer.Argument(metavar="NAME", help="Unique in the workspace.")]


def register(app: typer.Typer, name: str, help_: str, panel: str) -> None:
    group = typer.Typer(no_args_is_help=True)
    group.command("list", epilog="Example: tether workflows list")(list_)
    group.command("show", epilog="Example: tether workflows show digits-small")(show)
    group.command(
        "save",
        epilog="Examples: tether workflows save digits-small --dataset digits --architecture resnet-tiny\n\n"
        "tether workflows save street-b0 --dataset street --architecture segformer-b0 --batch-size auto",
    )(spread(save))
    group.command(
        "revise",
        epilog="Examples: tether workflows revise digits-small --learning-rate 0.001 --weights random\n\n"
        "tether workflows revise digits-small --rename digits-18 --architecture resnet-18 --defaults",
    )(spread(revise))
    group.command("duplicate", epilog="Example: tether workflows duplicate digits-small digits-try")(duplicate)
    group.command("delete", epilog="Example: tether workflows delete digits-try")(delete)
    app.add_typer(group, name=name, help=help_, rich_help_panel=panel)


def list_(context: typer.Context, as_json: AsJson = False) -> None:
    """List the saved workflows of the workspace."""
    response = connect(context).workflows.ListWorkflows(pb.ListWorkflowsRequest())
    if as_json:
        print_json(response)
        return
    if not response.workflows:
        console().print(
            "There is no workflow yet. Save one: tether workflows save NAME --dataset DATASET "
            "--architecture ARCHITECTURE"
        )
        return
    made = table("name", "dataset", "architecture", "revision", "of", "id", right=("revision",), keep=("name", "id"))
    for saved in response.workflows:
        one = saved.workflow
        at, id_ = fmt.moment(saved.revised_at_ms), Text(one.workflow_id, "dim")
        made.add_row(Text(one.name, "bold"), Text(saved.dataset_name), one.architecture_id, str(one.revision), at, id_)
    console().print(made)


def show(context: typer.Context, workflow: WorkflowArgument, as_json: AsJson = False) -> None:
    """Show a workflow with all of its settings; what is not shown is the architecture's."""
    response = pb.GetWorkflowResponse(workflow=_get(connect(context), workflow))
    if as_json:
        print_json(response)
        return
    saved, one = response.workflow, response.workflow.workflow
    console().print(
        facts(
            ("name", Text(one.name, "bold")),
            ("dataset", saved.dataset_name),
            ("architecture", one.architecture_id),
            ("begins with", weights(one.weights)),
            ("hyperparameters", hyperparameters(one.hyperparameters, zeros=())),
            ("augmentations", augmentations(one)),
            ("revision", f"{one.revision}, {fmt.moment(saved.revised_at_ms)} by {saved.revised_by}"),
            ("created", fmt.moment(saved.created_at_ms)),
            ("id", Text(one.workflow_id, "dim")),
        )
    )
    console().print(f"[dim]Train it: tether train --workflow {escape(one.name)} --runner RUNNER[/]", soft_wrap=True)


def save(
    context: typer.Context,
    *,
    name: _NewName,
    dataset: _Dataset,
    architecture: _Architecture,
    made: Made,
    as_json: AsJson = False,
) -> None:
    """Save a workflow under a name. What is not given is the architecture's when it is trained."""
    platform = connect(context)
    workflow = Workflow(
        name=name,
        dataset_id=dataset,
        architecture_id=architecture,
        hyperparameters=made.hyperparameters(),
        augmentations=made.augmentations(lambda: augmentations_of(platform, architecture)),
        weights=made.weights(platform),
    )
    _told(_create(platform, workflow), as_json)


def revise(
    context: typer.Context,
    *,
    workflow: WorkflowArgument,
    rename: Annotated[str, typer.Option(metavar="NAME", help="Another name, unique in the workspace.")] = "",
    dataset: _Dataset = "",
    architecture: _Architecture = "",
    defaults: Annotated[
        bool, typer.Option("--defaults", help="Leave out all settings that it had, before those that are given.")
    ] = False,
    made: Made,
    as_json: AsJson = False,
) -> None:
    """Change a workflow: what is given replaces what it had. Trainings that were made from it stay what they were."""
    if not (rename or dataset or architecture or defaults or made.given):
        raise CliError("nothing is to be changed; name a setting, for example --learning-rate 0.001")
    platform = connect(context)
    wanted = _get(platform, workflow).workflow
    wanted.name, wanted.dataset_id = rename or wanted.name, dataset or wanted.dataset_id
    wanted.architecture_id = architecture or wanted.architecture_id
    if defaults:
        for field in ("hyperparameters", "augmentations", "weights"):
            wanted.ClearField(field)
    wanted.hyperparameters.MergeFrom(made.hyperparameters())

    def own() -> Augmentations:
        if wanted.HasField("augmentations"):
            return wanted.augmentations
        return augmentations_of(platform, wanted.architecture_id)

    if (changed := made.augmentations(own)) is not None:
        wanted.augmentations.CopyFrom(changed)
    if (begins := made.weights(platform)) is not None:
        wanted.weights.CopyFrom(begins)
    request = pb.ReviseWorkflowRequest(request_id=new_request_id(), workflow=wanted)
    response = platform.workflows.ReviseWorkflow(request)
    if as_json:
        print_json(response)
        return
    now = response.workflow.workflow
    console().print(f"Workflow [bold]{escape(now.name)}[/] is at revision {now.revision}.", soft_wrap=True)


def duplicate(context: typer.Context, workflow: WorkflowArgument, name: _NewName, as_json: AsJson = False) -> None:
    """Save a workflow once more, under another name."""
    platform = connect(context)
    copy = _get(platform, workflow).workflow
    copy.name = name
    copy.ClearField("workflow_id")
    copy.ClearField("revision")
    _told(_create(platform, copy), as_json)


def delete(context: typer.Context, workflow: WorkflowArgument, yes: Yes = False, as_json: AsJson = False) -> None:
    """Delete a workflow. Trainings that were made from it stay, and its name is free again."""
    if not yes and not sys.stdin.isatty():
        raise CliError(NEEDS_AN_ANSWER)
    platform = connect(context)
    found = _get(platform, workflow).workflow
    if not yes and not typer.confirm(f"Delete the workflow {found.name}? Its trainings stay.", err=True):
        raise CliError("nothing was deleted")
    request = pb.DeleteWorkflowRequest(request_id=new_request_id(), workflow_id=found.workflow_id)
    response = platform.workflows.DeleteWorkflow(request)
    if as_json:
        print_json(response)
    else:
        console().print(f"Workflow {escape(found.name)} is deleted.", soft_wrap=True)


def _get(platform: Platform, named: str) -> pb.SavedWorkflow:
    return platform.workflows.GetWorkflow(pb.GetWorkflowRequest(workflow_id=named)).workflow


def _create(platform: Platform, workflow: Workflow) -> pb.CreateWorkflowResponse:
    request = pb.CreateWorkflowRequest(request_id=new_request_id(), workflow=workflow)
    return platform.workflows.CreateWorkflow(request)


def _told(response: pb.CreateWorkflowResponse, as_json: bool) -> None:
    if as_json:
        print_json(response)
        return
    saved = response.workflow
    name = escape(saved.workflow.name)
    what = f"trains {saved.workflow.architecture_id} on {escape(saved.dataset_name)}"
    console().print(f"Workflow [bold]{name}[/] {what}.", soft_wrap=True)
    console().print(f"[dim]Train it: tether train --workflow {name} --runner RUNNER[/]", soft_wrap=True)
