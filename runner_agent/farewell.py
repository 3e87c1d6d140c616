"""Tells the platform that a runner is uninstalled, with the runner's own key."""

import grpc

from protos.scheduler.v1 import runner_pb2, runner_pb2_grpc
from runner_agent.config import StateFolder, parse_server
from runner_agent.link import CHANNEL_OPTIONS, credentials_of

_TIMEOUT_S = 5.0


def tell(folder: StateFolder) -> str:
    """Uninstall the runner on the platform. Returns why that did not succeed; empty where it did."""
    server = parse_server(folder.load().server)
    target, options = server.target, CHANNEL_OPTIONS
    channel = (
        grpc.secure_channel(target, grpc.ssl_channel_credentials(), options=options)
        if server.tls
        else grpc.insecure_channel(target, options=options)
    )
    with channel:
        request = runner_pb2.UninstallRunnerRequest(reason="uninstalled on its box")
        try:
            runner_pb2_grpc.RunnerServiceStub(channel).UninstallRunner(
                request, metadata=credentials_of(folder.read_key()), timeout=_TIMEOUT_S
            )
        except grpc.RpcError as error:
            return str(error.details())
    return ""
