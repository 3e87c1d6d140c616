"""What people may not do, and names that are no names: seen at once, and never run."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from playwright.async_api import Page, expect

from protos.events.v1.workspace_pb2 import ROLE_VIEWER
from protos.scheduler.v1 import access_pb2, job_pb2, runner_pb2, workflow_pb2
from protos.scheduler.v1.access_pb2_grpc import AccessServiceStub
from protos.scheduler.v1.job_pb2_grpc import JobServiceStub
from protos.scheduler.v1.runner_pb2_grpc import RunnerServiceStub
from protos.scheduler.v1.workflow_pb2_grpc import WorkflowServiceStub
from protos.training.v1.training_pb2 import Workflow
from tests.support.browser import settled, window
from tests.support.faults import box_on
from tests.support.platform import SharedPlatform
from tests.support.servers import bearer

pytestmark = [pytest.mark.browser, pytest.mark.needs_stack]

_HOSTILE = ("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>')


class Clients:
    def __init__(self, channel: grpc.aio.Channel, token: str) -> None:
        self._auth = bearer(token)
        self.runners: Any = RunnerServiceStub(channel)
        self.workflows: Any = WorkflowServiceStub(channel)
        self.jobs: Any = JobServiceStub(channel)
        self.access: Any = AccessServiceStub(channel)

    async def __call__(self, method: Any, request: Any) -> Any:
        return await method(request, metadata=self._auth, timeout=20)

    async def workflow(self, name: str, dataset: str) -> str:
        """The id of a new workflow, on a dataset that nobody has looked at."""
        request = workflow_pb2.RegisterDatasetRequest(name=dataset, location="/none")
        made = await self(self.workflows.RegisterDataset, request)
        wanted = Workflow(name=name, dataset_id=made.dataset.dataset_id, architecture_id="resnet-tiny")
        saved = await self(self.workflows.CreateWorkflow, workflow_pb2.CreateWorkflowRequest(workflow=wanted))
        return str(saved.workflow.workflow.workflow_id)


@pytest.fixture
async def clients(page_platform: SharedPlatform) -> AsyncIterator[Clients]:
    async with grpc.aio.insecure_channel(page_platform.endpoints["scheduler"]) as channel:
        yield Clients(channel, page_platform.token)


async def test_a_runner_that_is_suspended_meanwhile_cannot_be_chosen_any_more_and_says_why(
    page_platform: SharedPlatform, clients: Clients, tmp_path: Any
) -> None:
    async with box_on(page_platform, tmp_path, "suspended-meanwhile") as stack, window(page_platform) as browser:
        workflow_id = await clients.workflow("to be run", "of the suspended runner")
        page = await browser.sign_in()
        await browser.go(page, f"/workflows/{workflow_id}?run=1")
        dialog = page.get_by_role("dialog", name="Training Settings")
        chosen = dialog.get_by_role("combobox", name="Runner")
        await _chooses(page, stack.runner)
        start = dialog.get_by_role("button", name="Run Training")
        await expect(start).to_be_enabled()
        suspend = runner_pb2.SuspendRunnerRequest(runner_id=stack.runner, reason="the box gets more memory")
        await clients(clients.runners.SuspendRunner, suspend)
        await expect(start).to_be_disabled(timeout=2_000)
        await expect(chosen).to_contain_text(stack.runner)
        await expect(chosen).to_contain_text("SUSPENDED")
        await expect(dialog.get_by_role("alert")).to_contain_text("suspended")
        await chosen.click()
        option = dialog.get_by_role("option").filter(has_text=stack.runner).first
        await expect(option).to_be_disabled()
        await clients(clients.runners.ResumeRunner, runner_pb2.ResumeRunnerRequest(runner_id=stack.runner))
        await expect(option).to_be_enabled()
        assert browser.amiss() == []


async def test_a_name_that_is_a_script_is_shown_as_it_was_written_and_never_run(
    page_platform: SharedPlatform, clients: Clients
) -> None:
    job_ids = []
    for name in _HOSTILE:
        await clients(clients.runners.CreateRunner, runner_pb2.CreateRunnerRequest(name=name))
        await clients(clients.access.CreateToken, access_pb2.CreateTokenRequest(name=name, role=ROLE_VIEWER))
        workflow_id = await clients.workflow(name, f"dataset {name}")
        submit = job_pb2.SubmitJobRequest(workflow_id=workflow_id, name=name, runner_id=name, queue=True)
        job_ids.append((await clients(clients.jobs.SubmitJob, submit)).job.job_id)
    try:
        async with window(page_platform) as browser:
            page = await browser.sign_in()
            places = ("/runners", "/workflows", "/workflows?tab=datasets", "/trainings", "/events", "/settings/tokens")
            for path in (
                *places,
                f"/trainings/{job_ids[0]}",
                f"/trainings/{job_ids[1]}",
                f"/workflows/{workflow_id}?run=1",
            ):
                await browser.go(page, path)
                await settled(page)
                shown = _HOSTILE if path in places else (_HOSTILE[path.endswith(job_ids[1]) or "workflows" in path],)
                for name in shown:
                    await expect(page.get_by_text(name).first).to_be_visible()
                assert await page.locator('img[src="x"]').count() == 0
            assert browser.amiss() == []
    finally:
        for job_id in job_ids:
            await clients(clients.jobs.StopJob, job_pb2.StopJobRequest(job_id=job_id))


async def _chooses(page: Page, runner: str) -> None:
    dialog = page.get_by_role("dialog", name="Training Settings")
    await dialog.get_by_role("combobox", name="Runner").click()
    await dialog.get_by_role("option").filter(has_text=runner).first.click()
    await expect(dialog.get_by_role("combobox", name="Runner")).to_contain_text(runner)
