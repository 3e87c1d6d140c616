"""The files of the built page, and how browsers are to keep them."""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from services.gateway.headers import FOREVER, REVALIDATED

INDEX = "index.html"
BUILT = Path(__file__).with_name("page")

# Envoy keeps every file in memory.
MAX_FILES = 500
MAX_FILE_BYTES = 8 << 20

_CONTENT_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".webmanifest": "application/manifest+json",
    ".woff2": "font/woff2",
}


class PageRefused(Exception):
    """What lies in the page's folder is not what its build writes; the message is one sentence."""


@dataclass(frozen=True)
class File:
    """One file of the page. `path` is that of its URL, percent-encoded."""

    path: str
    file: Path
    content_type: str
    cache_control: str


def read_page(folder: Path) -> tuple[File, ...]:
    """Every file of the page; none where it has not been built. Raises PageRefused.

    The gateway answers with these and opens no other, whatever a request asks for.
    """
    try:
        if not (folder / INDEX).is_file():
            return ()
        # Envoy may run in another folder.
        folder, root = folder.absolute(), folder.resolve()
        found = [_file(one, folder, root) for one in sorted(folder.rglob("*")) if not one.is_dir()]
    except OSError as error:
        # A build may have taken it away at this moment.
        raise PageRefused(f"{error.filename or folder} cannot be read ({error.strerror}); run `make page`") from None
    if len(found) > MAX_FILES:
        raise PageRefused(f"{folder} holds {len(found)} files and at most {MAX_FILES} are served; run `make page`")
    return tuple(found)


def _file(file: Path, folder: Path, root: Path) -> File:
    if not file.is_file() or not file.resolve().is_relative_to(root):
        raise PageRefused(f"{file} is not a file of the page, or leads out of its folder; run `make page`")
    if file.stat().st_size > MAX_FILE_BYTES:
        raise PageRefused(f"{file} is larger than the {MAX_FILE_BYTES >> 20} MiB that are served; run `make page`")
    path = file.relative_to(folder).as_posix()
    return File(
        path=quote(f"/{path}"),
        file=file,
        content_type=_CONTENT_TYPES.get(file.suffix, "application/octet-stream"),
        cache_control=FOREVER if path.startswith("assets/") else REVALIDATED,
    )
