"""Speaks the trainer's side of the keeper's pipes, and waits where the test wants it to wait.

`TETHER_TEST_GATES` names a folder. While the file `ready`, `start`, `run` or `end` lies there, the trainer does not go
past that point; `run` has it train for as long. What it did it notes there as well, by the box's CLOCK_BOOTTIME, in a
file of the attempt: the test's own observation of when which process trained.
"""

import json
import os
import signal
import sys
import threading
from pathlib import Path

from runner_agent import clock
from runner_agent.losses import Loss
from runner_agent.trainer.spool import Spool

STEP_INTERVAL_S = 0.05
LOOK_INTERVAL_S = 0.01
FEWEST_STEPS = 10

_gates = Path(os.environ.get("TETHER_TEST_GATES", "/nonexistent"))
_stopping = threading.Event()


def main() -> None:
    control = int(sys.orig_argv[sys.orig_argv.index("--control-fd") + 1])
    signal.signal(signal.SIGTERM, lambda *_: _stopping.set())
    _wait_at("ready")
    _say(control, event="ready")
    line = sys.stdin.readline()
    if line:
        threading.Thread(target=_die_with_the_keeper, daemon=True).start()
        released = json.loads(line)
        _train(control, released["attempt_id"], Path(released["directory"]))


def _train(control: int, attempt_id: str, directory: Path) -> None:
    def note(what: str) -> None:
        # Not on the box's own disk, which a test may have filled.
        line = {"what": what, "pid": os.getpid(), "boottime_ns": clock.boottime_ns()}
        with (_gates / f"{attempt_id}.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")

    def lost(loss: Loss) -> None:
        _say(control, event="dropped", **loss.as_json())

    note("released")
    _wait_at("start")
    steps = 0
    if not _stopping.is_set():
        note("started")
        _say(control, event="started", weights="random")
    spool = Spool(directory / "spool" / "trainer.jsonl", clock.wall_ms, lost)
    while not _stopping.is_set() and (steps < FEWEST_STEPS or (_gates / "run").exists()):
        steps += 1
        spool.points([(clock.wall_ms(), steps, {"train/loss": 1 / steps})])
        print(f"step {steps}", flush=True)
        _say(control, event="progress", step=steps, epoch=0)
        note("step")
        _stopping.wait(STEP_INTERVAL_S)
    if _stopping.is_set():
        note("stopping")
    _wait_at("end", even_when_stopping=True)
    checkpoint = {"name": "last.pt", "path": str(directory / "checkpoints" / "last.pt"), "step": str(steps)}
    _say(control, event="checkpoint", checkpoint={**checkpoint, "bytes": "9"})
    spool.finish()
    outcome = "KILLED" if _stopping.is_set() else "FINISHED"
    note("ended")
    _say(control, event="ended", outcome=outcome, reason="", message="", steps=steps, epochs=0, metrics={})
    os._exit(0)


def _wait_at(gate: str, *, even_when_stopping: bool = False) -> None:
    pause = threading.Event()
    while (_gates / gate).exists() and (even_when_stopping or not _stopping.is_set()):
        pause.wait(LOOK_INTERVAL_S)


def _say(control: int, **event: object) -> None:
    os.write(control, json.dumps(event).encode() + b"\n")


def _die_with_the_keeper() -> None:
    sys.stdin.read()
    os._exit(3)
