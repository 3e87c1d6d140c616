"""The platform's database with its roles and schemas."""

from collections.abc import Mapping
from pathlib import Path

import asyncpg

SERVICES = ("eventlog", "scheduler", "quota", "metrics")
ROLES = Path(__file__).with_name("roles.sql")
TIMEOUT_S = 30.0


async def create_database(superuser_url: str, name: str) -> None:
    """The database exists afterwards. `superuser_url` names another database of the cluster."""
    connection = await asyncpg.connect(superuser_url, timeout=TIMEOUT_S, command_timeout=TIMEOUT_S)
    try:
        if not await connection.fetchval("SELECT true FROM pg_database WHERE datname = $1", name):
            await connection.execute(f"CREATE DATABASE {name}")
    finally:
        await connection.close(timeout=TIMEOUT_S)


async def create_roles(superuser_url: str, passwords: Mapping[str, str]) -> None:
    """Roles, schemas and grants exist in the database that the URL names, with these passwords by service."""
    connection = await asyncpg.connect(superuser_url, timeout=TIMEOUT_S, command_timeout=TIMEOUT_S)
    try:
        for service in SERVICES:
            await connection.execute(
                "SELECT set_config($1, $2, false)", f"tether.password_{service}", passwords[service]
            )
        await connection.execute(ROLES.read_text())
    finally:
        await connection.close(timeout=TIMEOUT_S)
