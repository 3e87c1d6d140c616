"""Sends one webhook's request over HTTP."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol
from urllib.parse import urlsplit

import aiohttp

from services.eventlog.webhook_message import Message
from services.eventlog.webhook_target import CheckedResolver, check_literal

TIMEOUT_S = 10.0
_READ_BYTES = 64 << 10
_MAX_WHY = 200


class DeliveryFailed(Exception):
    """The receiver did not answer with a 2xx status in time; the message is one sentence for its owner."""


class Sender(Protocol):
    async def send(self, url: str, told: Message) -> None:
        """Returns when the receiver has taken it. Raises DeliveryFailed."""
        ...


class HttpSender:
    """Real requests: no redirect is followed, no proxy asked, no more than 64 KiB of an answer read."""

    def __init__(self, session: aiohttp.ClientSession, allow_private: bool) -> None:
        self._session, self._allow_private = session, allow_private

    async def send(self, url: str, told: Message) -> None:
        try:
            # A host that is an address is never looked up.
            check_literal(urlsplit(url).hostname or "", self._allow_private)
            async with asyncio.timeout(TIMEOUT_S):
                async with self._session.post(url, data=told.body, headers=told.headers, allow_redirects=False) as got:
                    if not 200 <= got.status < 300:
                        redirected = "; redirects are not followed" if 300 <= got.status < 400 else ""
                        raise DeliveryFailed(f"the receiver answered {got.status}{redirected}")
                    await got.content.read(_READ_BYTES)
        except TimeoutError:
            raise DeliveryFailed(f"the receiver did not answer within {TIMEOUT_S:g} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise DeliveryFailed(_why(error)) from None


@asynccontextmanager
async def http_sender(allow_private: bool) -> AsyncIterator[HttpSender]:
    connector = aiohttp.TCPConnector(
        # How many there are at once is bounded by who sends.
        resolver=CheckedResolver(allow_private),
        use_dns_cache=False,
        force_close=True,
        limit=0,
    )
    # The deadline is the sender's own; the reply's headers are bounded by the library.
    async with aiohttp.ClientSession(
        connector=connector, trust_env=False, auto_decompress=False, timeout=aiohttp.ClientTimeout(total=None)
    ) as session:
        yield HttpSender(session, allow_private)


def _why(error: Exception) -> str:
    """One sentence, without what the receiver said."""
    # A refused look-up is wrapped by the library.
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(cause, ConnectionRefusedError):
        return "nothing listens there (connection refused)"
    if isinstance(cause, socket.gaierror):
        return f"the name of the host cannot be looked up ({cause.strerror})"
    return (str(cause) or type(cause).__name__)[:_MAX_WHY]
