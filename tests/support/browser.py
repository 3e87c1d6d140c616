"""A real browser on the page of a real platform."""

import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import psutil
from playwright.async_api import BrowserContext, ConsoleMessage, Dialog, Page, async_playwright, expect

from deploy.local.page import page_address, signed_in_address
from tests.support import chromium
from tests.support.platform import SharedPlatform

ROOT = Path(__file__).resolve().parents[2]
SCREENSHOTS = ROOT / "build" / "screenshots"
_AXE = ROOT / "services" / "gateway" / "web" / "node_modules" / "axe-core" / "axe.min.js"
# Without these Chromium calls home at each start.
_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
)
# A page that is slower than this on a busy machine counts as broken.
PATIENCE_MS = 20_000
expect.set_options(timeout=PATIENCE_MS)

Theme = Literal["light", "dark"]


class Window:
    """One browser profile. It keeps what its pages complained of, which a test may then judge."""

    def __init__(self, context: BrowserContext, platform: SharedPlatform) -> None:
        self.context, self.platform = context, platform
        self.address = page_address(platform.endpoints["gateway"]).rstrip("/")
        # Errors of scripts, what the page wrote to its console as an error or a warning, dialogs that scripts opened.
        self.complaints: list[str] = []
        # Addresses of other machines that a page asked for.
        self.elsewhere: list[str] = []
        # Answers of the platform to which it said no: path and gRPC status.
        self.refusals: list[tuple[str, str]] = []
        context.set_default_timeout(PATIENCE_MS)
        context.on("page", self._listen)
        context.on("request", self._requested)
        context.on("response", self._answered)

    async def sign_in(self, token: str | None = None) -> Page:
        """A page, signed in with a single-use code that the token (the platform's first) has made."""
        page = await self.context.new_page()
        await page.goto(await self.code_address(token))
        await page.get_by_role("navigation", name="Pages").wait_for()
        return page

    async def code_address(self, token: str | None = None) -> str:
        """The address with a code that `tether up` prints."""
        endpoints = self.platform.endpoints
        return await signed_in_address(endpoints["gateway"], endpoints["scheduler"], token or self.platform.token)

    async def tab(self, path: str) -> Page:
        """Another tab of the same browser, opened by its address alone."""
        page = await self.context.new_page()
        await self.go(page, path)
        return page

    async def go(self, page: Page, path: str) -> None:
        await page.goto(self.address + path)

    def amiss(self) -> list[str]:
        """Everything that no page should have done."""
        return [*self.complaints, *(f"asked for {address}" for address in self.elsewhere)]

    def sockets(self) -> list[tuple[str, int]]:
        """Where the established TCP connections of the browser's processes lead, one by one."""
        found = []
        for process in psutil.Process().children(recursive=True):
            try:
                connections = process.net_connections("inet") if "chrom" in process.name() else []
            except psutil.NoSuchProcess:
                continue
            found += [(one.raddr.ip, one.raddr.port) for one in connections if one.status == psutil.CONN_ESTABLISHED]
        return found

    def _listen(self, page: Page) -> None:
        page.on("pageerror", lambda error: self.complaints.append(f"{page.url}: {error}"))
        page.on("console", self._console)
        page.on("dialog", self._dialog)

    def _console(self, message: ConsoleMessage) -> None:
        # What the network refuses is for the page to tell; Chromium writes it there as well.
        if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
            self.complaints.append(f"{message.location.get('url', '')}: {message.text}")

    async def _dialog(self, dialog: Dialog) -> None:
        self.complaints.append(f"a script opened a dialog: {dialog.type} {dialog.message!r}")
        await dialog.dismiss()

    def _requested(self, request: Any) -> None:
        if not re.match(rf"({re.escape(self.address)}/|blob:|data:)", request.url):
            self.elsewhere.append(request.url)

    def _answered(self, response: Any) -> None:
        status = response.headers.get("grpc-status", "0")
        if status != "0":
            self.refusals.append((response.url.removeprefix(self.address), status))


@asynccontextmanager
async def window(
    platform: SharedPlatform, width: int = 1440, height: int = 900, theme: Theme = "light", **more: Any
) -> AsyncIterator[Window]:
    """A fresh browser with one empty profile."""
    async with browser() as new_context:
        yield Window(await new_context(width, height, theme, **more), platform)


@asynccontextmanager
async def browser() -> AsyncIterator[Callable[..., Any]]:
    """A fresh browser; what it yields makes an empty profile of a width, a height and a theme."""
    program = chromium.find()
    assert program is not None, "tests with a browser are marked pytest.mark.browser"
    async with async_playwright() as playwright:
        launched = await playwright.chromium.launch(executable_path=str(program), args=list(_ARGUMENTS))

        async def new_context(width: int = 1440, height: int = 900, theme: Theme = "light", **more: Any) -> Any:
            return await launched.new_context(
                viewport={"width": width, "height": height}, color_scheme=theme, reduced_motion="reduce", **more
            )

        try:
            yield new_context
        finally:
            await launched.close()


async def screenshot(page: Page, name: str) -> None:
    """The whole page into build/screenshots/NAME.png; the window is as high as the page then, until it is set anew."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    size = page.viewport_size
    assert size is not None
    high = await page.evaluate("() => document.documentElement.scrollHeight")
    if high > size["height"]:
        # What is only drawn when it comes into sight.
        await page.set_viewport_size({"width": size["width"], "height": high})
        await settled(page)
    await page.screenshot(path=SCREENSHOTS / f"{name}.png")


async def settled(page: Page) -> None:
    """Returns when the page shows what it was asked for, and nothing that stands in its place."""
    await page.get_by_role("heading", level=1).first.wait_for()
    await page.wait_for_function(
        """() => document.querySelector('[role="status"][aria-label^="Loading"]') === null
            && [...document.images].every((image) => image.complete)"""
    )
    await drawn(page)


async def drawn(page: Page) -> None:
    """Returns when what was changed is on the screen."""
    await page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


async def violations(page: Page, *rules: str) -> list[str]:
    """What axe finds wrong with the accessibility of the page as it is now, by all rules or by these; one line each."""
    # Not as a script of the page: its content security policy lets no stranger in.
    if not await page.evaluate("() => 'axe' in window"):
        await page.evaluate(_AXE.read_text())
    found = await page.evaluate(
        """async (rules) => {
            const only = rules.length > 0 ? {runOnly: {type: "rule", values: rules}} : {};
            const {violations} = await axe.run(document, {resultTypes: ["violations"], ...only});
            return violations.flatMap(({id, nodes}) =>
                nodes.map(({html, failureSummary}) => `${id}: ${html.slice(0, 160)} ${failureSummary.slice(0, 300)}`));
        }""",
        list(rules),
    )
    return [str(one) for one in found]


async def overflow(page: Page) -> list[str]:
    """What sticks out of the window sideways, outside of boxes that scroll; empty: nothing does."""
    found = await page.evaluate(
        """() => {
            const wide = document.documentElement.clientWidth;
            const scrolls = (element) => {
                for (let at = element.parentElement; at !== null; at = at.parentElement) {
                    const kind = getComputedStyle(at).overflowX;
                    if (kind === "auto" || kind === "scroll" || kind === "hidden" || kind === "clip") return true;
                }
                return false;
            };
            return [...document.querySelectorAll("body *")]
                .filter((one) => one.getBoundingClientRect().right > wide + 1 && !scrolls(one))
                .filter((one) => getComputedStyle(one).position !== "fixed" && one.checkVisibility())
                .map((one) => `${one.tagName} ${one.className} "${(one.textContent ?? "").slice(0, 60)}"`);
        }"""
    )
    scrolled = await page.evaluate(
        "() => document.documentElement.scrollWidth > document.documentElement.clientWidth + 1"
    )
    return [str(one) for one in found] + (["the page scrolls sideways"] if scrolled else [])
