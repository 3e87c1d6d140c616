"""The trainer: starts warm, waits for its keeper's release, trains once and exits.

`python -m runner_agent.trainer --control-fd N`, with a pipe from the keeper as standard input.
"""

import argparse
import json
import os
import signal
import sys
import warnings

# Read by the libraries when they are imported. Nothing is ever fetched from a model hub.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

from runner_agent.processes import die_with_parent
from runner_agent.trainer import attempt, devices, warm_up
from runner_agent.trainer.control import Control, Release, StopRequest, exit_with, wait_for_release

# Carries the release to the further processes that lightning starts for further GPUs: the same command again.
RELEASE_VARIABLE = "TETHER_RELEASE"


def main() -> None:
    """Exit code 0 once the end is told, or where there was nothing to do; 1 where the keeper is gone."""
    parser = argparse.ArgumentParser(prog="runner_agent.trainer", description="Trains what its keeper releases.")
    parser.add_argument("--control-fd", type=int, required=True, help="write end of the pipe to the keeper")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", module="PIL")
    devices.use_one_thread()
    if RELEASE_VARIABLE in os.environ:
        follow(os.environ[RELEASE_VARIABLE])
        return
    control = Control(arguments.control_fd)
    stop = StopRequest()
    warm_up.warm_up()
    control.say("ready")
    line = wait_for_release(sys.stdin.fileno(), stop)
    if line is None:
        return
    exit_with(sys.stdin.fileno())
    try:
        release = Release.parse(line)
    except (ValueError, KeyError, TypeError) as error:
        sys.exit(f"the keeper's release cannot be understood ({error!r}); the box's parts are of different versions")
    os.environ[RELEASE_VARIABLE] = json.dumps(json.loads(line))
    attempt.run(release, control, stop)


def follow(release: str) -> None:
    """Train as a further process of a release that the first one tells of."""
    # A stop is for the first process, which has the others end after the same step.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    die_with_parent(os.getppid())
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, sys.stdout.fileno())
    attempt.run(Release.parse(release), Control(silent), bool)


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    sys.stderr.flush()
    # Taking torch down in order would take a second that people are charged for, and changes nothing.
    os._exit(0)
