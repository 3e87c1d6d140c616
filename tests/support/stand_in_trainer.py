"""Speaks the trainer's side of the keeper's pipes, without torch: `stand_in_trainer.py [options] --control-fd N`."""

import argparse
import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path


def save(directory: Path, step: int, size: int) -> dict[str, object]:
    """A file as a checkpoint would be, with a content that differs everywhere."""
    path = directory / "checkpoints" / f"step-{step:08d}.safetensors"
    content = hashlib.shake_256(path.name.encode()).digest(size)
    path.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    about = {"name": path.name, "path": str(path), "step": str(step), "bytes": str(size), "sha256": digest}
    return {**about, "best": True, "removed": []}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--control-fd", type=int, required=True)
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--interval-s", type=float, default=0.02)
    parser.add_argument("--ignore-term", action="store_true")
    parser.add_argument("--with-child", action="store_true")
    parser.add_argument("--die-at-step", type=int, default=0)
    parser.add_argument("--hang-at-step", type=int, default=0)
    parser.add_argument("--ready-after-file", type=Path)
    parser.add_argument("--checkpoint-at-step", type=int, default=0)
    parser.add_argument("--checkpoint-bytes", type=int, default=1000)
    options = parser.parse_args()
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: None if options.ignore_term else stopping.set())

    def say(**event: object) -> None:
        os.write(options.control_fd, json.dumps(event).encode() + b"\n")

    while options.ready_after_file is not None and not options.ready_after_file.exists():
        time.sleep(0.01)
    say(event="ready")
    line = sys.stdin.readline()
    if not line:
        return
    release = json.loads(line)
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(3)), daemon=True).start()
    directory = Path(release["directory"])
    child = subprocess.Popen(["sleep", "1000"]) if options.with_child else None
    (directory / "pids.json").write_text(json.dumps([os.getpid(), child.pid if child else 0]))
    say(event="started", weights="random")
    print("hello from the trainer", flush=True)
    steps = 0
    with (directory / "spool" / "trainer.jsonl").open("ab", buffering=0) as spool:
        while steps < options.steps and not stopping.wait(options.interval_s):
            steps += 1
            record = {"at_ms": steps, "points": {"step": steps, "values": {"train/loss": 1 / steps}}}
            # As in a real one, a full disk costs the record and not the training.
            with contextlib.suppress(OSError):
                spool.write(json.dumps(record).encode() + b"\n")
            say(event="progress", step=steps, epoch=0)
            if steps == options.checkpoint_at_step:
                say(event="checkpoint", checkpoint=save(directory, steps, options.checkpoint_bytes))
            if steps == options.hang_at_step:
                stopping.wait()
            if steps == options.die_at_step:
                print("CUDA error: unspecified launch failure", file=sys.stderr, flush=True)
                os._exit(7)
    checkpoint = {
        "name": "last.pt",
        "path": str(directory / "checkpoints" / "last.pt"),
        "step": str(steps),
        "bytes": "9",
    }
    say(event="checkpoint", checkpoint=checkpoint)
    outcome = "KILLED" if stopping.is_set() else "FINISHED"
    say(event="ended", outcome=outcome, reason="", message="", steps=steps, epochs=0, metrics={"accuracy": 0.5})
    os._exit(0)


if __name__ == "__main__":
    main()
