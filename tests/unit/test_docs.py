"""The documentation follows the sources: generated pages are up to date, and no link leads nowhere."""

import re
import runpy
from collections import Counter
from pathlib import Path

import pytest

from services.eventlog.catalogue import EVENTS
from services.rpc.roles import ROLES

ROOT = Path(__file__).parent.parent.parent
REFERENCE = ROOT / "docs" / "reference"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


@pytest.fixture(scope="module")
def generated() -> dict[str, str]:
    pages: dict[str, str] = runpy.run_path(str(ROOT / "docs" / "generate.py"))["pages"]()
    return pages


def test_the_reference_is_what_the_sources_say(generated: dict[str, str]) -> None:
    assert {path.name for path in REFERENCE.iterdir()} == set(generated)
    stale = [name for name, text in generated.items() if (REFERENCE / name).read_text() != text]
    assert not stale, f"{stale} are out of date; run: .venv/bin/python docs/generate.py"


def test_every_event_is_in_the_reference_and_says_when_it_happens(generated: dict[str, str]) -> None:
    for name in EVENTS:
        section = re.search(rf"^### {name}\n\n(.*)$", generated["events.md"], re.MULTILINE)
        assert section is not None, f"{name} is missing"
        assert not section[1].startswith(("|", "No fields")), f"write a comment above the message {name}"


def test_every_rpc_is_in_the_reference(generated: dict[str, str]) -> None:
    documented = set(re.findall(r"^### (\w+)\.(\w+)$", generated["rpcs.md"], re.MULTILINE))
    assert documented == {tuple(method.rsplit(".", 1)[1].split("/")) for method in ROLES}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_to_a_file_and_to_a_heading_of_it(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", without_code(page.read_text()))
    broken = [link for link in links if not re.match(r"https?://", link) and not leads_somewhere(page, link)]
    assert not broken


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_heading_comes_twice_on_a_page(page: Path) -> None:
    """A second one would take another anchor than its links say."""
    twice = [anchor for anchor, times in Counter(anchors(page)).items() if times > 1]
    assert not twice


def leads_somewhere(page: Path, link: str) -> bool:
    name, _, anchor = link.partition("#")
    target = (page.parent / name).resolve() if name else page
    return target.exists() and (not anchor or anchor in anchors(target))


def anchors(page: Path) -> list[str]:
    """The anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", without_code(page.read_text()), re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]


def without_code(text: str) -> str:
    """The page without its blocks of code, in which `#` and brackets mean something else."""
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
