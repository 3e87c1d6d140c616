"""What a browser must fetch and run before it shows anything stays small."""

import gzip
import re

import pytest

from services.gateway.files import BUILT, INDEX

pytestmark = pytest.mark.page

_MOST_BYTES = 250_000
_SOURCE = re.compile(r'<(?:script|link)\b[^>]*\b(?:src|href)="/([^"]+\.js)"')
_IMPORT = re.compile(r'\bimport\s*(?:[\w*{}\s,$]+from\s*)?"\./([^"]+\.js)"')


def test_the_scripts_that_the_page_begins_with_are_under_250_kb_compressed() -> None:
    """With all that they import at once, and with the worker, which every first visit starts."""
    wanted = _SOURCE.findall((BUILT / INDEX).read_text())
    assert wanted, "index.html names no script"
    wanted += [f"assets/{file.name}" for file in (BUILT / "assets").glob("worker-*.js")]
    sizes: dict[str, int] = {}
    while wanted:
        name = wanted.pop()
        if name in sizes:
            continue
        script = (BUILT / name).read_bytes()
        sizes[name] = len(gzip.compress(script, 6))
        wanted += [f"assets/{imported}" for imported in _IMPORT.findall(script.decode())]
    assert sum(sizes.values()) < _MOST_BYTES, sizes
