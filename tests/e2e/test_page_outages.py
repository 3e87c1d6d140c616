"""What the page says when something is away: a box, one service, the front door. It heals by itself each time."""

import re
import signal
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from tests.support.browser import PATIENCE_MS, Window, window
from tests.support.eventually import eventually
from tests.support.faults import FaultStack, box_on, together
from tests.support.page_platform import WINDOW_MS
from tests.support.platform import SharedPlatform

pytestmark = [pytest.mark.browser, pytest.mark.needs_stack]

# The window, the time until the platform is sure, and a busy machine.
_LOST_MS = WINDOW_MS + 40_000
# After its last word a box is waited for as long as this before it is called cut off.
_SILENCE_MS = 15_000
_NO_ANSWER = "does not answer"


@pytest.mark.timeout(200)
async def test_what_is_away_is_told_where_it_is_missed_until_it_is_back(
    page_platform: SharedPlatform, tmp_path: Path
) -> None:
    async with AsyncExitStack() as around:
        boxes = [
            await around.enter_async_context(box_on(page_platform, tmp_path, name))
            for name in ("comes-back", "stays-away", "unharmed")
        ]
        browser = await around.enter_async_context(window(page_platform))
        jobs = [await box.trains() for box in boxes]
        pages = [await browser.sign_in(), await browser.tab("/"), await browser.tab("/")]
        for job, page in zip(jobs, pages, strict=True):
            await browser.go(page, f"/trainings/{job.job_id}")
            await expect(page.get_by_text("RUNNING").first).to_be_visible()
        await together(
            {
                "a box that comes back": _is_heard_again(boxes[0], pages[0]),
                "a box that stays away": _is_lost(boxes[1], pages[1]),
                "the service of the charts": _has_no_charts(page_platform, browser, pages[2], boxes[2]),
            }
        )
        await _gateway_is_away(page_platform, pages[2])
        assert browser.amiss() == []
        # Nothing of this goes on behind the tests that follow.
        for box, job in ((boxes[0], jobs[0]), (boxes[2], jobs[2])):
            box.faulty.let_go()
            await box.over(job.job_id)


async def _is_heard_again(stack: FaultStack, page: Page) -> None:
    _kill_agent(stack)
    await _counts_down(page)
    stack.faulty.strike("launcher", "", signal.SIGCONT)
    await expect(page.get_by_role("status").filter(has_text="is heard again")).to_be_visible()
    await expect(page.get_by_role("timer")).to_have_count(0)
    await expect(page.get_by_text("RUNNING").first).to_be_visible()


async def _is_lost(stack: FaultStack, page: Page) -> None:
    _kill_agent(stack)
    await _counts_down(page)
    end = page.get_by_role("main").get_by_text(re.compile(r"^Killed.* connection lost.* It cost \d+\.\d+ minutes"))
    await expect(end).to_be_visible(timeout=_LOST_MS)
    await expect(page.get_by_role("timer")).to_have_count(0)


async def _has_no_charts(platform: SharedPlatform, browser: Window, page: Page, stack: FaultStack) -> None:
    tab = page.get_by_role("tabpanel")
    await expect(tab.get_by_role("figure", name="Loss")).to_be_visible()
    training = page.url
    try:
        await platform.stop("metrics")
        await expect(tab.get_by_text(_NO_ANSWER)).to_be_visible()
        await _rest_of_the_page_works(page, stack)
        await page.goto(training)
        await expect(tab.get_by_text(_NO_ANSWER)).to_be_visible()
        await expect(page.get_by_role("heading", level=1)).to_be_visible()
    finally:
        await platform.start("metrics")
    await expect(tab.get_by_role("figure", name="Loss")).to_be_visible()
    await _gets_on(page)


async def _gateway_is_away(platform: SharedPlatform, page: Page) -> None:
    try:
        await platform.stop("gateway")
        await expect(page.get_by_role("alert").filter(has_text=_NO_ANSWER).first).to_be_visible()
    finally:
        await platform.start("gateway")
    await expect(page.get_by_text(_NO_ANSWER)).to_have_count(0)
    await _gets_on(page)


async def _rest_of_the_page_works(page: Page, stack: FaultStack) -> None:
    pages = page.get_by_role("navigation", name="Pages")
    await pages.get_by_role("link", name="Runners").click()
    row = page.get_by_role("listitem").filter(has_text=stack.runner)
    await expect(row).to_contain_text("OCCUPIED")
    await pages.get_by_role("link", name="Event log").click()
    await expect(page.get_by_role("region", name="Events")).to_be_visible()


async def _gets_on(page: Page) -> None:
    """The step that the page tells goes up."""
    steps = page.get_by_role("main").get_by_text(re.compile(r"^step [\d,]+"))

    async def step() -> int:
        found = re.match(r"step ([\d,]+)", await steps.first.inner_text())
        return int(found[1].replace(",", "")) if found else 0

    before = await eventually(step, 20, "a step on the page")

    async def later() -> bool:
        return await step() > before

    await eventually(later, 20, f"a step after {before}")


async def _counts_down(page: Page) -> None:
    left = page.get_by_role("timer")
    await expect(left).to_be_visible(timeout=_SILENCE_MS + PATIENCE_MS)
    first = await left.inner_text()
    assert 0 < _seconds(first) <= WINDOW_MS / 1000
    await expect(left).not_to_have_text(first)
    assert _seconds(await left.inner_text()) < _seconds(first)


def _kill_agent(stack: FaultStack) -> None:
    """Without its launcher, which would start another."""
    stack.faulty.strike("launcher", "", signal.SIGSTOP)
    stack.faulty.strike("agent", "", signal.SIGKILL)


def _seconds(text: str) -> int:
    minutes, seconds = re.findall(r"\d+", text)
    return int(minutes) * 60 + int(seconds)
