"""A trainer that notes when it was released, and ends: `instant_trainer.py --control-fd N`."""

import json
import os
import sys
import time
from pathlib import Path

control = int(sys.argv[sys.argv.index("--control-fd") + 1])
os.write(control, b'{"event": "ready"}\n')
line = sys.stdin.readline()
# CLOCK_MONOTONIC is one clock for all processes of a machine.
released_ns = time.monotonic_ns()
if line:
    directory = Path(json.loads(line)["directory"])
    (directory / "released.tmp").write_text(str(released_ns))
    (directory / "released.tmp").rename(directory / "released")
    for event in ({"event": "started", "weights": "random"}, {"event": "ended", "outcome": "FINISHED", "steps": 0}):
        os.write(control, json.dumps(event).encode() + b"\n")
