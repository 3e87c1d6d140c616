"""Signing in on the page: one code opens it once, for minutes, with the role of the token that made it."""

import asyncio
import json
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from typing import Any

import grpc
import pytest

from protos.common.v1.errors_pb2 import BadCredentials, LimitExceeded, WrongState
from protos.events.v1.workspace_pb2 import TOKEN_KIND_SIGN_IN, Role
from protos.scheduler.v1 import access_pb2 as pb
from protos.scheduler.v1 import job_pb2
from protos.scheduler.v1.access_pb2_grpc import AccessServiceStub
from services.clock import PlatformClock
from services.postgres import Pool
from services.scheduler import bootstrap as scheduler
from services.scheduler.domain.token import MAX_CODES
from services.scheduler.rebuild import rebuild
from tests.support.control import Control, control_plane
from tests.support.eventually import eventually
from tests.support.log import pool_on
from tests.support.platform import DatabaseUrls
from tests.support.servers import bearer, running, scheduler_settings
from tests.support.typed_errors import detail_of

_HOUR_MS = 3_600_000


async def refused(call: "Awaitable[object]") -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    return error.value


async def make(
    control: Control, name: str, role: Role.ValueType = Role.ROLE_MEMBER, **more: Any
) -> pb.CreateTokenResponse:
    return await control.access.CreateToken(pb.CreateTokenRequest(name=name, role=role, **more), metadata=control.auth)


async def who(control: Control, secret: str) -> pb.WhoAmIResponse:
    return await control.access.WhoAmI(pb.WhoAmIRequest(), metadata=bearer(secret))


async def listed(control: Control) -> dict[str, pb.Token]:
    found = await control.access.ListTokens(pb.ListTokensRequest(), metadata=control.auth)
    return {token.token_id: token for token in found.tokens}


async def test_a_code_is_changed_once_for_a_token_of_its_makers_role_and_name(database: DatabaseUrls) -> None:
    async with control_plane(database) as control, pool_on(database.admin) as pool:
        ann = await make(control, "Ann")
        request = pb.CreateSignInCodeRequest(request_id="one")
        made = await control.access.CreateSignInCode(request, metadata=bearer(ann.secret))
        assert (made.code[:3], made.code_withheld) == ("tc_", False)
        again = await control.access.CreateSignInCode(request, metadata=bearer(ann.secret))
        assert (again.code, again.code_withheld, again.position) == ("", True, made.position), "shown once"

        signed = await control.sign_in(made.code)
        token = signed.token
        assert (token.name, token.role, token.kind) == ("Ann (page)", Role.ROLE_MEMBER, TOKEN_KIND_SIGN_IN)
        assert abs(token.expires_at_ms - token.created_at_ms - 12 * _HOUR_MS) < 60_000
        me = await who(control, signed.secret)
        assert (me.role, me.name, me.expires_at_ms) == (Role.ROLE_MEMBER, "Ann (page)", token.expires_at_ms)
        assert me.subject_id == ann.token.token_id, "what she does on the page is done by her"
        assert (await who(control, ann.secret)).name == "Ann"
        control.token, admin = signed.secret, control.token
        await control.dataset()
        control.token = admin
        actor = await pool.fetchval("select actor from eventlog.events where type = 'DatasetRegistered'")
        assert actor == f"token:{ann.token.token_id}"

        error = await refused(who(control, await control.sign_in_code()))
        assert detail_of(error, BadCredentials).cause == "sign_in_code", "a code is no token"
        assert (await refused(control.sign_in(""))).code() == grpc.StatusCode.INVALID_ARGUMENT
        for code in (made.code, "tc_never_made", ann.secret):
            error = await refused(control.sign_in(code))
            assert error.code() == grpc.StatusCode.UNAUTHENTICATED
            assert "`tether open`" in (error.details() or "")
            assert detail_of(error, BadCredentials).cause == "unknown"
        shown = await listed(control)
        assert [one.name for one in shown.values()] == ["first admin", "Ann", "Ann (page)"], "codes are not listed"


async def test_of_many_who_bring_one_code_at_once_to_two_schedulers_one_gets_in(database: DatabaseUrls) -> None:
    async with AsyncExitStack() as stack:
        control = await stack.enter_async_context(control_plane(database))
        other = await stack.enter_async_context(running(scheduler.serve, scheduler_settings(database.scheduler)))
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(other))
        replicas = [control.access, AccessServiceStub(channel)]
        pool = await stack.enter_async_context(pool_on(database.admin))
        for _ in range(3):
            code = await control.sign_in_code()
            request = pb.SignInRequest(code=code)
            calls = [asyncio.ensure_future(replicas[n % 2].SignIn(request)) for n in range(16)]
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
            won = [one for one in outcomes if isinstance(one, pb.SignInResponse)]
            lost = {one.code() for one in outcomes if isinstance(one, grpc.aio.AioRpcError)}
            assert (len(won), lost) == (1, {grpc.StatusCode.UNAUTHENTICATED})
        made = "select count(*) from eventlog.events where type = 'TokenCreated' and actor like 'token:%'"
        assert await pool.fetchval(made) == 6, "three codes and three sign-ins"


async def test_an_unknown_code_appends_nothing_and_locks_nothing(database: DatabaseUrls) -> None:
    async with control_plane(database) as control, pool_on(database.admin) as pool:
        head = await pool.fetchval("select max(position) from eventlog.events")
        async with pool.acquire() as connection, connection.transaction():
            # Whoever wrote or locked for it would wait here.
            await connection.execute(
                "lock table eventlog.events, eventlog.streams, scheduler.workspaces in exclusive mode"
            )
            async with asyncio.timeout(10):
                error = await refused(control.sign_in("tc_unknown"))
        assert error.code() == grpc.StatusCode.UNAUTHENTICATED
        assert await pool.fetchval("select max(position) from eventlog.events") == head


async def test_codes_and_sign_ins_end_with_the_token_that_made_them(database: DatabaseUrls) -> None:
    async with control_plane(database) as control:
        bob = await make(control, "Bob", expires_at_ms=PlatformClock().now_ms() + _HOUR_MS)
        signed = await control.sign_in(await control.sign_in_code(bob.secret))
        assert signed.token.expires_at_ms == bob.token.expires_at_ms, "not twelve hours"
        through_page = await control.sign_in(await control.sign_in_code(signed.secret))
        assert through_page.token.expires_at_ms == bob.token.expires_at_ms, "nobody prolongs his own sign-in"
        code = await control.sign_in_code(bob.secret)
        watch = control.jobs.WatchJobs(job_pb2.WatchJobsRequest(), metadata=bearer(signed.secret))
        assert not (await anext(aiter(watch))).jobs

        revoke = pb.RevokeTokenRequest(token_id=bob.token.token_id)
        await control.access.RevokeToken(revoke, metadata=control.auth)
        assert (await refused(control.sign_in(code))).code() == grpc.StatusCode.UNAUTHENTICATED
        for secret in (signed.secret, through_page.secret):
            assert (await refused(who(control, secret))).code() == grpc.StatusCode.UNAUTHENTICATED
        async with asyncio.timeout(10):
            # The open stream is looked at each second.
            error = await refused(_drained(watch))
        assert detail_of(error, BadCredentials).cause == "revoked"
        assert [one.name for one in (await listed(control)).values()] == ["first admin", "Bob"]


async def test_a_code_is_refused_when_its_minutes_are_over(database: DatabaseUrls) -> None:
    async with control_plane(database, sign_in_code_ms=1_000) as control:
        made = await control.access.CreateSignInCode(pb.CreateSignInCodeRequest(), metadata=control.auth)
        await eventually(lambda: PlatformClock().now_ms() > made.expires_at_ms + 100)
        assert (await refused(control.sign_in(made.code))).code() == grpc.StatusCode.UNAUTHENTICATED


async def test_only_a_sign_in_signs_out_and_it_leaves_nothing(database: DatabaseUrls) -> None:
    async with control_plane(database) as control, pool_on(database.scheduler) as pool:
        error = await refused(control.access.SignOut(pb.SignOutRequest(), metadata=control.auth))
        assert error.code() == grpc.StatusCode.FAILED_PRECONDITION
        assert "`tether tokens revoke tok_" in (error.details() or "")
        assert detail_of(error, WrongState).kind == "token"

        before = await state(pool)
        # More often than unused codes may lie about: used ones are not counted.
        for _ in range(MAX_CODES + 1):
            signed = await control.sign_in(await control.sign_in_code())
            await control.access.SignOut(pb.SignOutRequest(), metadata=bearer(signed.secret))
        assert (await refused(who(control, signed.secret))).code() == grpc.StatusCode.UNAUTHENTICATED
        assert await state(pool) == before
        async with pool.acquire() as connection:
            await rebuild(connection, pool)
        assert await state(pool) == before


@pytest.mark.parametrize("signs_out", [True, False])
async def test_who_signed_in_through_a_sign_in_is_out_with_it(database: DatabaseUrls, signs_out: bool) -> None:
    async with control_plane(database) as control:
        signed = await control.sign_in(await control.sign_in_code())
        through_it = await control.sign_in(await control.sign_in_code(signed.secret))
        waiting = await control.sign_in_code(through_it.secret)
        if signs_out:
            await control.access.SignOut(pb.SignOutRequest(), metadata=bearer(signed.secret))
        else:
            revoke = pb.RevokeTokenRequest(token_id=signed.token.token_id)
            await control.access.RevokeToken(revoke, metadata=control.auth)
        for secret in (signed.secret, through_it.secret):
            assert (await refused(who(control, secret))).code() == grpc.StatusCode.UNAUTHENTICATED
        assert (await refused(control.sign_in(waiting))).code() == grpc.StatusCode.UNAUTHENTICATED
        assert [one.name for one in (await listed(control)).values()] == ["first admin"]


async def test_what_is_longer_than_any_code_is_refused_for_that(database: DatabaseUrls) -> None:
    async with control_plane(database) as control:
        error = await refused(control.sign_in("x" * 101))
        assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert "at most 100 characters" in (error.details() or "")


async def test_codes_without_end_meet_a_limit_that_holds_for_one_token_alone(database: DatabaseUrls) -> None:
    async with control_plane(database) as control:
        ann = await make(control, "Ann", Role.ROLE_VIEWER)
        for _ in range(MAX_CODES - 2):
            await control.sign_in_code(ann.secret)
        asked = [control.sign_in_code(ann.secret) for _ in range(5)]
        outcomes = await asyncio.gather(*asked, return_exceptions=True)
        errors = [one for one in outcomes if isinstance(one, grpc.aio.AioRpcError)]
        assert {one.code() for one in errors} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
        assert len(errors) == 3
        limit = detail_of(errors[0], LimitExceeded)
        assert (limit.limit, limit.maximum) == ("unused sign-in codes of one token", MAX_CODES)
        await control.sign_in(await control.sign_in_code())


async def state(pool: Pool) -> list[str]:
    """The tokens that the workspace's row holds."""
    text = await pool.fetchval("select state::jsonb ->> 'tokens' from scheduler.workspaces")
    return sorted(json.loads(text))


async def _drained(stream: "grpc.aio.UnaryStreamCall[Any, Any]") -> None:
    async for _ in stream:
        pass
