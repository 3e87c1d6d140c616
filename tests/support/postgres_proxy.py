"""A way to PostgreSQL that is cut at a chosen statement: what a process that is killed there leaves behind."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

# Messages of a client after which the server acts: a simple query (also BEGIN and COMMIT), and the end of an extended
# one. A COPY ends with CopyDone.
_QUERY, _SYNC, _COPY_DONE = b"Q", b"S", b"c"


class CutConnection:
    """Counts the statements of the connections through it, and cuts all of them at one of these."""

    def __init__(self, url: str, cut_at: int, after: bool, of: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        self._host, self._port = parts.hostname, parts.port or 5432
        self._parts, self._cut_at, self._after, self._of = parts, cut_at, after, of.encode()
        self._writers: list[asyncio.StreamWriter] = []
        # Done at the statement, before anything is cut.
        self.strike: Callable[[], None] = lambda: None
        self.statements = 0
        self.cut = asyncio.Event()
        self.url = ""

    def listening(self, port: int) -> None:
        parts = self._parts
        self.url = f"postgresql://{parts.username}:{parts.password}@127.0.0.1:{port}{parts.path}?sslmode=disable"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.cut.is_set():
            writer.close()
            return
        server_reader, server_writer = await asyncio.open_connection(self._host, self._port)
        self._writers += [writer, server_writer]
        answering = asyncio.create_task(_pass_on(server_reader, writer))
        try:
            await self._requests(reader, server_writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            answering.cancel()
            for one in (writer, server_writer):
                one.close()

    async def _requests(self, reader: asyncio.StreamReader, server: asyncio.StreamWriter) -> None:
        # The first message has no type; it says the application's name.
        startup = await _body(reader)
        server.write(startup)
        counts = self._of in startup
        while not self.cut.is_set():
            kind = await reader.readexactly(1)
            message = kind + await _body(reader)
            acts = counts and kind in (_QUERY, _SYNC, _COPY_DONE)
            self.statements += acts
            striking = acts and self.statements == self._cut_at
            if not striking or self._after:
                server.write(message)
                await server.drain()
            if striking:
                self._strike()

    def _strike(self) -> None:
        """With `after` the server has the statement, and its answer reaches nobody."""
        self.strike()
        self.cut.set()
        for one in self._writers:
            one.close()


@asynccontextmanager
async def cut_connection(url: str, cut_at: int = 0, after: bool = False, of: str = "") -> AsyncIterator[CutConnection]:
    """A proxy whose `url` leads to PostgreSQL until statement number `cut_at` (zero: for ever); connect without TLS.

    `of`: only the statements of the connections with this application name count.
    """
    proxy = CutConnection(url, cut_at, after, of)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.listening(server.sockets[0].getsockname()[1])
    try:
        yield proxy
    finally:
        server.close()


async def _body(reader: asyncio.StreamReader) -> bytes:
    """Length, itself included, and content."""
    length = await reader.readexactly(4)
    return length + await reader.readexactly(int.from_bytes(length, "big") - 4)


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while chunk := await reader.read(65536):
            writer.write(chunk)
            await writer.drain()
    except OSError:
        return
