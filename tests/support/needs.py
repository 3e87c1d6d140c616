"""Markers for what a machine may lack. A test that needs it is skipped loudly, or fails where that was ruled out.

`pytest.mark.namespaces`, `mounts`, `memory_limits`, `page` and `browser`; `.ci/run` sets TETHER_TEST_EVERYTHING, and
CI systems set CI.
"""

import os
import subprocess
import tempfile
from collections.abc import Callable
from functools import cache

import pytest

from services.gateway.files import BUILT
from tests.support import chromium, namespaces
from tests.support.memory_limit import memory_limit

EVERYTHING = ("TETHER_TEST_EVERYTHING", "CI")
# Told in the report of the test, which comes from whichever process ran it.
_NOT_TESTED = "not tested"


@cache
def _no_namespaces() -> str:
    return namespaces.missing()


@cache
def _no_mounts() -> str:
    with tempfile.TemporaryDirectory() as folder:
        try:
            done = subprocess.run(
                ["mount", "-t", "tmpfs", "tmpfs", folder], capture_output=True, text=True, check=False
            )
        except FileNotFoundError:
            return "the program mount is missing; install util-linux"
        if done.returncode:
            return f"a file system of its own cannot be mounted ({done.stderr.strip()}); run the tests as root"
        subprocess.run(["umount", folder], check=True)
    return ""


@cache
def _no_memory_limits() -> str:
    with memory_limit(1 << 30) as around:
        if around is not None and subprocess.run([*around, "true"], capture_output=True, check=False).returncode == 0:
            return ""
    return "control groups cannot be made; run the tests as root where their hierarchy is writable"


def _no_page() -> str:
    return "" if (BUILT / "index.html").is_file() else "the page is not built; see why with: make page"


def _no_browser() -> str:
    if chromium.find() is None:
        return "there is no Chromium; install it (on Debian, as root: apt-get install chromium)"
    return _no_page()


_NEEDS: dict[str, Callable[[], str]] = {
    "namespaces": _no_namespaces,
    "mounts": _no_mounts,
    "memory_limits": _no_memory_limits,
    "browser": _no_browser,
    "page": _no_page,
}


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips loudly; fails where a variable of EVERYTHING is set."""
    for name, look in _NEEDS.items():
        reason = look() if item.get_closest_marker(name) else ""
        if reason:
            item.user_properties.append((_NOT_TESTED, reason))
            if any(os.environ.get(one) for one in EVERYTHING):
                pytest.fail(f"this must be tested here: {reason}", pytrace=False)
            pytest.skip(reason)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    not_tested: dict[str, list[str]] = {}
    for kind in ("skipped", "error"):
        for report in terminalreporter.getreports(kind):
            # The report of a file that could not be collected has none.
            for name, reason in getattr(report, "user_properties", ()):
                if name == _NOT_TESTED:
                    not_tested.setdefault(str(reason), []).append(report.nodeid)
    if not_tested:
        terminalreporter.section("NOT TESTED ON THIS MACHINE", sep="!", red=True, bold=True)
        for reason, tests in not_tested.items():
            terminalreporter.line(f"{len(tests)} tests: {reason}", red=True)
            for test in tests:
                terminalreporter.line(f"    {test}")
        terminalreporter.line(f"What they prove is not proven by this run; {EVERYTHING[0]}=1 makes it fail.")
