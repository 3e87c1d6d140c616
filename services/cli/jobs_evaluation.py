"""`tether jobs confusion` and `tether jobs advice`: what evaluations say beyond their metrics."""

import json
from typing import Annotated, Any

import typer

from protos.metrics.v1 import evaluation_pb2 as pb
from protos.scheduler.v1.job_pb2 import Job
from services.cli import evaluation_view, pick
from services.cli.connection import Platform, connect
from services.cli.output import console, print_json, to_json
from services.cli.parameters import AsJson, JobArgument
from services.words import format as fmt

Step = Annotated[int, typer.Option(min=0, help="Of the evaluation at this step; 0: the newest.")]


def register(group: typer.Typer) -> None:
    group.command("confusion", epilog="Example: tether jobs confusion last --step 200")(confusion)
    group.command("advice", epilog="Example: tether jobs advice last")(advice)


def confusion(context: typer.Context, job: JobArgument, step: Step = 0, as_json: AsJson = False) -> None:
    """Show the confusion matrix: predictions in rows, ground truth in columns."""
    platform = connect(context)
    request = pb.GetConfusionMatrixRequest(job_id=pick.job_id(platform, job), step=step)
    response = platform.evaluations.GetConfusionMatrix(request)
    if as_json:
        print_json(response)
        return
    console().print(evaluation_view.matrix_title(response), style="bold")
    console().print(evaluation_view.confusion_matrix(response.matrix))


def advice(context: typer.Context, job: JobArgument, as_json: AsJson = False) -> None:
    """Say what could go better, and from which numbers that follows. Part of advanced evaluation."""
    platform = connect(context)
    job_id = pick.job_id(platform, job)
    response = platform.evaluations.ListRecommendations(pb.ListRecommendationsRequest(job_id=job_id))
    if as_json:
        print_json(response)
    elif response.recommendations:
        console().print(evaluation_view.advice(response.recommendations))
    else:
        console().print(f"Nothing was found wrong with {fmt.short_id(job_id)} so far.")


def whole(platform: Platform, job: Job, *, past: bool) -> str:
    """The job as one JSON document, with its newest evaluation (classes included) and the advice on it."""
    told: dict[str, Any] = json.loads(to_json(job))
    found = evaluation_view.last(platform, job) if job.evaluated_step else None
    told["evaluation"] = None if found is None else json.loads(to_json(found))
    advised = [] if past else evaluation_view.advice_of(platform, job)
    told["recommendations"] = [json.loads(to_json(one)) for one in advised]
    return json.dumps(told, ensure_ascii=False, sort_keys=True, indent=2)
