"""Envoy from a wheel as the platform's front door on this machine: the page, and every service on one port."""

import importlib.util
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from deploy.local.errors import LocalError
from deploy.local.files import write_private
from deploy.local.health import probe_gateway
from deploy.local.process import Program
from services.gateway.envoy import configuration
from services.gateway.files import BUILT, PageRefused, read_page
from services.gateway.plan import Limits, Plan, names_of

# Two threads carry more than one machine's services answer.
_THREADS = 2


class EmbeddedGateway:
    """One Envoy below `folder`, which belongs to it alone and is made when it is missing (0700)."""

    def __init__(
        self,
        folder: Path,
        port: int,
        upstreams: Mapping[str, str],
        page: Path = BUILT,
        limits: Limits | None = None,
        hosts: str = "",
    ) -> None:
        self.address = f"127.0.0.1:{port}"
        self._folder, self._page, self._hosts = folder.absolute(), page, hosts
        self._plan = Plan(self.address, upstreams, (), (), limits or Limits())

    async def prepare(self) -> Program:
        """The program to run. Raises LocalError where there is no Envoy, a name is none, the page is not what its
        build writes, or files cannot be read or written.

        Each start reads the page anew; while Envoy runs, it answers with the page as it was then.
        """
        envoy = envoy_of_the_wheel()
        if not os.access(envoy, os.X_OK):
            raise LocalError("Envoy's wheel is not installed; install it with: pip install 'tether[embedded]'")
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._folder.chmod(0o700)
            self._plan = replace(self._plan, hosts=names_of(self.address, self._hosts))
            self._write()
        except (ValueError, PageRefused) as error:
            raise LocalError(str(error)) from None
        except OSError as error:
            raise LocalError(f"the gateway's files in {self._folder} cannot be made ({error})") from None
        return Program(
            name="gateway",
            argv=(
                *(str(envoy), "--config-path", str(self._configuration), "--disable-hot-restart"),
                *("--concurrency", str(_THREADS), "--log-level", "warning", "--file-flush-interval-msec", "1000"),
            ),
            address=self.address,
            probe=partial(probe_gateway, self.address),
            cwd=self._folder,
            before_start=self._renew,
        )

    @property
    def _configuration(self) -> Path:
        return self._folder / "envoy.json"

    async def _renew(self) -> None:
        # In the middle of a build the page may be anything: better the one that was read before.
        with suppress(PageRefused, OSError):
            self._write()

    def _write(self) -> None:
        plan = replace(self._plan, page=read_page(self._page))
        write_private(self._configuration, json.dumps(configuration(plan), indent=2) + "\n")


def envoy_of_the_wheel() -> Path:
    """Where it would be; found without running anything of the wheel."""
    wheel = importlib.util.find_spec("envoy")
    places = (wheel.submodule_search_locations or []) if wheel is not None else []
    return Path(next(iter(places), ""), "_bin", "envoy")
