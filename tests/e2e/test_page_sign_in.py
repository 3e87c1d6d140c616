"""Who is signed in: by a code that works once, in every tab of one browser, until the token is refused anywhere."""

import json
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from playwright.async_api import Page, expect

from protos.events.v1.workspace_pb2 import ROLE_ADMIN, ROLE_VIEWER, Role
from protos.scheduler.v1 import access_pb2
from protos.scheduler.v1.access_pb2_grpc import AccessServiceStub
from tests.support.browser import settled, window
from tests.support.page_scene import Scene
from tests.support.platform import SharedPlatform
from tests.support.servers import bearer

pytestmark = [pytest.mark.browser, pytest.mark.needs_stack]

_MOST_CONNECTIONS = 6
_PERMISSION_DENIED = "7"
# What a button says that changes something of the workspace begins with one of these.
_CHANGES = (
    *("Add", "Adjust", "Create", "Delete", "Erase", "Export", "Make", "New", "Register", "Resume", "Revoke"),
    *("Run", "Save", "Set", "Stop", "Suspend", "Uninstall"),
)


@pytest.fixture
async def access(page_platform: SharedPlatform) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(page_platform.endpoints["scheduler"]) as channel:
        yield AccessServiceStub(channel)


async def test_a_code_signs_in_once_and_leaves_no_secret_where_others_may_read_it(
    page_platform: SharedPlatform,
) -> None:
    async with window(page_platform) as browser:
        address = await browser.code_address()
        page = await browser.context.new_page()
        await page.goto(address)
        await _signed_in(page)
        for path in ("/runners", "/trainings"):
            await page.get_by_role("navigation", name="Pages").locator(f'a[href="{path}"]').click()
        secret = json.loads(await page.evaluate("JSON.stringify(sessionStorage)"))["tether.token"]
        assert secret.startswith("tt_")
        code = address.partition("#code=")[2]
        devtools = await browser.context.new_cdp_session(page)
        history = await devtools.send("Page.getNavigationHistory")
        seen = {
            "address": page.url,
            # What was typed is kept there too: the code, which is of no more use by now.
            "history": json.dumps([[entry["url"], entry["title"]] for entry in history["entries"]]),
            "local storage": await page.evaluate("JSON.stringify(localStorage)"),
            "cookies": json.dumps(await browser.context.cookies()),
            "document": await page.content(),
        }
        assert {place: text for place, text in seen.items() if secret in text or code in text} == {}
        assert seen["cookies"] == "[]"
        async with window(page_platform) as other:
            second = await other.context.new_page()
            await second.goto(address)
            await expect(second.get_by_role("alert")).to_contain_text("code")
            await expect(second.get_by_label("Token")).to_be_visible()
            assert other.amiss() == []
        assert browser.amiss() == []


async def test_four_tabs_share_one_session_few_connections_and_every_change(
    page_platform: SharedPlatform, access: Any
) -> None:
    async with window(page_platform) as browser:
        tabs = [await browser.sign_in()]
        secret = await tabs[0].evaluate("sessionStorage.getItem('tether.token')")
        await browser.go(tabs[0], "/runners")
        tabs += [await browser.tab("/runners") for _ in range(3)]
        for tab in tabs:
            await _signed_in(tab)
        # What lies in the background is drawn once a second.
        await tabs[0].bring_to_front()
        await tabs[0].get_by_role("button", name="Add a runner").first.click()
        await tabs[0].get_by_label("Name", exact=True).fill("seen-by-four")
        await tabs[0].get_by_role("button", name="Make the runner").click()
        for tab in tabs:
            await expect(tab.get_by_role("link", name="seen-by-four")).to_be_visible()
        gateway = int(page_platform.endpoints["gateway"].rpartition(":")[2])
        ports = [port for _, port in browser.sockets()]
        assert 0 < ports.count(gateway) <= _MOST_CONNECTIONS
        assert set(ports) == {gateway}
        await tabs[0].get_by_role("button", name="Done").click()
        await tabs[1].bring_to_front()
        await tabs[1].get_by_role("button", name="Account and appearance").click()
        await tabs[1].get_by_role("menuitem", name="Sign out").click()
        for tab in tabs:
            await expect(tab.get_by_label("Token")).to_be_visible()
            assert await tab.evaluate("sessionStorage.length") == 0
        # The token of the code is of no more use to anybody.
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await access.WhoAmI(access_pb2.WhoAmIRequest(), metadata=bearer(secret))
        assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED
        assert browser.amiss() == []


async def test_a_revoked_token_ends_the_session_within_two_seconds_and_says_why(
    page_platform: SharedPlatform, access: Any
) -> None:
    made = await _token(page_platform, access, ROLE_ADMIN)
    async with window(page_platform) as browser:
        page = await browser.context.new_page()
        await browser.go(page, "/runners")
        await page.get_by_label("Token").fill(made.secret)
        await page.get_by_role("button", name="Sign in").click()
        await _signed_in(page)
        revoke = access_pb2.RevokeTokenRequest(token_id=made.token.token_id)
        await access.RevokeToken(revoke, metadata=bearer(page_platform.token))
        await expect(page.get_by_label("Token")).to_be_visible(timeout=2_000)
        await expect(page.get_by_role("alert")).to_contain_text("revoked")
        assert browser.amiss() == []


async def test_a_viewer_is_offered_nothing_that_would_be_refused(scene: Scene, access: Any) -> None:
    made = await _token(scene.platform, access, ROLE_VIEWER)
    places = ["/trainings", "/workflows", "/workflows?tab=datasets", "/runners", "/usage", "/settings"]
    if scene.job_id:
        places += [f"/trainings/{scene.job_id}/checkpoints", f"/workflows/{scene.workflow_id}"]
        places += [f"/runners/{scene.runner_id}", f"/usage?job={scene.job_id}"]
    async with window(scene.platform) as browser:
        page = await browser.sign_in(made.secret)
        for path in places:
            await browser.go(page, path)
            await settled(page)
            main = page.get_by_role("main")
            offered = [*await main.get_by_role("button").all(), *await main.get_by_role("link").all()]
            names = [await one.inner_text() for one in offered if await one.is_enabled()]
            assert [name for name in names if name.startswith(_CHANGES)] == [], path
        await expect(page.get_by_role("link", name="Event log")).to_have_count(0)
        denied = [path for path, status in browser.refusals if status == _PERMISSION_DENIED]
        assert denied == []
        assert browser.amiss() == []


async def _signed_in(page: Page) -> None:
    await page.get_by_role("navigation", name="Pages").wait_for()


async def _token(platform: SharedPlatform, access: Any, role: Role.ValueType) -> access_pb2.CreateTokenResponse:
    request = access_pb2.CreateTokenRequest(name="of the page's test", role=role)
    made: access_pb2.CreateTokenResponse = await access.CreateToken(request, metadata=bearer(platform.token))
    return made
