"""The platform that the tests of the page share: a whole one, with a window short enough to be waited for."""

from collections.abc import Iterator

import pytest

from tests.support.faults import LONG_LEASE_MS, platform_with_window
from tests.support.loop_thread import LoopThread
from tests.support.platform import SharedPlatform

# A box is called cut off 15 s after its last word: what is left is long enough to come back on a busy machine.
WINDOW_MS = 30_000


@pytest.fixture(scope="session")
def page_platform(shared_loop: LoopThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedPlatform]:
    """One for all tests of the page; who disturbs it leaves it healthy."""
    folder = tmp_path_factory.mktemp("page") / "platform"
    with platform_with_window(shared_loop, folder, WINDOW_MS, lease_ms=LONG_LEASE_MS) as platform:
        yield platform
