"""What `make test` needs to run tests in several processes at once; a plain `pytest` has none of it.

Each file runs in one process from its first test to its last, and all of tests/e2e in one: a whole platform and a box
take enough of a machine, and what those tests share is started once.
"""

import os

import pytest
from xdist.scheduler import LoadFileScheduling

from deploy.local import ports

# The end-to-end tests mostly wait: they begin first, so that the others fill the time. Small files end it evenly.
_ORDER = ("tests/e2e/", "tests/component/", "tests/contract/", "tests/unit/")


class _ByFile(LoadFileScheduling):  # type: ignore[misc] # xdist has no types
    def _split_scope(self, nodeid: str) -> str:
        return _ORDER[0] if nodeid.startswith(_ORDER[0]) else str(super()._split_scope(nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LoadFileScheduling:
    # In the order of collection, not by number of tests: the slowest files have few.
    config.option.loadscopereorder = False
    return _ByFile(config, log)


def pytest_configure(config: pytest.Config) -> None:
    """Each process looks for free ports in a range of its own: what one has found, another does not take."""
    if not hasattr(config, "workerinput"):
        return
    number, count = int(os.environ["PYTEST_XDIST_WORKER"][2:]), int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    share = (ports.LAST - ports.FIRST) // count
    ports.FIRST += share * (number % count)
    ports.LAST = ports.FIRST + share


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):
        items.sort(key=_place)


def _place(item: pytest.Item) -> int:
    return next((place for place, folder in enumerate(_ORDER) if item.nodeid.startswith(folder)), len(_ORDER))
