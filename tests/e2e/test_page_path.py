"""What a person does with the page, from the first runner to what it all cost, with a real box and a real training."""

import hashlib
import os
import re
from pathlib import Path

import grpc
import pytest
from playwright.async_api import Locator, Page, expect

from protos.eventlog.v1 import eventlog_pb2
from protos.eventlog.v1.eventlog_pb2_grpc import EventLogServiceStub
from protos.events.v1.job_pb2 import CheckpointSaved
from protos.quota.v1 import quota_pb2
from protos.quota.v1.quota_pb2_grpc import QuotaServiceStub
from services.words.format import minutes
from tests.support.box_process import RUNNER, run
from tests.support.browser import window
from tests.support.page_scene import Scene
from tests.support.platform import SharedPlatform
from tests.support.servers import bearer

pytestmark = [pytest.mark.browser, pytest.mark.needs_stack]

# A trainer that is warm, and a training of the digits, on a busy machine.
_TRAINED_MS = 120_000


@pytest.mark.timeout(300)
async def test_from_the_first_runner_to_what_it_cost_the_page_is_enough(scene: Scene, tmp_path: Path) -> None:
    async with window(scene.platform, accept_downloads=True) as browser:
        page = await browser.sign_in()
        await _adds_a_runner(page, scene)
        await _registers_and_checks_the_digits(page, scene)
        await _makes_a_workflow(page, scene)
        await _runs_it(page, "digits by the page", epochs=3, advanced=True)
        scene.job_id = _id_in(page)
        await _watches_the_loss_fall(page)
        await _looks_at_previews_and_matrix(page)
        await _downloads_what_the_log_names(page, scene, tmp_path)
        await browser.go(page, f"/workflows/{scene.workflow_id}")
        await _runs_it(page, "to be stopped", epochs=500, advanced=False)
        scene.other_job_id = _id_in(page)
        await _stops_it(page)
        await _reads_what_both_cost(page, scene.platform, scene.job_id, scene.other_job_id)
        await _reads_the_start_in_words(page, "to be stopped")
        assert browser.amiss() == []


async def _adds_a_runner(page: Page, scene: Scene) -> None:
    await _opens(page, "Runners")
    await page.get_by_role("button", name="Add a runner").first.click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("Name", exact=True).fill("my first box")
    await dialog.get_by_role("button", name="Make the runner").click()
    await dialog.get_by_label("The box has no NVIDIA GPU").check()
    command = await dialog.locator("code").filter(has_text="TETHER_RUNNER_KEY").inner_text()
    await dialog.get_by_role("button", name="Done").click()
    row = page.get_by_role("listitem").filter(has_text="my first box")
    await expect(row).to_contain_text("OFFLINE")
    scene.box = {"TETHER_RUNNER_STATE": str(scene.folder / "first")}
    path = f"{Path(RUNNER).parent}{os.pathsep}{os.environ['PATH']}"
    code, output = await run("bash", "-c", command, env={**scene.box, "PATH": path}, timeout_s=100)
    assert code == 0, output
    await expect(row).to_contain_text("ONLINE")
    await expect(row).to_contain_text("NVIDIA A10G ×1")
    await expect(row).to_contain_text("simulated")
    scene.runner_id = (await row.get_by_role("link", name="my first box").get_attribute("href") or "").split("/")[-1]


async def _registers_and_checks_the_digits(page: Page, scene: Scene) -> None:
    digits = scene.folder / "digits of the page"
    code, output = await run(RUNNER, "sample", "digits", str(digits), env=scene.box)
    assert code == 0, output
    await _opens(page, "Workflows")
    await page.get_by_role("tab", name="Datasets").click()
    await page.get_by_role("main").get_by_role("button", name="Register a dataset").first.click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("Name", exact=True).fill("digits of the page")
    await dialog.get_by_label("Location").fill(str(digits))
    await dialog.get_by_role("button", name="Register", exact=True).click()
    box = dialog.get_by_label("On which box")
    await box.select_option(scene.runner_id)
    await dialog.get_by_role("button", name="Check it").click()
    await expect(dialog).to_contain_text("usable", timeout=_TRAINED_MS)
    await expect(dialog).to_contain_text("1,797 in 10 classes")
    await dialog.get_by_role("link", name="Make a workflow").click()


async def _makes_a_workflow(page: Page, scene: Scene) -> None:
    main = page.get_by_role("main")
    await main.get_by_label("Name", exact=True).fill("digits, small")
    await expect(main.get_by_label("Dataset", exact=True)).to_contain_text("digits of the page")
    await main.get_by_role("radio", name=re.compile("resnet-tiny")).check()
    await main.get_by_role("button", name="Save", exact=True).click()
    await expect(page.get_by_role("heading", level=1, name="digits, small")).to_be_visible()
    await expect(page).to_have_url(re.compile(r"/workflows/wf_"))
    scene.workflow_id = _id_in(page)


async def _runs_it(page: Page, name: str, *, epochs: int, advanced: bool) -> None:
    await page.get_by_role("button", name="Run Training").click()
    dialog = page.get_by_role("dialog", name="Training Settings")
    await dialog.get_by_label("Name of the training").fill(name)
    await dialog.get_by_label("Epochs").fill(str(epochs))
    await dialog.get_by_label("Evaluation preview and recommendations").set_checked(advanced)
    await dialog.get_by_label("Confusion matrix").set_checked(advanced)
    await dialog.get_by_role("combobox", name="Runner").click()
    await dialog.get_by_role("option", name=re.compile("my first box")).first.click()
    # 2.5 for the GPU, half as much again for the previews.
    await expect(dialog).to_contain_text("3.75 minutes a minute" if advanced else "2.5 minutes a minute")
    await dialog.get_by_role("button", name="Run Training").click()
    await expect(page.get_by_role("heading", level=1, name=name)).to_be_visible()


async def _watches_the_loss_fall(page: Page) -> None:
    main = page.get_by_role("main")
    await expect(main.get_by_text("FINISHED").first).to_be_visible(timeout=_TRAINED_MS)
    await expect(
        main.get_by_text(re.compile(r"^Finished after [\d,]+ steps in 3 epochs\. It cost \d+\.\d+ minutes"))
    ).to_be_visible()
    await main.get_by_text("All values as a table").click()
    for series in ("train/loss", "validation/loss"):
        cells = await _row(main, series).get_by_role("cell").all_inner_texts()
        newest, lowest, highest = (float(text) for text in cells[1:4])
        assert lowest <= newest < highest, cells
    assert float((await _row(main, "validation/accuracy").get_by_role("cell").all_inner_texts())[1]) > 0.5


async def _looks_at_previews_and_matrix(page: Page) -> None:
    panel = page.get_by_role("tabpanel")
    await page.get_by_role("tab", name="Evaluation preview").click()
    await expect(panel.get_by_role("img").first).to_be_visible()
    await page.get_by_role("tab", name="Confusion matrix").click()
    await expect(panel.get_by_text("columns: ground truth")).to_be_visible()
    await page.get_by_role("tab", name="Recommendations").click()
    await expect(panel).not_to_be_empty()
    await page.get_by_role("tab", name="Logs").click()
    await expect(panel.get_by_text("1,438 to train on and 359 to validate on")).to_be_visible()


async def _downloads_what_the_log_names(page: Page, scene: Scene, folder: Path) -> None:
    await page.get_by_role("tab", name="Checkpoints").click()
    row = page.get_by_role("row").filter(has_text="best")
    async with page.expect_download() as started:
        await row.get_by_role("button", name="Download").click()
    download = await started.value
    file = folder / "downloaded"
    await download.save_as(file)
    saved = {
        event.checkpoint.name: event.checkpoint.sha256
        for event in await _events(scene.platform, scene.job_id, CheckpointSaved)
    }
    assert hashlib.sha256(file.read_bytes()).hexdigest() == saved[download.suggested_filename]


async def _stops_it(page: Page) -> None:
    main = page.get_by_role("main")
    await expect(main.get_by_text("RUNNING").first).to_be_visible(timeout=_TRAINED_MS)
    await expect(main.get_by_text(re.compile(r"^step [\d,]+")).first).to_be_visible()
    await main.get_by_role("button", name="Stop training…").click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("Reason").fill("seen enough")
    await dialog.get_by_role("button", name="Stop training").click()
    await expect(
        main.get_by_text(re.compile(r"^Killed after .*stopped by (a )?person: seen enough\. It cost"))
    ).to_be_visible()


async def _reads_what_both_cost(page: Page, platform: SharedPlatform, *job_ids: str) -> None:
    await _opens(page, "Usage")
    main = page.get_by_role("main")
    for name in ("digits by the page", "to be stopped"):
        await expect(main.get_by_text(name).first).to_be_visible()
    async with grpc.aio.insecure_channel(platform.endpoints["quota"]) as channel:
        quota, auth = QuotaServiceStub(channel), bearer(platform.token)
        usage = await quota.GetUsage(quota_pb2.GetUsageRequest(), metadata=auth)
        charges = (await quota.ListCharges(quota_pb2.ListChargesRequest(), metadata=auth)).charges
    assert {charge.job_id for charge in charges} >= set(job_ids)
    await expect(main.get_by_text(minutes(usage.used_milliminutes)).first).to_be_visible()
    for charge in charges:
        if charge.job_id in job_ids:
            await expect(main.get_by_text(minutes(charge.milliminutes)).first).to_be_visible()


async def _reads_the_start_in_words(page: Page, name: str) -> None:
    await _opens(page, "Event log")
    started = page.get_by_role("region", name="Events").get_by_role("listitem").filter(has_text="JobStarted")
    await expect(started.filter(has_text=name)).to_contain_text("the training runs, with random weights")


async def _opens(page: Page, name: str) -> None:
    await page.get_by_role("navigation", name="Pages").get_by_role("link", name=name).click()
    await expect(page.get_by_role("heading", level=1)).to_be_visible()


def _row(main: Locator, series: str) -> Locator:
    return main.get_by_role("row").filter(has=main.page.get_by_role("cell", name=series, exact=True))


def _id_in(page: Page) -> str:
    return page.url.partition("?")[0].rstrip("/").split("/")[4]


async def _events(platform: SharedPlatform, job_id: str, kind: type[CheckpointSaved]) -> list[CheckpointSaved]:
    wanted = eventlog_pb2.EventFilter(stream_kind="job", stream_id=job_id, types=[kind.DESCRIPTOR.name])
    found = []
    async with grpc.aio.insecure_channel(platform.endpoints["eventlog"]) as channel:
        pages = EventLogServiceStub(channel).ReadEvents(
            eventlog_pb2.ReadEventsRequest(filter=wanted), metadata=bearer(platform.token)
        )
        async for page in pages:
            for record in page.events:
                event = kind()
                record.payload.Unpack(event)
                found.append(event)
    return found
