"""The embedded PostgreSQL and NATS by themselves."""

import asyncpg

from tests.support.platform import DatabaseUrls


async def test_each_service_owns_its_schema_and_no_other(database: DatabaseUrls) -> None:
    connection = await asyncpg.connect(database.quota)
    try:
        await connection.execute("CREATE TABLE quota.mine (n int)")
        for other in ("eventlog", "scheduler", "metrics", "public"):
            try:
                await connection.execute(f"CREATE TABLE {other}.theirs (n int)")
            except asyncpg.InsufficientPrivilegeError:
                continue
            raise AssertionError(f"tether_quota may create tables in {other}")
        assert await connection.fetchval("SELECT pg_has_role('tether_quota', 'tether_service', 'member')")
    finally:
        await connection.close()
