"""What a gateway is told; everything else about it follows."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from services.gateway.files import File

UPSTREAMS = ("scheduler", "quota", "metrics", "eventlog")

MIB = 1 << 20

_HTTP_PORT = 80

_NAME = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?")


@dataclass(frozen=True)
class Limits:
    """Bounds of what clients may take. Every one holds for the gateway as a whole unless it says otherwise."""

    # Above the number of boxes, with room for browsers and command lines.
    connections: int = 20_000
    # Of one HTTP/2 connection. A box needs two.
    streams_per_connection: int = 1_024
    # Of all connections, to one service.
    streams_per_service: int = 100_000
    request_header_kib: int = 32
    request_headers: int = 100
    # From the first byte of a request to the last of its headers.
    request_header_timeout_s: float = 10.0
    # A connection without any request.
    idle_connection_s: float = 300.0
    # An answer that its reader has stopped to take; not those of gRPC.
    idle_answer_s: float = 60.0
    # How often both ends of an HTTP/2 connection are asked whether they are still there.
    ping_interval_s: float = 20.0
    ping_timeout_s: float = 10.0
    connect_timeout_s: float = 2.0
    # Of one stream and direction, before its sender has to wait for its reader.
    stream_window_bytes: int = 1 * MIB
    # Of all streams of one client's connection together.
    connection_window_bytes: int = 16 * MIB
    # Near this much memory the streams that hold most of it are ended, then no new request is taken.
    heap_bytes: int = 2_048 * MIB


@dataclass(frozen=True)
class Plan:
    """One gateway. Addresses are host:port."""

    listen: str
    # An address for each of UPSTREAMS.
    upstreams: Mapping[str, str]
    # Files of the built page; none: it has not been built.
    page: tuple[File, ...]
    # The names and ports by which people reach it, as a Host header says them; any other is refused.
    hosts: Sequence[str]
    limits: Limits = field(default_factory=Limits)


def split(address: str) -> tuple[str, int]:
    """Host, without the brackets of IPv6, and port."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def names_of(listen: str, further: str = "") -> tuple[str, ...]:
    """What a gateway that listens here is called: by people on the same machine, and by the names given, with commas;
    in lower case, as its routes compare them.

    Raises ValueError where one of those is none.
    """
    host, port = split(listen)
    names = (f"[{host}]" if ":" in host else host, "localhost", "127.0.0.1", "[::1]")
    own = [f"{name.lower()}:{port}" for name in names]
    if port == _HTTP_PORT:
        # Which browsers leave out.
        own += [name.lower() for name in names]
    given = [name.strip().lower() for name in further.split(",") if name.strip()]
    for name in given:
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no host or host:port, such as gpu.example.com or 10.0.0.5:27700")
    return tuple(dict.fromkeys((*own, *given)))
