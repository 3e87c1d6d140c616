"""Puts `gated_trainer` in the place of `python -m runner_agent.trainer`, in every process that has this folder on
PYTHONPATH: the launcher, the agent and the keeper of a box are then the real ones, and no torch is loaded."""

import os
import sys

if "runner_agent.trainer" in sys.orig_argv:
    import gated_trainer

    gated_trainer.main()
    os._exit(0)
