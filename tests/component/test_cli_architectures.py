"""`tether train architectures` against a real server."""

from pathlib import Path

from tests.support.cli import served
from tests.support.platform import DatabaseUrls


async def test_architectures_are_listed_by_task_with_what_they_need(database: DatabaseUrls, tmp_path: Path) -> None:
    async with served(database, tmp_path) as (_, tether):
        everything = (await tether("train", "architectures")).out
        for heading in ("CLASSIFICATION", "DETECTION", "SEGMENTATION"):
            assert heading in everything
        assert "1 / 1 GiB c" in next(line for line in everything.splitlines() if line.startswith("resnet-tiny"))
        detectors = (await tether("train", "architectures", "--task", "detection", "--json")).json["architectures"]
        assert {one["task"] for one in detectors} == {"TASK_DETECTION"}
        assert "rt-detr-v2-nano" in [one["architecture_id"] for one in detectors]
        refused = await tether("train", "architectures", "--task", "poetry")
        assert refused.code != 0
        assert "choose one of: classification, detection, segmentation" in refused.error
