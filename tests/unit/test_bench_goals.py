"""What `make bench` is to reach is told to people too."""

import re
from pathlib import Path

from tests.bench.goals import GOALS

PAGE = Path(__file__).parent.parent.parent / "docs" / "measurements.md"


def test_every_figure_with_a_goal_is_explained_with_that_goal() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]*?) \|", PAGE.read_text(), re.MULTILINE))
    told = {name: rows.get(name) for name in GOALS}
    assert told == {name: f"{bound} {limit:,}" for name, (bound, limit) in GOALS.items()}
