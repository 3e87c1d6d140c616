"""`tether workflows` and `tether train --workflow` against real servers."""

import asyncio
from pathlib import Path

from tests.support.cli import served
from tests.support.platform import DatabaseUrls

SAVE = ("workflows", "save", "small", "--dataset", "digits", "--architecture", "resnet-tiny")


async def test_a_workflow_is_saved_changed_copied_trained_and_deleted(database: DatabaseUrls, tmp_path: Path) -> None:
    async with served(database, tmp_path) as (control, tether):
        await control.dataset()
        saved = await tether(*SAVE, "--batch-size", "auto", "--augment", "none", "--augment", "blur=0.5")
        assert "Workflow small trains resnet-tiny on digits." in saved.out, saved.err
        assert "tether train --workflow small --runner RUNNER" in saved.out

        changes = ("--learning-rate", "0.01", "--augment", "hue=0.1", "--weights", "random", "--rename", "large")
        revised = await tether("workflows", "revise", "small", *changes)
        assert "Workflow large is at revision 2." in revised.out, revised.err
        tab = {"_TETHER_COMPLETE": "complete_bash", "COMP_CWORD": "3"}
        shown, copied, offered, refused = await asyncio.gather(
            tether("workflows", "show", "large"),
            tether("workflows", "duplicate", "large", "copy", "--json"),
            tether(COMP_WORDS="tether workflows show la", **tab),
            tether("workflows", "revise", "large", "--batch-size", "64", "--accumulate", "999"),
        )
        for words in ("batch size auto, learning rate 0.01", "hue 0.1, blur 0.5", "random weights", "digits", "2, "):
            assert words in shown.out
        assert "weight decay" not in shown.out, "what was not said is not shown"
        assert copied.json["workflow"]["workflow"]["revision"] == 1
        assert copied.json["workflow"]["workflow"]["augmentations"]["blur"] == 0.5
        assert offered.out.split() == ["large"]
        assert refused.error.startswith("--accumulate is '999', but a batch of 64 images cannot be computed")

        trained, listed, plain = await asyncio.gather(
            tether("train", "--workflow", "large", "--any", "--queue", "--detach", "--json"),
            tether("workflows", "list"),
            tether("workflows", "revise", "copy", "--defaults", "--json"),
        )
        spec = trained.json["spec"]
        assert (spec["workflow_name"], spec["workflow_revision"], trained.json["name"]) == ("large", 2, "large")
        assert spec["hyperparameters"]["learning_rate"] == 0.01
        assert [line.split()[0] for line in listed.out.splitlines()] == ["NAME", "copy", "large"]
        assert "augmentations" not in plain.json["workflow"]["workflow"], "they are the architecture's again"
        deleted, job = await asyncio.gather(
            tether("workflows", "delete", "large", "--yes"), tether("jobs", "show", "last")
        )
        assert "Workflow large is deleted." in deleted.out
        assert "large, revision 2" in job.out
