"""A real Envoy in front of services of the test."""

import http.client
import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deploy.local.gateway import EmbeddedGateway
from deploy.local.ports import free_port
from deploy.local.supervised import Supervised
from services.gateway.files import BUILT
from services.gateway.plan import UPSTREAMS, Limits
from tests.support.loop_thread import LoopThread


class Gateway:
    """Where it listens, and what it has logged."""

    def __init__(self, address: str, supervised: Supervised) -> None:
        self.address, self.supervised = address, supervised
        self.host, port = address.rsplit(":", 1)
        self.port = int(port)

    def get(self, path: str, method: str = "GET", **headers: str) -> "Reply":
        connection = http.client.HTTPConnection(self.host, self.port, timeout=10)
        try:
            connection.request(method, path, headers=headers)
            response = connection.getresponse()
            return Reply(response.status, {n.lower(): v for n, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    def raw(self, request: bytes) -> bytes:
        """The first that the gateway says to these bytes."""
        with socket.create_connection((self.host, self.port), timeout=10) as connection:
            connection.sendall(request)
            return connection.recv(65536)

    def log(self) -> list[dict[str, Any]]:
        lines = self.supervised.log.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]


class Reply:
    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body


@contextmanager
def gateway_before(
    loop: LoopThread, folder: Path, page: Path = BUILT, limits: Limits | None = None, **upstreams: str
) -> Iterator[Gateway]:
    """A gateway until the end of the block. Services that are not named are not there."""
    # Nothing listens on port 1.
    addresses = {**dict.fromkeys(UPSTREAMS, "127.0.0.1:1"), **upstreams}
    embedded = EmbeddedGateway(folder / "gateway", free_port(), addresses, page, limits)
    supervised = Supervised(loop.call(embedded.prepare()), folder / "gateway.log")
    loop.call(supervised.start())
    try:
        yield Gateway(embedded.address, supervised)
    finally:
        loop.call(supervised.stop())
