"""Which platform, and with whose token: from the command line, the environment, or client.toml of `tether up`."""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from services.cli.errors import CliError, NotConfigured

SERVICES = ("scheduler", "quota", "metrics", "eventlog")
GATEWAY = "gateway"

_NOT_CONFIGURED = "no platform is configured here; run `tether up`, or set TETHER_SERVER and TETHER_TOKEN"
_NO_TOKEN = "there is no token for {}; set TETHER_TOKEN, or name a file that holds it with --token-file"


@dataclass(frozen=True, slots=True)
class Address:
    """`target` is host:port."""

    target: str
    tls: bool

    @property
    def loopback(self) -> bool:
        """True if only this machine can reach it."""
        host = self.target.rsplit(":", 1)[0].strip("[]")
        return host in ("localhost", "::1") or host.startswith("127.")

    def __str__(self) -> str:
        return f"https://{self.target}" if self.tls else self.target


@dataclass(frozen=True, slots=True)
class Settings:
    """An address for each of SERVICES. `operator_token` is empty except on the platform's own machine.

    `page`: where the page is, without a slash at the end; empty where no gateway serves one.
    """

    endpoints: Mapping[str, Address]
    token: str
    operator_token: str = ""
    page: str = ""


def load(server: str | None, token_file: Path | None, insecure: bool, environment: Mapping[str, str]) -> Settings:
    """Raises NotConfigured where nothing says which platform or which token, CliError where something says it wrong."""
    token = _token(token_file, environment)
    if server:
        address = _address(server, insecure)
        if not token:
            raise NotConfigured(_NO_TOKEN.format(server))
        # All services behind one address: that is the gateway, which serves the page too.
        return Settings(dict.fromkeys(SERVICES, address), token, page=_page(address))
    file = home(environment) / "client.toml"
    found = _read(file)
    endpoints = found.get("endpoints", {})
    missing = [service for service in SERVICES if not isinstance(endpoints.get(service), str)]
    if missing:
        raise CliError(f"{file} has no address of {', '.join(missing)}; start `tether up` again, which writes it anew")
    token = token or str(found.get("token", ""))
    if not token:
        raise NotConfigured(_NO_TOKEN.format("the platform in " + str(file)))
    addresses = {service: _address(endpoints[service], insecure) for service in SERVICES}
    gateway = endpoints.get(GATEWAY)
    page = _page(_address(gateway, insecure)) if isinstance(gateway, str) else ""
    return Settings(addresses, token, str(found.get("operator_token", "")), page)


def home(environment: Mapping[str, str]) -> Path:
    """The data directory of the platform on this machine."""
    if chosen := environment.get("TETHER_HOME"):
        return Path(chosen).expanduser()
    import platformdirs

    return Path(platformdirs.user_data_dir("tether"))


def environment() -> Mapping[str, str]:
    return os.environ


def _token(file: Path | None, environment: Mapping[str, str]) -> str:
    source = "TETHER_TOKEN" if file is None else str(file)
    try:
        token = (environment.get("TETHER_TOKEN", "") if file is None else file.read_text()).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise CliError(f"cannot read the token from {file}: {getattr(error, 'strerror', error)}") from None
    if file is not None and not token:
        raise CliError(f"{file} is empty; write your token into it")
    if not token.isascii() or not token.isprintable() or " " in token:
        raise CliError(f"what {source} holds is no token; a token looks like tt_ and 43 letters and digits")
    return token


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text())
    except FileNotFoundError:
        raise NotConfigured(_NOT_CONFIGURED) from None
    except (OSError, UnicodeDecodeError) as error:
        raise CliError(f"cannot read {file}: {getattr(error, 'strerror', error)}") from None
    except tomllib.TOMLDecodeError as error:
        raise CliError(f"{file} is damaged ({error}); start `tether up` again, which writes it anew") from None


def _page(gateway: Address) -> str:
    """On this machine by the name that browsers take for a safe place."""
    port = gateway.target.rpartition(":")[2]
    target = f"localhost:{port}" if gateway.loopback else gateway.target
    return f"{'https' if gateway.tls else 'http'}://{target}"


def _address(text: str, insecure: bool) -> Address:
    parts = urlsplit(text if "://" in text else f"plain://{text}")
    try:
        port = parts.port
    except ValueError:
        port = None
    if parts.scheme not in ("plain", "http", "https") or not parts.hostname or not port or parts.path not in ("", "/"):
        raise CliError(f"the server {text!r} is not an address; write https://host:port, or host:port on this machine")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    address = Address(f"{host}:{port}", parts.scheme == "https")
    if not (address.tls or address.loopback or insecure):
        raise CliError(
            f"{text} is another machine and the connection would not be encrypted, so your token could be read on "
            f"the way; write https://{address.target}, or allow it with `tether --insecure …`"
        )
    return address
