"""Which checkpoints a box sends, in which order, and what pruning leaves of them."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from runner_agent import disk, uploader
from runner_agent.artifact_calls import ArtifactCalls
from runner_agent.attempts import AttemptFolder
from runner_agent.config import StateFolder
from runner_agent.facts import Fact
from runner_agent.uploads import UploadRecord, wanted
from tests.support.attempt_on_disk import attempt, left
from tests.support.eventually import eventually


def checkpoint(number: int, name: str, *, best: bool = False, removed: tuple[str, ...] = (), **more: Any) -> Fact:
    about = {"name": name, "step": str(number), "bytes": "10", "sha256": "d" * 64, "best": best, "removed": removed}
    return Fact(number, {"fact": "checkpoint", "checkpoint": {**about, **more}})


def names(facts: list[Fact], settled: int = 100) -> list[str]:
    return [one.name for one in wanted(facts, settled)]


def test_the_newest_best_comes_first_and_then_the_newest() -> None:
    facts = [checkpoint(1, "a", best=True), checkpoint(2, "b", best=True), checkpoint(3, "c"), checkpoint(4, "d")]
    assert names(facts) == ["b", "d", "c", "a"]


def test_what_the_strategy_dropped_is_not_sent_and_what_the_platform_does_not_know_waits() -> None:
    facts = [checkpoint(1, "a"), checkpoint(2, "b"), checkpoint(3, "c", removed=("a",))]
    assert names(facts) == ["c", "b"]
    assert names(facts, settled=2) == ["b", "a"]
    assert names(facts, settled=0) == []


def test_what_cannot_be_sent_is_passed_over() -> None:
    facts = [
        checkpoint(1, "../x"),
        checkpoint(2, "a/b"),
        checkpoint(3, ".hidden"),
        checkpoint(4, "without", sha256=""),
        checkpoint(5, "odd", bytes="many"),
        Fact(6, {"fact": "checkpoint", "checkpoint": "none"}),
        checkpoint(7, "good"),
    ]
    assert names(facts) == ["good"]


def test_pruning_leaves_what_waits_for_its_upload_unless_it_is_asked_for(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path / "state")
    folder.attempts.mkdir(parents=True)
    one = attempt(folder, "a1")
    facts = [json.loads(line) for line in (one.path / "facts.jsonl").read_text().splitlines()]
    for fact in facts:
        if isinstance(fact.get("checkpoint"), dict):
            fact["checkpoint"].update({"sha256": "d" * 64, "bytes": "10", "step": "1"})
    (one.path / "facts.jsonl").write_text("".join(json.dumps(fact) + "\n" for fact in facts))
    record = UploadRecord(one.path)
    record.save()
    before = left(one)
    disk.prune(disk.prunable(folder, checkpoints=False))
    assert left(one) == before
    record.stored = dict.fromkeys(before, "af_1")
    record.save()
    disk.prune(disk.prunable(folder, checkpoints=False))
    assert left(one) == ["step-2", "step-3"]
    record.stored = {}
    record.save()
    items = disk.prunable(folder, checkpoints=True)
    assert items[0].precious == ("step-2", "step-3")
    disk.prune(items)
    assert left(one) == []


class Looks(ArtifactCalls):
    """Counts how often the uploader looks for something to send."""

    def __init__(self) -> None:
        super().__init__(lambda: None, "tk_key")
        self.count = 0

    @property
    def ready(self) -> bool:
        self.count += 1
        return True


async def test_the_facts_of_an_attempt_are_read_again_only_where_they_have_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are thousands of lines in a long training, and all that the agent does waits meanwhile."""
    monkeypatch.setattr(uploader, "LOOK_INTERVAL_S", 0)
    reads: list[str] = []
    read = AttemptFolder.facts

    def counting(folder: AttemptFolder, after: int = 0) -> tuple[Fact, ...]:
        reads.append(folder.attempt_id)
        return read(folder, after)

    folder = StateFolder(tmp_path / "state")
    one = attempt(folder, "a1", saved=0, told=False)
    monkeypatch.setattr(AttemptFolder, "facts", counting)
    looks = Looks()
    lanes = uploader.Uploader(looks, lambda: 0.0, enabled=True)
    lanes.hold(one)
    task = asyncio.create_task(lanes.run())
    try:
        await eventually(lambda: looks.count > 20, what="looks")
        assert reads == ["a1"]
        assert not (one.path / "uploaded").exists()
        one.save_settled(2)
        await eventually((one.path / "uploaded").exists, what="the end of its uploads")
        assert reads == ["a1", "a1"]
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
