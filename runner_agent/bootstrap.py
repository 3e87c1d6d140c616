"""Puts the agent together; the only place that knows all of its parts."""

import random
from functools import partial
from importlib.metadata import version

from runner_agent import clock, inputs, inventory
from runner_agent.artifact_calls import ArtifactCalls
from runner_agent.box_watch import BoxWatch, look_at_disk
from runner_agent.config import StateFolder, parse_server
from runner_agent.exporter import Exporter
from runner_agent.gpu_probe import GpuProbe
from runner_agent.keepers import Keepers
from runner_agent.link import Link
from runner_agent.runtime import Agent
from runner_agent.samples import Sampler
from runner_agent.session_messages import Identity, State
from runner_agent.shipper import Shipper
from runner_agent.spool_limits import limits
from runner_agent.torch_probe import TorchProbe
from runner_agent.uploader import Uploader


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
    found = inventory.taken_or_remembered(take_inventory, folder.inventory)
    boot_id = clock.boot_id()
    state = State(Identity(installation_id, version("tether"), boot_id), found)
    gpu_uuids = () if found.simulated else tuple(gpu.uuid for gpu in found.gpus)
    jitter = random.SystemRandom().random
    sockets = folder.make_keepers()
    shipper = Shipper(server, key, jitter)
    calls = ArtifactCalls(lambda: shipper.target, key)
    return Agent(
        folder=folder,
        state=state,
        jitter=jitter,
        make_link=partial(Link, server, key),
        make_keepers=partial(Keepers, sockets),
        shipper=shipper,
        uploader=Uploader(calls, jitter, enabled=config.upload),
        exporter=Exporter(calls, folder.attempts, folder.exports, jitter),
        fetch=partial(inputs.fetch, calls, jitter=jitter),
        sampler=Sampler(gpu_uuids),
        spool_limits=limits(folder.root, config.spool_attempt_bytes, config.spool_box_bytes),
        make_box_watch=partial(
            BoxWatch,
            folder.suspension,
            boot_id,
            partial(look_at_disk, folder.root),
            GpuProbe(gpu_uuids).look if gpu_uuids else None,
            ask_torch=TorchProbe(gpu_uuids, sockets).look if gpu_uuids else None,
        ),
        take_inventory=take_inventory,
        server=server.target,
    )
