"""Whether torch can train on GPUs: `python -m runner_agent.trainer.gpu_check UUID…`, a process of its own.

Of its own, because touching CUDA settles which GPUs a process sees, and takes memory of each until it ends.
Prints a JSON object, `problem`: one sentence, or empty where all is well.
"""

import json
import os
import sys

from runner_agent.trainer import devices


def main() -> None:
    """Exit code 0 once it is told, whatever it is."""
    gpu_uuids = sys.argv[1:]
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(gpu_uuids)
    print(json.dumps({"problem": devices.problem(len(gpu_uuids)) or ""}), flush=True)
    # Taking torch down in order takes a second and changes nothing.
    os._exit(0)


if __name__ == "__main__":
    main()
