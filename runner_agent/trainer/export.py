"""Turns a checkpoint into a file for use elsewhere: `python -m runner_agent.trainer.export`, started by the agent."""

import argparse
import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any

# Read by the libraries when they are imported. Nothing is ever fetched from a model hub.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

from runner_agent.processes import die_with_parent
from runner_agent.trainer import devices, export_checkpoint
from runner_agent.trainer.export_checkpoint import ExportFailure, one_line

# A training on the same box goes first.
NICENESS = 10


def export(format_: str, path: Path, sha256: str, job_id: str, output: Path) -> dict[str, Any]:
    """What the agent is told of the file. Raises ExportFailure, and OSError where the disk does not take it."""
    checkpoint = export_checkpoint.read(path, sha256)
    told: dict[str, Any] = {"step": checkpoint.step}
    if format_ == "onnx":
        from runner_agent.trainer import export_onnx  # loads much that weights alone do not need

        told["max_difference"] = export_onnx.to_onnx(checkpoint, job_id, output)
    else:
        export_checkpoint.to_safetensors(checkpoint, job_id, output)
    return told


def main() -> int:
    """Exit code 0 once the file is there; 1 where the report says why not."""
    parser = argparse.ArgumentParser(prog="runner_agent.trainer.export", description="Export a checkpoint.")
    parser.add_argument("--format", choices=("onnx", "safetensors"), required=True)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--sha256", default="", help="of the checkpoint; empty: not checked")
    parser.add_argument("--job-id", default="")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--report", type=Path, required=True, help="a JSON object: step, or `failed`, one sentence")
    options = parser.parse_args()
    die_with_parent(os.getppid())
    os.nice(NICENESS)
    devices.use_one_thread()
    try:
        told = export(options.format, options.checkpoint, options.sha256, options.job_id, options.output)
    except ExportFailure as error:
        told = {"failed": str(error)}
    except OSError as error:
        told = {"failed": f"the box cannot write the export: {error.strerror or error}"}
    except Exception as error:  # exporters raise nearly anything
        traceback.print_exc()
        told = {"failed": f"{options.checkpoint.name} cannot be exported as {options.format}: {one_line(error)}"}
    options.report.write_text(json.dumps(told))
    return 1 if "failed" in told else 0


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    # As in the trainer: taking torch down in order changes nothing.
    os._exit(code)
