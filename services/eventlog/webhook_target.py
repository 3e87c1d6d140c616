"""Where webhooks may go: an address is checked after every look-up of its name, so that no name leads elsewhere."""

import asyncio
import ipaddress
import socket
from urllib.parse import urlsplit

from aiohttp.abc import AbstractResolver, ResolveResult

from services.rpc.errors import InvalidField

_MAX_URL = 2000
# What translates to IPv4 hides an address that is to be looked at.
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")

_ALLOW = "an operator may allow it with TETHER_WEBHOOK_ALLOW_PRIVATE=true"


class TargetRefused(OSError):
    """Webhooks do not go to the platform's own network unless its operator says so; to some addresses never."""

    def __init__(self, host: str, address: str, allow_private: bool) -> None:
        rule = "no webhook may go there" if allow_private or _never(address) else f"it is not public; {_ALLOW}"
        super().__init__(f"{host} is {address}: {rule}" if host != address else f"{address}: {rule}")


def check_address(host: str, address: str, allow_private: bool) -> None:
    """Raises TargetRefused for an address that is link-local (a cloud's metadata), multicast or unusable, and unless
    `allow_private` for every one that is not public."""
    if _never(address) or not (allow_private or _real(address).is_global):
        raise TargetRefused(host, address, allow_private)


def check_literal(host: str, allow_private: bool) -> None:
    """The same for a host that is an address; a name is passed over, because it is looked up each time.

    Raises TargetRefused.
    """
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return
    check_address(host, host, allow_private)


def checked_url(url: str, allow_private: bool) -> str:
    """Raises InvalidField. A name is not looked up here: what it leads to may change, and is checked each time."""
    if not url or len(url) > _MAX_URL or not url.isprintable() or " " in url:
        raise InvalidField("url", url, f"it is an address of at most {_MAX_URL} characters: https://host/path")
    try:
        parts = urlsplit(url)
        host, _port = parts.hostname, parts.port
    except ValueError as error:
        raise InvalidField("url", url, f"it is no address ({error}); write https://host/path") from None
    if parts.scheme not in ("http", "https") or not host:
        raise InvalidField("url", url, "it must begin with https:// or http://, followed by a host")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise InvalidField(
            "url", parts.hostname, "it carries no password and no fragment; a receiver checks signatures"
        )
    try:
        check_literal(host, allow_private)
    except TargetRefused as refused:
        raise InvalidField("url", url, str(refused)) from None
    return url


class CheckedResolver(AbstractResolver):
    """Looks names up and gives no address that webhooks may not go to."""

    def __init__(self, allow_private: bool) -> None:
        self._allow_private = allow_private

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Raises OSError where there is none, TargetRefused where one of them is refused."""
        found = await asyncio.get_running_loop().getaddrinfo(
            host, port, family=family, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
        )
        results = []
        for known, _type, protocol, _name, address in found:
            check_address(host, str(address[0]), self._allow_private)
            results.append(
                ResolveResult(
                    hostname=host,
                    host=str(address[0]),
                    port=port,
                    family=known,
                    proto=protocol,
                    flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
                )
            )
        return results

    async def close(self) -> None:
        """Nothing is held."""


def _real(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The address that packets go to in the end."""
    # A zone (fe80::1%eth0) names a link, not another address.
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return found.ipv4_mapped
        if found.sixtofour is not None:
            return found.sixtofour
        if found in _NAT64:
            return ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
    return found


def _never(address: str) -> bool:
    found = _real(address)
    return (
        found.is_link_local
        or found.is_multicast
        or found.is_unspecified
        or (found.is_reserved and not found.is_loopback)
    )
