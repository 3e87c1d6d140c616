"""Puts the agent together; the only place that knows all of its parts."""

import random
from functools import partial
from importlib.metadata import version
from pathlib import Path

from runner_agent import inventory
from runner_agent.config import StateFolder, parse_server
from runner_agent.keepers import Keepers
from runner_agent.link import Link
from runner_agent.runtime import Agent
from runner_agent.samples import Sampler
from runner_agent.session_messages import Identity, State
from runner_agent.shipper import Shipper


def build_agent(folder: StateFolder) -> Agent:
    """The agent of an installed runner. Raises BoxError for a broken installation or a box without its GPUs."""
    config = folder.load()
    key = folder.read_key()
    installation_id = folder.read_installation_id()
    server = parse_server(config.server)
    take_inventory = partial(
        inventory.take,
        folder.root,
        gpu_uuids=config.gpu_uuids,
        simulate=config.simulate_gpus,
        installation_id=installation_id,
    )
    found = take_inventory()
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    state = State(Identity(installation_id, version("tether"), boot_id), found)
    jitter = random.SystemRandom().random
    sockets = folder.make_keepers()
    return Agent(
        folder=folder,
        state=state,
        jitter=jitter,
        make_link=partial(Link, server, key),
        make_keepers=partial(Keepers, sockets),
        shipper=Shipper(server, key, jitter),
        sampler=Sampler(() if found.simulated else tuple(gpu.uuid for gpu in found.gpus)),
        take_inventory=take_inventory,
        server=server.target,
    )
