"""Datasets at URLs: fetched to the box, once for all trainings, before anything is charged.

The fetching itself is a process of its own: a library that hangs on its network can then be ended, and none of its
threads is in a process that forks.
"""

import json
import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from runner_agent import dataset_cache
from runner_agent.trainer.datasets.places import PlaceError, Places

_LOOK_INTERVAL_S = 0.1
# A folder can be replaced between its fetching and its use, where the URL changes and somebody else fetches it.
_TRIES = 3


class LocationError(Exception):
    """A location that cannot be read. The text is a sentence."""


class Interrupted(Exception):
    """The fetching was asked to stop; what was fetched whole is kept."""


def locate(location: str, places: Places, stopped: Callable[[], bool], say: Callable[[str], None]) -> Path:
    """The folder on this box that holds the dataset of a location, which is fetched first if it is a URL.

    A fetched folder stays as it is until this process ends. `say` takes lines about the progress.
    Raises LocationError and Interrupted.
    """
    try:
        local = places.local(location)
    except PlaceError as error:
        raise LocationError(str(error)) from None
    if local is not None:
        return local
    for _ in range(_TRIES):
        folder = _fetch(location, places, stopped, say)
        if dataset_cache.hold(folder):
            return folder / "files"
    raise LocationError(f"{location} changes while it is fetched; try again when it has settled")


def _fetch(location: str, places: Places, stopped: Callable[[], bool], say: Callable[[str], None]) -> Path:
    options = ["--cache", str(places.cache), "--limit-bytes", str(places.cache_bytes), "--config", places.config]
    command = [sys.executable, "-P", "-m", "runner_agent.trainer.datasets.fetch", "--parent", str(os.getpid())]
    process = subprocess.Popen(
        [*command, *options, "--", location], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, bufsize=0
    )
    assert process.stdout is not None
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            received = b""
            while True:
                if stopped():
                    raise Interrupted
                if not selector.select(_LOOK_INTERVAL_S):
                    continue
                part = os.read(process.stdout.fileno(), 65536)
                received += part
                *lines, received = received.split(b"\n")
                for line in lines:
                    told = json.loads(line)
                    if "folder" in told:
                        return Path(told["folder"])
                    if "error" in told:
                        raise LocationError(told["error"])
                    say(told["progress"])
                if not part:
                    raise LocationError(f"{location} cannot be fetched: the fetching process ended; see the log")
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
