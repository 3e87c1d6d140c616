"""`tether usage rates`: what a minute costs on which GPU."""

import typer
from rich.text import Text

from protos.quota.v1.quota_pb2 import ExplainChargeRequest
from protos.scheduler.v1.workflow_pb2 import ListRatesRequest
from services.cli import pick
from services.cli.connection import connect
from services.cli.output import console, print_json
from services.cli.parameters import AsJson, JobOption
from services.cli.tables import table
from services.cli.usage_explain import rate_words
from services.words import format as fmt

_MICROS = 1_000_000


def rates(context: typer.Context, job: JobOption = "", as_json: AsJson = False) -> None:
    """Show the multipliers of GPUs, and the rule for those that are not listed; with --job where its rate came from."""
    platform, out = connect(context), console()
    if job:
        response = platform.quota.ExplainCharge(ExplainChargeRequest(job_id=pick.job_id(platform, job)))
        if as_json:
            print_json(response)
            return
        if not response.attempts:
            out.print("This job has no rate yet: it is written down when a runner takes it.")
        for attempt in response.attempts:
            where = Text(attempt.runner_name, "bold").append(" simulated" if attempt.simulated else "", "yellow")
            rate = f"  {fmt.rate(attempt.rate_micros)} = {rate_words(attempt)}"
            out.print(where.append(rate, "not bold default"))
            out.print(f"[dim]written in event #{attempt.assigned_position}, JobAssigned, for good[/]")
        return
    table_ = platform.workflows.ListRates(ListRatesRequest())
    if as_json:
        print_json(table_)
        return
    made = table("GPU", "minutes a minute", right=("minutes a minute",))
    for gpu in table_.gpus:
        made.add_row(Text(gpu.name, "bold"), _number(gpu.multiplier_micros))
    made.add_row(Text("any other", "dim"), _number(table_.unlisted_micros))
    out.print(made)
    factor = _number(table_.advanced_evaluation_micros)
    out.print(
        "[dim]Relative to one NVIDIA T4. A GPU is charged by the longest name here that its product name contains as\n"
        f"whole words; the GPUs of a runner add up; advanced evaluation multiplies by {factor}. The rate of a job is\n"
        "written down when a runner takes it: tether usage rates --job JOB[/]"
    )


def _number(micros: int) -> str:
    return f"{micros / _MICROS:.3f}".rstrip("0").rstrip(".")
