"""`make bench`: measures, prints each figure as it comes, and writes build/bench.json (name → number)."""

import argparse
import json
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from rich.console import Console

from tests.bench import append, dispatch, export, first_step, fleet, ledger, metrics, page
from tests.bench.goals import GOALS

MEASUREMENTS: dict[str, Callable[[Callable[[str, float], None], Path], None]] = {
    "append": append.run,
    "dispatch": dispatch.run,
    "export": export.run,
    "first_step": first_step.run,
    "fleet": fleet.run,
    "ledger": ledger.run,
    "metrics": metrics.run,
    "page": page.run,
}
OUTPUT = Path("build/bench.json")


def main() -> None:
    """Run the measurements named on the command line, or all; figures of others stay in the file."""
    console = Console(highlight=False)
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=", ".join(MEASUREMENTS))
    parser.add_argument("--sessions", type=int, default=fleet.SESSIONS, help="size of the fleet (default: %(default)s)")
    asked = parser.parse_args()
    if unknown := set(asked.names) - MEASUREMENTS.keys():
        parser.error(f"there is no measurement {', '.join(sorted(unknown))}; choose from {', '.join(MEASUREMENTS)}")
    measurements = MEASUREMENTS | {"fleet": partial(fleet.run, sessions=asked.sessions)}
    figures: dict[str, float] = json.loads(OUTPUT.read_text()) if OUTPUT.exists() else {}

    def report(name: str, figure: float) -> None:
        figures[name] = round(figure, 3)
        goal = GOALS.get(name)
        console.print(f"{name:36} {figure:14,.2f}" + (f"   goal: {goal[0]} {goal[1]:,}" if goal else ""))

    for name in asked.names or measurements:
        with tempfile.TemporaryDirectory(prefix="tether-bench-") as folder:
            # PostgreSQL may run under another account, which must be able to pass.
            Path(folder).chmod(0o755)
            measurements[name](report, Path(folder))
    OUTPUT.parent.mkdir(exist_ok=True)
    OUTPUT.write_text(json.dumps(figures, indent=2, sort_keys=True) + "\n")
    console.print(f"written to {OUTPUT}")


if __name__ == "__main__":
    main()
