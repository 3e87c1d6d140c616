"""The event log for analysts: `connect(server, token)`, then `replay(...)` to Arrow.

from services.client import connect

started = connect().replay("JobStarted", since="2026-11-01").to_table()
"""

from services.client.log import Log, Replay, connect

__all__ = ["Log", "Replay", "connect"]
