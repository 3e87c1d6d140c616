"""Many more jobs in quota's read model than the log has: what a log ten times as long would have left there."""

from services.postgres import Connection

# What tells whose row it is, in the tables that have rows for each job; the first one that a table has decides.
_KEYS = ("job_id", "attempt_id")
_TIMEOUT_S = 600


async def multiply_jobs(connection: Connection, copies: int, head: int) -> int:
    """Write each job that has ended `copies` times more, under other names and positions, and add them to the totals.

    Every table of the schema that names jobs or attempts takes part, whatever it is called; what runs is left alone.
    Returns the number of jobs; `connection` is a superuser's.
    """
    # A power of two, so that the nodes under which spans of positions are filed move with the positions.
    step = 1 << head.bit_length()
    async with connection.transaction():
        await connection.execute(
            "create temporary table running on commit drop as select job_id, attempt_id from quota.attempts "
            "where started_position > 0 and outcome_position = 0"
        )
        for table, columns in (await _tables(connection)).items():
            key = next(key for key in _KEYS if key in columns)
            values = ", ".join(_value(column, step) for column in columns)
            await connection.execute(
                f"insert into quota.{table} ({', '.join(columns)}) select {values} "
                f"from quota.{table}, generate_series(1, {copies}) n where {key} not in (select {key} from running)",
                timeout=_TIMEOUT_S,
            )
        await connection.execute(
            "insert into quota.usage_history (workspace_id, period, position, charged_ms_micros, adjusted_ms_micros) "
            f"select workspace_id, period, h.position + n * {step}::bigint, "
            "u.charged_ms_micros * n + h.charged_ms_micros, h.adjusted_ms_micros "
            "from quota.usage_history h join quota.usage u using (workspace_id, period), "
            f"generate_series(1, {copies}) n",
            timeout=_TIMEOUT_S,
        )
        await connection.execute(f"update quota.usage set charged_ms_micros = charged_ms_micros * {copies + 1}")
    # As autovacuum would have by now.
    await connection.execute("vacuum analyze", timeout=_TIMEOUT_S)
    jobs: int = await connection.fetchval("select count(*) from quota.jobs")
    return jobs


async def _tables(connection: Connection) -> dict[str, list[str]]:
    """Column names by table."""
    rows = await connection.fetch(
        "select table_name, array_agg(column_name::text) as columns from information_schema.columns "
        "where table_schema = 'quota' group by table_name "
        "having array_agg(column_name::text) && $1::text[] order by table_name",
        list(_KEYS),
    )
    return {row["table_name"]: row["columns"] for row in rows}


def _value(column: str, step: int) -> str:
    """The column in the n-th copy of a row. Zero, or nothing, says that there is no such position."""
    if column in _KEYS:
        return f"{column} || '_' || n"
    if column in ("position", "span_node") or column.endswith("_position"):
        return f"case when {column} > 0 then {column} + n * {step}::bigint else {column} end"
    return column
