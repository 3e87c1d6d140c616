"""Where datasets may lie, as the owner of the box allows it: folders, and protocols of URLs."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import unquote

from runner_agent.config import StateFolder

# A path in another dress.
LOCAL = "file"


class PlaceError(Exception):
    """A location that this box does not read. The text is a sentence that names the setting."""


@dataclass(frozen=True)
class Places:
    """Settings of the box."""

    # Where URLs are fetched to.
    cache: Path
    # Absolute; empty: any folder.
    roots: tuple[str, ...] = ()
    protocols: tuple[str, ...] = (LOCAL,)
    # What fetched datasets may take; 0: what the disk has.
    cache_bytes: int = 0
    # The file that says so, for sentences.
    config: str = "config.toml"

    def local(self, location: str) -> Path | None:
        """The folder of a location on this box; None for a URL that is to be fetched. Raises PlaceError."""
        scheme, separator, rest = location.partition("://")
        if not separator:
            path = location
        else:
            if "::" in location:
                raise PlaceError(f"{location} joins several protocols with ::; give a plain URL")
            if scheme not in self.protocols:
                known = ", ".join(self.protocols) or "none"
                raise PlaceError(
                    f"{location} is a URL of protocol {scheme}, and this runner reads {known}; its owner can add it to "
                    f"dataset_protocols in {self.config}"
                )
            if scheme != LOCAL:
                return None
            path = unquote(rest)
        if not path.startswith("/"):
            raise PlaceError(f"'{location}' is not an absolute path; give the path as it is on the runner's box")
        if self.roots and not _inside(self.roots, path):
            raise PlaceError(
                f"{location} lies outside the folders of this runner's datasets ({', '.join(self.roots)}); its owner "
                f"can add a folder to dataset_roots in {self.config}"
            )
        return Path(path)

    def allowed(self, root: Path) -> Callable[[str], bool] | None:
        """Whether a path of the dataset at `root` may be read once links are followed; None where any may be.

        A fetched one lies in the cache, wherever that is: what is below its own folder may be, and nothing else.
        """
        if not self.roots:
            return None
        return partial(_inside, (str(root),) if root.is_relative_to(self.cache) else self.roots)


def _inside(folders: tuple[str, ...], path: str) -> bool:
    try:
        real = os.path.realpath(path)
        roots = [os.path.realpath(folder) for folder in folders]
    except (OSError, ValueError):
        return False
    return any(real == root or real.startswith(root.rstrip("/") + "/") for root in roots)


def of(state: Path) -> Places:
    """The settings of the runner with this state folder; where none is installed, any folder may be read.

    Raises BoxError where its file is damaged.
    """
    folder = StateFolder(state)
    if not folder.config.exists():
        return Places(folder.datasets)
    config = folder.load()
    return Places(
        folder.datasets,
        config.dataset_roots,
        config.dataset_protocols,
        config.dataset_cache_bytes,
        str(folder.config),
    )
