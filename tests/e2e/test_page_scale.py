"""A thousand runners and ten thousand trainings: lists scroll and answer, and the page never stands still."""

import pytest
from playwright.async_api import Page, expect

from tests.support.browser import settled, window
from tests.support.eventually import eventually
from tests.support.page_scale import JOBS, RUNNERS, fill
from tests.support.platform import SharedPlatform

pytestmark = [pytest.mark.browser, pytest.mark.needs_stack, pytest.mark.slow]

_LONGEST_TASK_MS = 200
_WATCH_TASKS = """
    window.longTasks = [];
    new PerformanceObserver((list) => window.longTasks.push(...list.getEntries().map((one) => one.duration)))
        .observe({type: "longtask", buffered: true});
"""


@pytest.mark.timeout(600)
async def test_a_thousand_runners_and_ten_thousand_trainings_are_scrolled_and_filtered_without_a_long_task(
    own_platform: SharedPlatform,
) -> None:
    await fill(own_platform.endpoints["scheduler"], own_platform.token)
    longest: dict[str, float] = {}
    async with window(own_platform) as browser:
        await browser.context.add_init_script(_WATCH_TASKS)
        page = await browser.sign_in()

        await browser.go(page, "/runners")
        await settled(page)
        await expect(page.get_by_text(f"{RUNNERS} offline")).to_be_visible()
        await _scrolls_to(page, "Runners", f"box-{RUNNERS - 1}")
        await page.get_by_label("Filter").fill("box-77")
        await expect(page.get_by_role("listitem")).to_have_count(11)
        longest["/runners"] = await _longest(page)

        await browser.go(page, "/trainings")
        await settled(page)
        # Several pages of the server's further down.
        await _scrolls_to(page, "Trainings", f"training {JOBS - 500}")
        await page.get_by_label("Search").fill("training 7777")
        await expect(page.get_by_role("region", name="Trainings").get_by_role("listitem")).to_have_count(1)
        longest["/trainings"] = await _longest(page)

        await browser.go(page, "/events")
        await settled(page)
        await page.get_by_role("region", name="Events").evaluate("list => list.scrollTo(0, list.scrollHeight)")
        longest["/events"] = await _longest(page)

        await browser.go(page, "/usage")
        await settled(page)
        longest["/usage"] = await _longest(page)
        assert max(longest.values()) <= _LONGEST_TASK_MS, longest
        assert browser.amiss() == []


async def _scrolls_to(page: Page, name: str, text: str) -> None:
    """Scrolls a list down, as with a wheel that is turned fast, until a row with the text is in sight."""
    rows = page.get_by_role("region", name=name)

    async def seen() -> bool:
        await rows.evaluate("list => list.scrollBy(0, 3 * list.clientHeight)")
        return await rows.get_by_text(text, exact=True).count() > 0

    await eventually(seen, 60, f"{text} in the list {name}")


async def _longest(page: Page) -> float:
    return float(await page.evaluate("Math.max(0, ...window.longTasks)"))
