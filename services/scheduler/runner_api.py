"""RunnerService: runners as people see and manage them."""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import TypeVar

import grpc
from google.protobuf.message import Message

from protos.eventlog.v1.eventlog_pb2 import EventRecord
from protos.events.v1.runner_pb2 import RunnerRegistered, RunnerSecretKeyRegenerated, SuspensionOwner
from protos.scheduler.v1 import runner_pb2 as pb
from protos.scheduler.v1 import runner_pb2_grpc as pb_grpc
from services.eventlog.append import StreamAppend
from services.ids import new_id, new_secret, sha256
from services.rpc.errors import AlreadyExists, InvalidField, NotFound, checked_labels, checked_name
from services.rpc.kernel import Kernel
from services.rpc.shell import caller
from services.rpc.watch import Hub, Told
from services.scheduler.commands import Commands, Decision
from services.scheduler.contacts import Contacts
from services.scheduler.domain import runner as domain
from services.scheduler.domain.placement import Rates
from services.scheduler.domain.runner import Runner
from services.scheduler.past import Past
from services.scheduler.queries import Queries
from services.scheduler.sessions import Sessions
from services.scheduler.store import Store
from services.scheduler.views import runner_view

_MAX_REASON = 500
_LONGEST_SUSPENSION_MS = 3652 * 86_400_000
_MAX_OVERLAP_MS = 7 * 24 * 3600 * 1000

Answer = TypeVar("Answer", bound=Message)


class RunnerApi(pb_grpc.RunnerServiceServicer):
    def __init__(
        self,
        kernel: Kernel,
        commands: Commands,
        store: Store,
        queries: Queries,
        sessions: Sessions,
        contacts: Contacts,
        hub: Hub,
        rates: Rates,
        past: Past,
    ) -> None:
        self._kernel, self._commands, self._store, self._queries = kernel, commands, store, queries
        self._sessions, self._contacts, self._hub, self._rates, self._past = sessions, contacts, hub, rates, past

    async def CreateRunner(
        self,
        request: pb.CreateRunnerRequest,
        context: "grpc.aio.ServicerContext[pb.CreateRunnerRequest, pb.CreateRunnerResponse]",
    ) -> pb.CreateRunnerResponse:
        name, labels = checked_name("name", request.name), checked_labels(request.labels)
        workspace_id, runner_id, key = caller().workspace_id, new_id("rn"), new_secret("tk")
        registered = RunnerRegistered(name=name, key_sha256=sha256(key), labels=labels)

        async def decide() -> Decision:
            if await self._queries.runner_id(workspace_id, name) is not None:
                raise AlreadyExists("runner", name)
            return Decision(workspace_id, [StreamAppend("runner", runner_id, 0, [registered])])

        def respond(records: Sequence[EventRecord]) -> pb.CreateRunnerResponse:
            last = records[-1]
            created = Runner(runner_id, workspace_id, 1, name, last.recorded_at_us // 1000, labels)
            view = runner_view(created, None, self._rates, 0)
            return pb.CreateRunnerResponse(runner=view, secret_withheld=True, position=last.position)

        answer, repeated = await self._commands.answer(
            request, request.request_id, pb.CreateRunnerResponse, decide, respond
        )
        if not repeated:
            answer.secret_key, answer.secret_withheld = key, False
        return answer

    async def GetRunner(
        self,
        request: pb.GetRunnerRequest,
        context: "grpc.aio.ServicerContext[pb.GetRunnerRequest, pb.GetRunnerResponse]",
    ) -> pb.GetRunnerResponse:
        await self._kernel.reached(request.min_position)
        if request.HasField("as_of"):
            return await self._past.runner(caller().workspace_id, request.runner_id, request.as_of)
        return pb.GetRunnerResponse(runner=await self._view(await self._find(request.runner_id)))

    async def ListRunners(
        self,
        request: pb.ListRunnersRequest,
        context: "grpc.aio.ServicerContext[pb.ListRunnersRequest, pb.ListRunnersResponse]",
    ) -> pb.ListRunnersResponse:
        await self._kernel.reached(request.min_position)
        if request.HasField("as_of"):
            return await self._past.runners(caller().workspace_id, request.as_of)
        runners = await self._queries.runners(caller().workspace_id)
        return pb.ListRunnersResponse(runners=await self._views(runners))

    async def WatchRunners(
        self,
        request: pb.WatchRunnersRequest,
        context: "grpc.aio.ServicerContext[pb.WatchRunnersRequest, pb.WatchRunnersResponse]",
    ) -> AsyncIterator[pb.WatchRunnersResponse]:
        principal = caller()
        with self._hub.watch(principal.workspace_id) as watcher:
            runners = await self._queries.runners(principal.workspace_id)
            yield pb.WatchRunnersResponse(runners=await self._views(runners))
            told = Told()
            for runner in runners:
                told.news(runner.runner_id, runner.version)
            while True:
                changed = await watcher.changed(self._kernel.shell, principal)
                found = [r for runner_id in changed if (r := await self._store.runner(runner_id)) is not None]
                news = [runner for runner in found if told.news(runner.runner_id, runner.version)]
                if news or not changed:
                    yield pb.WatchRunnersResponse(runners=await self._views(news))

    async def SuspendRunner(
        self,
        request: pb.SuspendRunnerRequest,
        context: "grpc.aio.ServicerContext[pb.SuspendRunnerRequest, pb.SuspendRunnerResponse]",
    ) -> pb.SuspendRunnerResponse:
        now_ms = self._kernel.clock.now_ms()
        if len(request.reason) > _MAX_REASON:
            raise InvalidField("reason", request.reason, f"it has at most {_MAX_REASON} characters")
        if request.until_ms and request.until_ms <= now_ms:
            raise InvalidField(
                "until_ms", request.until_ms, "it must lie in the future, or be 0 for until it is lifted"
            )
        if request.until_ms > now_ms + _LONGEST_SUSPENSION_MS:
            raise InvalidField(
                "until_ms", request.until_ms, "it must lie within ten years, or be 0 for until it is lifted"
            )
        found = await self._find(request.runner_id)
        admin = SuspensionOwner.SUSPENSION_OWNER_ADMIN
        return await self._change(
            request,
            request.request_id,
            found.runner_id,
            pb.SuspendRunnerResponse,
            lambda runner: domain.suspend(runner, admin, request.reason, request.until_ms, now_ms),
        )

    async def ResumeRunner(
        self,
        request: pb.ResumeRunnerRequest,
        context: "grpc.aio.ServicerContext[pb.ResumeRunnerRequest, pb.ResumeRunnerResponse]",
    ) -> pb.ResumeRunnerResponse:
        found = await self._find(request.runner_id)
        admin, now_ms = SuspensionOwner.SUSPENSION_OWNER_ADMIN, self._kernel.clock.now_ms()
        return await self._change(
            request,
            request.request_id,
            found.runner_id,
            pb.ResumeRunnerResponse,
            lambda runner: domain.resume(runner, admin, now_ms),
        )

    async def RegenerateSecretKey(
        self,
        request: pb.RegenerateSecretKeyRequest,
        context: "grpc.aio.ServicerContext[pb.RegenerateSecretKeyRequest, pb.RegenerateSecretKeyResponse]",
    ) -> pb.RegenerateSecretKeyResponse:
        if not 0 <= request.overlap_ms <= _MAX_OVERLAP_MS:
            raise InvalidField("overlap_ms", request.overlap_ms, f"it must be from 0 to {_MAX_OVERLAP_MS} (seven days)")
        found, key = await self._find(request.runner_id), new_secret("tk")
        if found.uninstalled:
            raise NotFound("runner", request.runner_id, "it was uninstalled; add a new one with `tether runners add`")
        until_ms = self._kernel.clock.now_ms() + request.overlap_ms if request.overlap_ms else 0
        regenerated = RunnerSecretKeyRegenerated(key_sha256=sha256(key), old_key_valid_until_ms=until_ms)

        async def decide() -> Decision:
            # Nothing that happens to the runner meanwhile makes the new key wrong: no version is expected.
            return Decision(found.workspace_id, [StreamAppend("runner", found.runner_id, None, [regenerated])])

        def respond(records: Sequence[EventRecord]) -> pb.RegenerateSecretKeyResponse:
            return pb.RegenerateSecretKeyResponse(secret_withheld=True, position=records[-1].position)

        answer, repeated = await self._commands.answer(
            request, request.request_id, pb.RegenerateSecretKeyResponse, decide, respond
        )
        answer.runner.CopyFrom(await self._view(found))
        if not repeated:
            answer.secret_key, answer.secret_withheld = key, False
        return answer

    async def UninstallRunner(
        self,
        request: pb.UninstallRunnerRequest,
        context: "grpc.aio.ServicerContext[pb.UninstallRunnerRequest, pb.UninstallRunnerResponse]",
    ) -> pb.UninstallRunnerResponse:
        who, now_ms = caller(), self._kernel.clock.now_ms()
        if len(request.reason) > _MAX_REASON:
            raise InvalidField("reason", request.reason, f"it has at most {_MAX_REASON} characters")
        # A runner's key opens this call for that runner alone; any other does not exist for it.
        wanted = request.runner_id or who.subject_id
        found = await self._find(wanted)
        if who.role == "runner" and found.runner_id != who.subject_id:
            raise NotFound("runner", wanted)
        return await self._change(
            request,
            request.request_id,
            found.runner_id,
            pb.UninstallRunnerResponse,
            lambda runner: domain.uninstall(runner, request.reason, now_ms),
        )

    async def _change(
        self,
        request: Message,
        request_id: str,
        runner_id: str,
        answer_type: type[Answer],
        change: Callable[[Runner], list[Message]],
    ) -> Answer:
        """Run a command on one runner and answer with the runner as it is then."""

        async def decide() -> Decision:
            runner = await self._store.runner(runner_id)
            assert runner is not None  # found before, and runners never vanish
            events = change(runner)
            return Decision(runner.workspace_id, [StreamAppend("runner", runner_id, runner.version, events)])

        def respond(records: Sequence[EventRecord]) -> Answer:
            return answer_type(position=records[-1].position if records else 0)

        answer, _ = await self._commands.answer(request, request_id, answer_type, decide, respond)
        runner = await self._store.runner(runner_id)
        assert runner is not None
        answer.runner.CopyFrom(await self._view(runner))  # type: ignore[attr-defined]
        return answer

    async def _find(self, name_or_id: str) -> Runner:
        """The runner of the caller's workspace with this id or name. Raises NotFound."""
        runner_id = await self._queries.runner_id(caller().workspace_id, name_or_id)
        runner = await self._store.runner(runner_id) if runner_id is not None else None
        if runner is None:
            raise NotFound("runner", name_or_id, "see `tether runners list`")
        return runner

    async def _view(self, runner: Runner) -> pb.Runner:
        return (await self._views([runner]))[0]

    async def _views(self, runners: Sequence[Runner]) -> list[pb.Runner]:
        """As people see them. Of a session that another process holds, the last contact is half a minute old."""
        here = {r.runner_id: self._sessions.heard_at_ms(r.runner_id) for r in runners if r.connected}
        elsewhere = [runner_id for runner_id, heard_at_ms in here.items() if not heard_at_ms]
        contacts = await self._contacts.of(elsewhere) if elsewhere else {}
        views = []
        for runner in runners:
            job = await self._store.job(runner.job_id) if runner.job_id else None
            heard_at_ms = here.get(runner.runner_id, 0)
            if (contact := contacts.get(runner.runner_id)) is not None:
                heard_at_ms = contact.heard_at_ms
            last_contact_ms = max(heard_at_ms, runner.last_contact_at_ms)
            views.append(runner_view(runner, job, self._rates, last_contact_ms))
        return views
