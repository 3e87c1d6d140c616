"""`tether` against real servers: what a training has left, and how to go on from it."""

import asyncio
from pathlib import Path

from protos.events.v1.artifact_pb2 import ArtifactStored
from protos.scheduler.v1 import session_pb2
from protos.scheduler.v1.job_pb2 import ListJobsRequest
from protos.scheduler.v1.runner_pb2 import UninstallRunnerRequest
from protos.training.v1.training_pb2 import WEIGHTS_SOURCE_RANDOM, Checkpoint
from services.eventlog.append import Append, StreamAppend
from tests.support.box import Box, hello
from tests.support.cli import ended, line_with, served
from tests.support.log import appender_on
from tests.support.platform import DatabaseUrls

NAME = "step-00000022.safetensors"


async def trains(box: Box, at: session_pb2.BoxMoment) -> session_pb2.Assignment:
    """Plays a box: starts what it is told with a warning, saves after an epoch, and finishes."""
    assignment = await box.assignment()
    started = session_pb2.Started(
        at=at, weights="random", weights_source=WEIGHTS_SOURCE_RANDOM, warnings=["no weights here"], batch_size=48
    )
    await box.report(assignment, 1, started=started)
    saved = Checkpoint(name=NAME, step=22, epoch=1, bytes=2048, best=True, metrics={"validation/accuracy": 0.9})
    await box.report(assignment, 2, checkpointed=session_pb2.Checkpointed(checkpoint=saved))
    finished = session_pb2.Outcome.OUTCOME_FINISHED
    end = session_pb2.Ended(outcome=finished, started_at=at, ended_at=at, steps=22, epochs=1)
    await box.report(assignment, 3, ended=end)
    return assignment


async def test_a_training_goes_on_from_its_checkpoint_with_more_epochs(database: DatabaseUrls, tmp_path: Path) -> None:
    async with served(database, tmp_path) as (control, tether):
        await control.dataset()
        key = (await control.create_runner()).secret_key
        box = Box(control.channel, key)
        welcome = await box.connect()
        at = session_pb2.BoxMoment(anchor_at_ms=welcome.platform_at_ms + 1)
        playing = asyncio.create_task(trains(box, at))
        options = ("--epochs", "1", "--augment", "none", "--augment", "blur=0.1", "--batch-size", "auto")
        train = await tether.start("train", "digits", "resnet-tiny", "--any", "--weights", "random", *options)
        await line_with(train, "warning: no weights here")
        assert (await ended(train)).code == 0
        given = (await playing).spec
        assert (given.hyperparameters.batch_size, given.augmentations.blur) == (-1, 0.1)
        assert given.weights.source == WEIGHTS_SOURCE_RANDOM

        tab = {"_TETHER_COMPLETE": "complete_bash", "COMP_CWORD": "5"}
        shown, listed, done, offered = await asyncio.gather(
            tether("jobs", "show", "last"),
            tether("jobs", "checkpoints", "last"),
            tether("jobs", "resume", "last", "--detach"),
            tether(COMP_WORDS="tether jobs resume last --checkpoint st", **tab),
        )
        assert offered.out.split() == [NAME]
        for words in ("random weights, 48 images a step", "batch size auto", "blur 0.1", "random weights  "):
            assert words in shown.out
        assert [one for one in shown.out.splitlines() if one.split() == ["warning", "no", "weights", "here"]]
        (line,) = (one for one in listed.out.splitlines() if NAME in one)
        assert line.split() == [NAME, "22", "1", "accuracy", "0.9000", "best", "2", "KiB", "box"]
        assert f"--epochs is '1', but 1 are done already at checkpoint {NAME}; set a higher limit" in done.error

        box = Box(control.channel, key)
        await box.connect()
        playing = asyncio.create_task(trains(box, at))
        resumed = await tether("jobs", "resume", "last", "--epochs", "2", "--json")
        assert resumed.code == 0, resumed.err
        job = resumed.json
        assert (job["state"], job["spec"]["limits"]["epochs"]) == ("JOB_STATE_FINISHED", 2)
        begins = (await playing).spec.resume_from
        assert (begins.job_id, begins.checkpoint) == (job["resumed_job_id"], NAME)

        wrong, both = await asyncio.gather(
            tether("jobs", "resume", begins.job_id, "--checkpoint", "x", "--epochs", "3"),
            tether("jobs", "resume", "last", "--any", "--runner", "box"),
        )
        assert (
            f"there is no checkpoint 'x' in this workspace; see `tether jobs checkpoints {begins.job_id}`"
            in wrong.error
        )
        assert "give one of them" in both.error

        # The box leaves the platform, which has the file.
        stored = ArtifactStored(job_id=begins.job_id, attempt_id=begins.attempt_id, kind="checkpoint", name=NAME)
        async with appender_on(database.metrics) as appender:
            stream = StreamAppend("artifact", "af_1", 0, [stored])
            told = await appender.append(Append(control.workspace_id, [stream], "service:metrics"))
        await control.jobs.ListJobs(ListJobsRequest(min_position=told.position), metadata=control.auth)
        await control.runners.UninstallRunner(UninstallRunnerRequest(runner_id="box"), metadata=control.auth)
        other = Box(control.channel, (await control.create_runner("other")).secret_key)
        await other.connect(hello(installation_id="i-2"))
        elsewhere = await tether("jobs", "resume", begins.job_id, "--epochs", "3", "--detach", "--json")
        assert elsewhere.code == 0, elsewhere.err
        assert elsewhere.json["runner_name"] == "other"
