"""The smallest gRPC-Web client over HTTP/1.1: what a browser does, by hand."""

import base64
import http.client
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from google.protobuf.message import Message

_TRAILERS = 0x80


@dataclass
class Answer:
    """Messages as bytes; `trailers` has them of the last frame, or of the header where nothing else came."""

    status: int
    headers: Mapping[str, str]
    messages: list[bytes] = field(default_factory=list)
    trailers: dict[str, str] = field(default_factory=dict)

    @property
    def grpc_status(self) -> int:
        return int(self.trailers["grpc-status"])

    def detail(self) -> bytes:
        """grpc-status-details-bin; browsers get it without padding too."""
        raw = self.trailers["grpc-status-details-bin"]
        return base64.b64decode(raw + "=" * (-len(raw) % 4))


class WebCall:
    """One call. `frames` yields messages as they come and ends after the trailers."""

    def __init__(
        self, address: str, method: str, request: Message, token: str = "", timeout_s: float = 20, **headers: str
    ) -> None:
        host, port = address.rsplit(":", 1)
        self._connection = http.client.HTTPConnection(host, int(port), timeout=timeout_s)
        payload = request.SerializeToString()
        fields = {"content-type": "application/grpc-web+proto", "x-grpc-web": "1", **headers}
        if token:
            fields["authorization"] = f"Bearer {token}"
        self._connection.request("POST", method, struct.pack(">BI", 0, len(payload)) + payload, fields)
        self._response = self._connection.getresponse()
        self.answer = Answer(self._response.status, {n.lower(): v for n, v in self._response.getheaders()})
        self.answer.trailers = {n: v for n, v in self.answer.headers.items() if n.startswith("grpc-")}

    def frames(self) -> Iterator[bytes]:
        while len(head := self._response.read(5)) == 5:
            flags, length = struct.unpack(">BI", head)
            body = self._response.read(length)
            if flags & _TRAILERS:
                for line in body.decode().splitlines():
                    name, _, value = line.partition(":")
                    self.answer.trailers[name.strip().lower()] = value.strip()
            else:
                self.answer.messages.append(body)
                yield body
        self.close()

    def close(self) -> None:
        self._response.close()
        self._connection.close()


def call(address: str, method: str, request: Message, token: str = "", **headers: str) -> Answer:
    """A whole call: all of its messages and its end."""
    web = WebCall(address, method, request, token, **headers)
    list(web.frames())
    return web.answer
