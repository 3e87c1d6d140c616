"""The peers: MLflow and Trackio, each as it is out of the box, in an environment of their own (`make bench` makes it).

Their packages do not fit ours, so that they are driven by scripts that import nothing of ours.
"""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

PYTHON = Path("build/peers/bin/python")
_SCRIPTS = {"MLflow": "peer_mlflow.py", "Trackio": "peer_trackio.py"}
_TIMEOUT_S = 300


def measure_peers(report: Callable[[str, float], None], folder: Path) -> None:
    """mlflow_… and trackio_…: what `metrics_points_per_s` and `metrics_query_ms` have beside them. A peer that is not
    installed, or fails, is said to be missing."""
    for name, script in _SCRIPTS.items():
        if not PYTHON.exists():
            print(f"{name}: not measured, because {PYTHON} is not there; `make bench` installs it")
            continue
        below = folder / name
        below.mkdir()
        # Neither may reach out, nor leave anything behind.
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(below),
            "TMPDIR": str(below),
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "DO_NOT_TRACK": "true",
            "TRACKIO_DIR": str(below / "trackio"),
            "HF_HUB_OFFLINE": "1",
        }
        path = Path(__file__).with_name(script)
        try:
            ended = subprocess.run(
                [PYTHON.absolute(), path],
                cwd=below,
                env=environment,
                capture_output=True,
                text=True,
                timeout=_TIMEOUT_S,
            )
        except subprocess.TimeoutExpired:
            print(f"{name}: not measured, because it took longer than {_TIMEOUT_S} s")
            continue
        if ended.returncode:
            print(f"{name}: not measured, because it failed: {(ended.stderr.strip().splitlines() or [''])[-1]}")
            continue
        for figure, value in json.loads(ended.stdout.strip().splitlines()[-1]).items():
            report(figure, value)
