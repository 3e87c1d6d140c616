"""`tether usage` as people see it: breakdowns, the past, invoices, refunds, rates."""

import asyncio
from pathlib import Path

from tests.component.test_cli_figures import finish, running_job
from tests.support.box import Box
from tests.support.cli import Cli, line_with, served
from tests.support.control import Control
from tests.support.eventually import eventually
from tests.support.platform import DatabaseUrls


async def charged_job(control: Control, tether: Cli) -> tuple[Box, str]:
    """A job that ran for a moment, and its id."""
    box, assignment, started_at, _ = await running_job(control)
    await finish(box, assignment, started_at)

    async def charged() -> list[dict[str, object]]:
        charges = (await tether("usage", "charges", "--json")).json["charges"]
        return [] if not charges or charges[0]["running"] else charges

    await eventually(charged, what="the charge")
    return box, assignment.job_id


async def test_an_invoice_a_refund_and_the_past_before_it(database: DatabaseUrls, tmp_path: Path) -> None:
    async with served(database, tmp_path, figures=True) as (control, tether):
        _, job_id = await charged_job(control, tether)
        before = (await tether("usage", "--json")).json
        invoice, as_json = await asyncio.gather(
            tether("usage", "explain", "last"), tether("usage", "explain", "last", "--json")
        )
        (interval,) = as_json.json["attempts"][0]["intervals"]
        assert interval["kind"] == "KIND_CONNECTED"
        ran_ms = int(interval["to_ms"]) - int(interval["from_ms"])
        assert 0 < ran_ms <= 100
        rate = int(as_json.json["attempts"][0]["rate_micros"])
        assert int(interval["charged_ms_micros"]) == ran_ms * rate
        assert "the training process started → the training finished" in invoice.out
        assert f"rate {rate / 1e6:g} = {rate / 1e6:g} (NVIDIA A10G); written in event" in invoice.out
        for position in interval["positions"]:
            assert f"#{position}" in invoice.out
        assert f"exactly {ran_ms * rate / 60e9:,.6f}" in invoice.out

        refused = await asyncio.gather(
            tether("usage", "adjust", "0", "--reason", "nothing"),
            tether("usage", "adjust", "many", "--reason", "nothing"),
            tether("usage", "adjust", "5", "--reason", "  "),
            tether("usage", "adjust", "5", "--reason", "x", "--month", "2999-01"),
            tether("usage", "adjust", "5", "--reason", "x" * 501),
            tether("usage", "adjust", "5", "--reason", "x", "--job", "jb_aaaaaaaaaaaaaaaa"),
        )
        for result, words in zip(
            refused,
            (
                "change nothing",
                "is not a number of minutes",
                "the reason is empty",
                "--month is '2999-01', but that month has not begun",
                "1 to 500 characters",
                "there is no job",
            ),
            strict=True,
        ):
            assert words in result.error

        refund = await tether("usage", "adjust", "-1.5", "--reason", "the box [hung]", "--job", "last")
        assert refund.code == 0, refund.err
        assert f"Adjusted by −1.50 minutes for {job_id[:11]}" in refund.out
        explained = await tether("usage", "explain", job_id)
        assert "the box [hung]" in explained.out
        assert "adjusted −1.50 minutes" in explained.out
        now, past, by_job = await asyncio.gather(
            tether("usage", "--json"),
            tether("usage", f"--at=#{before['position']}", "--json"),
            tether("usage", "--by", "job"),
        )
        assert int(now.json["used_milliminutes"]) == int(before["used_milliminutes"]) - 1500
        assert past.json["used_milliminutes"] == before["used_milliminutes"]
        assert "digits" in by_job.out
        assert job_id[:11] in by_job.out
        assert "−1.5" in by_job.out
        assert "✔ equal" in (await tether("usage", "verify")).out
        assert "--at is" in (await tether("usage", "--at=#999999")).error
        assert "is not a moment" in (await tether("usage", "--at", "yesterdayish")).error


async def test_every_breakdown_is_drawn_and_rates_say_where_they_come_from(
    database: DatabaseUrls, tmp_path: Path
) -> None:
    async with served(database, tmp_path, figures=True) as (control, tether):
        empty = await tether("usage", "--by", "day")
        assert "Nothing was charged in this month" in empty.out
        await charged_job(control, tether)
        month = (await tether("usage", "--json")).json["period"]
        groups = ("day", "runner", "gpu", "person", "workflow")
        tables = await asyncio.gather(*(tether("usage", "--by", by, "--period", month) for by in groups))
        words = ("-", "box", "NVIDIA", "first admin", " · ")
        for by, result, word in zip(groups, tables, words, strict=True):
            assert result.code == 0, result.err
            heading, row = result.out.strip().splitlines()[-2:]
            assert heading.startswith(by.upper())
            assert word in row
            assert "█" in row
        assert (await tether("usage", "--by", "colour")).code == 2
        listed, of_job, as_json = await asyncio.gather(
            tether("usage", "rates"), tether("usage", "rates", "--job", "last"), tether("usage", "rates", "--json")
        )
        assert "any other" in listed.out
        assert "longest name" in listed.out
        micros = [int(gpu["multiplier_micros"]) for gpu in as_json.json["gpus"]]
        assert micros == sorted(micros)
        names = {gpu["name"] for gpu in as_json.json["gpus"]}
        assert names >= {"P4", "T4", "P100", "V100", "L4", "A10G", "RTX 3090", "RTX 4090", "L40S", "A100", "A100 80GB"}
        assert names >= {"H100", "H200", "B200"}
        assert "JobAssigned, for good" in of_job.out
        page = await tether("usage", "charges", "--limit", "1", "--month", "2001-01")
        assert "Nothing was charged in 2001-01" in page.out
        assert "page_token is" in (await tether("usage", "charges", "--page", "next")).error


async def test_minutes_are_watched_as_they_burn(database: DatabaseUrls, tmp_path: Path) -> None:
    async with served(database, tmp_path, figures=True) as (control, tether):
        watch = await tether.start("usage", "watch", "--interval", "0.2")
        try:
            await line_with(watch, "0.00 minutes")
            await running_job(control)
            line = await line_with(watch, "1 running")
            assert " an hour" in line
            await tether("usage", "set", "100")
            assert "of 100.0 minutes" in await line_with(watch, "used up at")
        finally:
            watch.terminate()
            await watch.wait()
