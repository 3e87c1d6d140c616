"""The agent's process, `python -m runner_agent.agent --state-dir DIR`; the launcher starts it again when it dies."""

import argparse
import asyncio
import contextlib
import json
import signal
import sys
from pathlib import Path

import structlog

from runner_agent import files, logs
from runner_agent.bootstrap import build_agent
from runner_agent.config import StateFolder
from runner_agent.errors import BoxError
from runner_agent.locks import Lock

log = structlog.get_logger()


def main() -> int:
    """Exit code 0 after SIGTERM; trainings go on. Another code for what a restart may mend."""
    parser = argparse.ArgumentParser(prog="runner_agent.agent", description="Hold the session of a runner.")
    parser.add_argument("--state-dir", type=Path, required=True)
    folder = StateFolder(parser.parse_args().state_dir)
    lock = Lock(folder.agent_lock)
    if not lock.acquire():
        print(f"another agent (pid {lock.holder()}) works in {folder.root}", file=sys.stderr)
        return 3
    logs.configure(folder.agent_log)
    try:
        asyncio.run(_run(folder))
    except BoxError as error:
        log.error("the agent cannot start", reason=str(error))
        status = {"connected": False, "error": str(error), "attempt": None}
        files.replace(folder.status, json.dumps(status).encode(), durable=False)
        return 1
    except Exception:
        log.exception("the agent failed")
        raise
    return 0


async def _run(folder: StateFolder) -> None:
    agent = build_agent(folder)
    running = asyncio.ensure_future(agent.run())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, running.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await running


if __name__ == "__main__":
    sys.exit(main())
