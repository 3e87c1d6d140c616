"""Names of tokens, kept apart from the log because a person's name must be erasable; see docs/decisions/0009."""

from collections.abc import Mapping

from protos.events.v1.workspace_pb2 import TokenCreated
from services.postgres import Connection, Pool
from services.scheduler.domain.token import Token


class TokenNames:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def adopt(self) -> None:
        """Take over names from events of versions that wrote them there; once, and what was erased stays erased."""
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute("lock table scheduler.token_names_adopted in exclusive mode")
            if await connection.fetchval("select exists (select from scheduler.token_names_adopted)"):
                return
            await self._adopt(connection)
            await connection.execute(
                "insert into scheduler.token_names_adopted (position) "
                "select coalesce(max(position), 0) from eventlog.events"
            )

    async def _adopt(self, connection: Connection) -> None:
        # The list of types is that of the index `credential_events`.
        rows = await connection.fetch(
            "select workspace_id, payload from eventlog.events where type in ('TokenCreated', 'TokenRevoked', "
            "'RunnerRegistered', 'RunnerSecretKeyRegenerated', 'RunnerUninstalled') and type = 'TokenCreated'"
        )
        created = [(row["workspace_id"], TokenCreated.FromString(row["payload"])) for row in rows]
        await connection.executemany(
            "insert into scheduler.token_names (token_id, workspace_id, name) values ($1, $2, $3) "
            "on conflict do nothing",
            [(event.token_id, workspace_id, event.name) for workspace_id, event in created if event.name],
        )

    async def of(self, workspace_id: str) -> Mapping[str, str]:
        """Names by token id; one that was erased, or got lost, is not there."""
        rows = await self._pool.fetch(
            "select token_id, name from scheduler.token_names where workspace_id = $1", workspace_id
        )
        return {row["token_id"]: row["name"] for row in rows}

    async def keep(self, workspace_id: str, token_id: str, name: str) -> None:
        await self._pool.execute(
            "insert into scheduler.token_names (token_id, workspace_id, name) values ($1, $2, $3) "
            "on conflict do nothing",
            token_id,
            workspace_id,
            name,
        )

    async def erase(self, workspace_id: str, token_id: str) -> None:
        """The id stays with an empty name: a name that an old event still holds is not taken over again."""
        await self._pool.execute(
            "insert into scheduler.token_names (token_id, workspace_id, name) values ($1, $2, '') "
            "on conflict (token_id) do update set name = ''",
            token_id,
            workspace_id,
        )


def name_of(token: Token, names: Mapping[str, str]) -> str:
    """What people call a token. A sign-in has no name of its own: what is erased of the person's is gone with it."""
    own = names.get(token.token_id)
    if own is not None or not token.person:
        return own or ""
    person = names.get(token.person, "")
    return f"{person} (page)" if person else ""
