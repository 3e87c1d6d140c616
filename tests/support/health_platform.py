"""A supervisor with health servers for services, as its own process: `python -m tests.support.health_platform DIR`."""

import asyncio
import sys
from pathlib import Path

from deploy.local.errors import LocalError
from deploy.local.home import Home
from deploy.local.platform import Platform
from deploy.local.up import run_until_stopped


def health_server_argv(service: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "tests.support.health_server", service)


async def ready() -> None:
    print("ready", flush=True)


def main(folder: str) -> None:
    platform = Platform(Home(Path(folder)), lambda line: print(line, flush=True), argv=health_server_argv)
    try:
        asyncio.run(run_until_stopped(platform, ready))
    except LocalError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main(sys.argv[1])
