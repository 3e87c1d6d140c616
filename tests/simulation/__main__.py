"""`python -m tests.simulation SEED`: run one schedule and tell its story."""

import sys

from tests.simulation.laws import LawBroken
from tests.simulation.schedule import Schedule


def main() -> int:
    if len(sys.argv) != 2 or not sys.argv[1].isdigit():
        print("usage: python -m tests.simulation SEED", file=sys.stderr)
        return 2
    schedule = Schedule(int(sys.argv[1]))
    try:
        schedule.run()
    except LawBroken as broken:
        print("\n".join(schedule.world.story(100_000)))
        print(f"law broken: {broken}")
        return 1
    print("\n".join(schedule.world.story(100_000)))
    print("every law held")
    return 0


if __name__ == "__main__":
    sys.exit(main())
