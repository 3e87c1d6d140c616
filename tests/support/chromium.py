"""The browser of the page's tests: `python tests/support/chromium.py` installs it where it is missing.

Debian's Chromium, because Playwright's own is fetched from a place that many machines do not reach.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome")
_APT = ("apt-get", "-qq", "-o", "DPkg::Lock::Timeout=120")


def find() -> Path | None:
    """The program; None where there is none. `TETHER_TEST_BROWSER` names another."""
    found = (shutil.which(name) for name in (os.environ.get("TETHER_TEST_BROWSER", ""), *NAMES) if name)
    return next((Path(path) for path in found if path is not None), None)


def install() -> str:
    """Installs it from Debian's packages. Empty, or one sentence why it is not there."""
    if find() is not None:
        return ""
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        return "there is no Chromium; install it (on Debian, as root: apt-get install chromium)"
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (("update",), ("install", "-y", "--no-install-recommends", "chromium", "fonts-dejavu-core")):
        done = subprocess.run([*_APT, *command], env=env, capture_output=True, text=True, check=False)
        if done.returncode:
            return f"`apt-get {command[0]}` failed: {done.stderr.strip()[-300:]}"
    return "" if find() is not None else "apt-get has installed chromium, but it is not on the PATH"


if __name__ == "__main__":
    if problem := install():
        print(f"the tests of the page need a browser: {problem}", file=sys.stderr)
        sys.exit(1)
