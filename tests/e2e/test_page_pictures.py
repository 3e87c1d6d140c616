"""Every page as it looks: readable for everyone, in the light and in the dark, on a telephone and on a wide screen."""

import pytest
from playwright.async_api import Page

from tests.support.browser import overflow, screenshot, settled, violations, window
from tests.support.page_scene import Scene

pytestmark = [pytest.mark.browser, pytest.mark.needs_stack]

_HEIGHTS = {390: 844, 768: 1024, 1280: 800, 1440: 900, 1920: 1080}
_PICTURED = (390, 1440)
_TABS = ("metrics", "preview", "matrix", "advice", "logs", "checkpoints", "events")
_SETTINGS = ("tokens", "quota", "webhook", "workspace", "appearance")


@pytest.mark.timeout(240)
async def test_every_page_is_accessible_and_fits_every_width(scene: Scene) -> None:
    async with scene.with_a_training(), window(scene.platform) as browser, window(scene.platform) as stranger:
        faults: list[str] = []
        page = await browser.sign_in()
        for name, path in _pages(scene).items():
            faults += await _faults(page, name, browser.address + path)
        faults += await _faults(await stranger.context.new_page(), "sign-in", stranger.address)
        assert not faults, "\n".join(faults)
        assert browser.amiss() + stranger.amiss() == []


def _pages(scene: Scene) -> dict[str, str]:
    """The name of each page's picture, and its path."""
    training = f"/trainings/{scene.job_id}"
    return {
        "trainings": "/trainings",
        **{f"training-{tab}": f"{training}/{tab}" for tab in _TABS},
        **({"compare": f"/compare?jobs={scene.job_id},{scene.other_job_id}"} if scene.other_job_id else {}),
        "workflows": "/workflows",
        "datasets": "/workflows?tab=datasets",
        "workflow-new": "/workflows/new",
        **({"workflow": f"/workflows/{scene.workflow_id}"} if scene.workflow_id else {}),
        **({"training-settings": f"/workflows/{scene.workflow_id}?run=1"} if scene.workflow_id else {}),
        "runners": "/runners",
        "runner": f"/runners/{scene.runner_id}",
        "usage": "/usage",
        "usage-of-a-training": f"/usage?job={scene.job_id}",
        "events": "/events",
        **{f"settings-{tab}": f"/settings/{tab}" for tab in _SETTINGS},
    }


async def _faults(page: Page, name: str, address: str) -> list[str]:
    """What is wrong with a page in any theme and at any width; its pictures lie in build/screenshots."""
    faults = []
    for theme in ("light", "dark"):
        await page.emulate_media(color_scheme=theme, reduced_motion="reduce")
        if theme == "light":
            await page.goto(address)
        for width, height in _HEIGHTS.items():
            # Colours change no widths.
            if theme == "dark" and width not in _PICTURED:
                continue
            await page.set_viewport_size({"width": width, "height": height})
            await settled(page)
            if width in _PICTURED:
                await screenshot(page, f"{name}-{theme}-{width}")
            if theme == "light":
                faults += [f"{width} px wide: {one}" for one in await overflow(page)]
            if width == _PICTURED[-1]:
                # By all rules once: the others know no themes.
                rules = () if theme == "light" else ("color-contrast",)
                faults += [f"{theme}: {one}" for one in await violations(page, *rules)]
    return [f"{name}: {one}" for one in faults]
