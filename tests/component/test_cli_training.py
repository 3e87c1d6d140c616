"""`tether` against real servers: a training from nothing to its end, watched, stopped, and its errors."""

import asyncio
import signal
from pathlib import Path

import pytest

from protos.scheduler.v1 import session_pb2
from protos.training.v1.training_pb2 import Checkpoint
from services.eventlog import bootstrap as eventlog
from tests.support.box import Box
from tests.support.cli import NOWHERE, Cli, ended, line_with, scheduler_on, served
from tests.support.platform import DatabaseUrls
from tests.support.servers import address, eventlog_settings, running


async def trains(box: Box, welcome: session_pb2.Welcome, released: asyncio.Event) -> None:
    """Plays a box: starts what it is told, evaluates once, saves, and finishes when released."""
    assignment = await box.assignment()
    at = session_pb2.BoxMoment(anchor_at_ms=welcome.platform_at_ms + 1, elapsed_ms=0)
    await box.report(assignment, 1, started=session_pb2.Started(at=at, weights="random"))
    metrics = {"validation/accuracy": 0.9766, "validation/loss": 0.08}
    await box.report(assignment, 2, evaluated=session_pb2.Evaluated(step=22, epoch=1, metrics=metrics))
    saved = Checkpoint(name="step-22", path="/box/step-22", step=22, epoch=1, best=True, metrics=metrics)
    await box.report(assignment, 3, checkpointed=session_pb2.Checkpointed(checkpoint=saved))
    await released.wait()
    outcome = session_pb2.Outcome.OUTCOME_FINISHED
    end = session_pb2.Ended(outcome=outcome, started_at=at, ended_at=at, steps=22, epochs=1, metrics=metrics)
    await box.report(assignment, 4, ended=end)


async def test_without_anything_each_list_says_what_to_do_first(database: DatabaseUrls, tmp_path: Path) -> None:
    async with served(database, tmp_path) as (_, tether):
        for command, hint in (
            ("runners", "tether runners add NAME"),
            ("datasets", "tether datasets register NAME"),
            ("jobs", "tether train DATASET ARCHITECTURE"),
            ("workflows", "tether workflows save NAME --dataset DATASET --architecture ARCHITECTURE"),
        ):
            shown, as_json = await asyncio.gather(tether(command, "list"), tether(command, "list", "--json"))
            assert (shown.code, as_json.code) == (0, 0)
            assert hint in shown.out
            assert as_json.json[command] == []
        assert "there is no job yet" in (await tether("jobs", "show", "last")).error


async def test_a_training_is_shown_line_by_line_from_loading_to_its_summary(
    database: DatabaseUrls, tmp_path: Path
) -> None:
    async with served(database, tmp_path) as (control, tether):
        registered = await tether("datasets", "register", "digits", "/data/digits", "--json")
        assert registered.json["dataset"]["location"] == "/data/digits"
        registered = await tether("datasets", "register", "street", "s3://bucket/street", "--format", "mask-folder")
        assert "Dataset street is s3://bucket/street." in registered.out
        assert "mask-folder" in (await tether("datasets", "list")).out
        added = (await tether("runners", "add", "box", "--label", "room=2", "--json")).json
        box = Box(control.channel, added["secret_key"])
        welcome = await box.connect()
        shown = await tether("runners", "list")
        assert "🟢 ONLINE" in shown.out
        assert "NVIDIA A10G ×1 simulated" in shown.out

        train = await tether.start("train", "digits", "resnet-tiny", "--runner", "box", "--epochs", "1")
        await line_with(train, "ASSIGNED  loading on box")
        released = asyncio.Event()
        playing = asyncio.create_task(trains(box, welcome, released))
        line = await line_with(train, "accuracy")
        assert "RUNNING  step 22/22  accuracy 0.9766, loss 0.0800" in line
        listed = (await tether("jobs", "list", "--state", "running", "--json")).json["jobs"]
        assert [job["state"] for job in listed] == ["JOB_STATE_RUNNING"]
        assert "🔴 OCCUPIED" in (await tether("runners", "show", "box")).out
        released.set()
        await playing
        result = await ended(train)
        assert result.code == 0, result.err
        assert "✔ FINISHED  digits resnet-tiny" in result.out
        assert "/box/step-22" in result.out
        assert "at 2.5 minutes a minute" in result.out

        job_id = listed[0]["job_id"]
        whole = await tether("jobs", "show", job_id[:8])
        assert whole.code == 0, whole.err
        assert "by the job's own record" in whole.out, "quota is down, and the rest is shown all the same"
        for words in ("JobAssigned", "box takes it at 2.5 minutes a minute (NVIDIA A10G ×1", "validation share 0.2"):
            assert words in whole.out
        assert (await tether("jobs", "show", "digits resnet-tiny", "--json")).json["state"] == "JOB_STATE_FINISHED"
        assert (await tether("jobs", "watch", "last")).code == 0, "what is over needs no watching"
        assert "FINISHED already" in (await tether("jobs", "stop", "last", "--yes")).error

        read = await tether("events", "--to", "1000", "--job", "last", "--type", "JobStarted", "--json")
        assert read.code == 0, read.err
        assert read.json["type"] == "JobStarted", "one document a line, and only one line fits"
        assert "CheckpointSaved  step-22 of step 22" in (await tether("events", "--to", "1000")).out


async def test_ctrl_c_leaves_the_training_and_says_how_to_go_on(database: DatabaseUrls, tmp_path: Path) -> None:
    async with served(database, tmp_path) as (control, tether):
        await control.dataset()
        _, box = await control.box()
        welcome = await box.connect()
        playing = asyncio.create_task(trains(box, welcome, asyncio.Event()))
        train = await tether.start("train", "digits", "resnet-tiny", "--any")
        await line_with(train, "accuracy")
        train.send_signal(signal.SIGINT)
        result = await ended(train)
        assert result.code == 130
        assert "The training goes on." in result.err
        (job,) = (await tether("jobs", "list", "--json")).json["jobs"]
        assert job["state"] == "JOB_STATE_RUNNING"
        assert f"tether jobs stop {job['job_id'][:11]}" in result.err

        unasked = await tether("jobs", "stop", "last")
        assert "run it in a terminal, or with --yes" in unasked.error
        stopping = await tether("jobs", "stop", "last", "--yes", "--reason", "enough")
        assert "STOPPING · stopped by person" in stopping.out
        playing.cancel()


async def test_a_refusal_is_one_sentence_that_tells_the_way_out(database: DatabaseUrls, tmp_path: Path) -> None:
    async with served(database, tmp_path) as (control, tether):
        await control.dataset()
        await control.create_runner("idle")
        train = ("train", "digits", "resnet-tiny")
        cases = {
            (*train, "--runner", "idle"): "runner idle is OFFLINE; choose an online runner, or submit with --queue",
            (*train, "--runner", "ghost"): "there is no runner 'ghost' in this workspace; see `tether runners list`",
            (*train,): "say where to train: --runner NAME, or --any; no runner is online now",
            (*train, "--any", "--runner", "idle"): "give one of them",
            (*train, "--any", "--epochs", "-3"): "--epochs is '-3', but it must be from 1 to 100000",
            (*train, "--any", "--label", "room"): "is not of the form key=value",
            ("train", "digits", "gpt-9", "--any"): "there is no architecture 'gpt-9'",
            ("train", "nothing", "resnet-tiny", "--any"): "there is no dataset 'nothing'",
            ("datasets", "register", "x", "not/absolute"): "it must be an absolute path on the box",
            ("datasets", "check", "digits", "--runner", "idle"): "start it with `tether-runner start`",
            ("runners", "add", "idle"): "there is a runner named 'idle' already; choose another name",
            ("runners", "add", "n" * 100_000): "a name has 1 to 100 characters",
            ("runners", "suspend", "idle", "--for", "soon"): "write for example 30m",
            ("jobs", "show", "nope"): "there is no job 'nope'; see `tether jobs list`",
            (
                "events",
                "--type",
                "JobExploded",
                "--to",
                "9",
            ): "it must be one of: ArtifactRemoved, ArtifactStored, CheckpointSaved,",
            ("tokens", "revoke", "tok_none"): "there is no token 'tok_none'",
            ("usage",): f"cannot reach the platform at {NOWHERE}; is it up?",
        }
        results = []
        for batch in range(0, len(cases), 3):  # two cores
            results += await asyncio.gather(*(tether(*case) for case in list(cases)[batch : batch + 3]))
        for (case, words), result in zip(cases.items(), results, strict=True):
            assert words in result.error, case
            assert result.code == 1


async def test_who_may_do_what(database: DatabaseUrls, tmp_path: Path) -> None:
    async with served(database, tmp_path) as (_, tether):
        made = await tether("tokens", "create", "reader", "--role", "viewer")
        assert made.out.startswith("tt_")
        assert len(made.out.split()) == 1, "alone on stdout, so that a script can take it"
        reader = made.out.strip()
        who = await tether("whoami", "--json", TETHER_TOKEN=reader)
        assert who.json["role"] == "ROLE_VIEWER"
        refused = await tether("runners", "add", "box", TETHER_TOKEN=reader)
        assert "a token with the role viewer may not call CreateRunner; it takes one of: admin" in refused.error
        listed = await tether("tokens", "list", "--json")
        token_id = next(one["token_id"] for one in listed.json["tokens"] if one["name"] == "reader")
        assert (await tether("tokens", "revoke", token_id)).code == 0
        assert "unknown, revoked or expired" in (await tether("whoami", TETHER_TOKEN=reader)).error

        workspace = (await tether("workspaces", "create", "other")).out.strip()
        who = await tether("whoami", "--json", TETHER_TOKEN=workspace)
        assert (who.json["workspace_name"], who.json["role"]) == ("other", "ROLE_ADMIN")


async def test_the_tail_of_events_follows_what_happens(database: DatabaseUrls, tmp_path: Path) -> None:
    async with served(database, tmp_path) as (control, tether):
        tail = await tether.start("events")
        await line_with(tail, "WorkspaceCreated  test")
        await control.create_runner("box-7")
        assert "box-7 exists; no box has connected yet" in await line_with(tail, "RunnerRegistered")
        tail.send_signal(signal.SIGINT)
        assert (await ended(tail)).code == 130


async def test_a_watch_of_runners_goes_on_when_the_platform_comes_back(database: DatabaseUrls, tmp_path: Path) -> None:
    listen = address()
    async with running(eventlog.serve, eventlog_settings(database.eventlog)) as eventlog_address:
        async with scheduler_on(listen, database, eventlog_address) as control:
            token = (await control.create_workspace("test")).secret
            tether = Cli(tmp_path)
            watch = await tether.start("runners", "watch", TETHER_SERVER=listen, TETHER_TOKEN=token)
            control.token = token
            await control.create_runner("box-1")
            assert "⚫ OFFLINE" in await line_with(watch, "box-1")
        async with scheduler_on(listen, database, eventlog_address) as control:
            control.token = token
            await control.create_runner("box-2")
            await line_with(watch, "box-2")
            watch.send_signal(signal.SIGINT)
            result = await ended(watch)
    assert "reconnecting…\nconnected again\n" in result.err


@pytest.mark.parametrize("arguments", [("jobs", "list"), ("events",), ("workspaces", "create", "x")])
async def test_a_platform_that_is_not_there_is_told_within_seconds(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    tether = Cli(tmp_path)
    result = await tether(*arguments, TETHER_SERVER=NOWHERE, TETHER_TOKEN="tt_any")
    assert result.error == f"cannot reach the platform at {NOWHERE}; is it up? `tether up` starts one on this machine"


async def test_without_a_configuration_the_way_out_is_told(tmp_path: Path) -> None:
    result = await Cli(tmp_path / "nowhere")("jobs", "list")
    assert result.error == "no platform is configured here; run `tether up`, or set TETHER_SERVER and TETHER_TOKEN"


async def test_completion_offers_names_and_is_silent_where_the_platform_is_away(
    database: DatabaseUrls, tmp_path: Path
) -> None:
    async with served(database, tmp_path) as (control, tether):
        await control.create_runner("box-1")
        await control.create_runner("other")
        asked = {"_TETHER_COMPLETE": "complete_bash", "COMP_WORDS": "tether runners show bo", "COMP_CWORD": "3"}
        offered = await tether(**asked)
        assert offered.out.split() == ["box-1"]
        away = await tether(**asked, TETHER_SERVER=NOWHERE, TETHER_TOKEN="tt_any")
        assert (away.out.strip(), away.err) == ("", "")
