"""Settings of a service: environment `TETHER_…` and a TOML file; a wrong value stops the start with one sentence."""

import os
import sys
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    CliSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

LOOPBACK = ("127.0.0.1", "localhost", "[::1]", "::1")


# The TOML file of the settings that are being loaded.
_file: ContextVar[Path | None] = ContextVar("file", default=None)


class StartRefused(Exception):
    """The process cannot start; the message is the one sentence that its operator sees."""


class ListenSettings(BaseSettings):
    """What every server needs. Order of precedence: command line, environment, TOML file, default."""

    model_config = SettingsConfigDict(
        env_prefix="TETHER_", extra="ignore", cli_kebab_case=True, hide_input_in_errors=True
    )

    listen: str = Field("127.0.0.1:0", description="host:port to serve on; port 0 takes a free one")
    insecure: bool = Field(False, description="allow an address that is not loopback although there is no TLS")

    @field_validator("listen")
    @classmethod
    def _address(cls, value: str) -> str:
        return host_and_port(value)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        file = _file.get()
        toml = (TomlConfigSettingsSource(settings_cls, file),) if file else ()
        return (init_settings, env_settings, *toml)


class ServiceSettings(ListenSettings):
    """What every service needs besides."""

    postgres_url: str = Field(description="PostgreSQL, as the service's own role: postgresql://role:password@host/db")
    nats_url: str = Field(
        "", description="NATS, nats://user:password@host:port; empty: everything comes from PostgreSQL"
    )
    operator_token_sha256: str = Field("", description="SHA-256 of the operator's token, 64 hexadecimal digits")

    @field_validator("postgres_url")
    @classmethod
    def _postgres_url(cls, value: str) -> str:
        if not value.startswith(("postgresql://", "postgres://")):
            raise ValueError("it must begin with postgresql://")
        return value

    @field_validator("operator_token_sha256")
    @classmethod
    def _digest(cls, value: str) -> str:
        if value and (len(value) != 64 or any(c not in "0123456789abcdef" for c in value)):
            raise ValueError("it must be 64 hexadecimal digits in lower case")
        return value

    @property
    def operator_sha256(self) -> bytes | None:
        return bytes.fromhex(self.operator_token_sha256) or None


def host_and_port(value: str) -> str:
    """The address as it was given. Raises ValueError where it is none."""
    host, colon, port = value.rpartition(":")
    if not colon or not host or not port.isdigit() or int(port) > 65535:
        raise ValueError("it must be host:port with a port from 0 to 65535")
    return value


Settings = TypeVar("Settings", bound=ListenSettings)


def load(model: type[Settings], program: str) -> Settings:
    """Read the settings of this process; `--help` prints them all with their defaults.

    Raises StartRefused with one sentence that names the setting, what is wrong, and where it may be set.
    """
    arguments = sys.argv[1:]
    name = os.environ.get("TETHER_CONFIG", "")
    if "--config" in arguments:
        at = arguments.index("--config")
        if at + 1 == len(arguments):
            raise StartRefused("--config needs the path of a TOML file")
        name = arguments[at + 1]
        del arguments[at : at + 2]
    if name and not Path(name).is_file():
        raise StartRefused(f"there is no configuration file {name}; check --config and TETHER_CONFIG")
    token = _file.set(Path(name) if name else None)
    try:
        source: CliSettingsSource[Any] = CliSettingsSource(
            model,
            cli_parse_args=arguments,
            cli_prog_name=f"python -m services.{program}",
            cli_kebab_case=True,
            cli_implicit_flags=True,
        )
        settings = model(_cli_settings_source=source)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise StartRefused(
            f"setting {name}: {first['msg'].removeprefix('Value error, ')}; "
            f"set TETHER_{name.upper()}, --{name.replace('_', '-')} or `{name}` in the file of --config"
        ) from None
    except OSError as error:
        raise StartRefused(f"cannot read the configuration: {error}") from None
    except ValueError as error:
        raise StartRefused(f"{name} is not valid TOML: {error}") from None
    finally:
        _file.reset(token)
    host = settings.listen.rpartition(":")[0]
    if host not in LOOPBACK and not settings.insecure:
        raise StartRefused(
            f"{settings.listen} is not loopback and there is no TLS; listen on 127.0.0.1 or pass --insecure"
        )
    return settings
