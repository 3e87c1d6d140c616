"""What can go wrong for an analyst, in one sentence each."""

from services.cli.errors import CliError


class LogReplaced(CliError):
    """Positions of one log mean nothing in another: a restored database continues under a new log id."""

    def __init__(self, known: str, found: str) -> None:
        super().__init__(
            f"this is the log {found}, and what was read before came from the log {known}: the platform's database was "
            "restored meanwhile; begin again, into another folder"
        )


class NoAnswer(CliError):
    """A platform that is away is waited for, but not for ever."""


class ExportDiffers(CliError):
    """A folder holds one export: what it holds is continued, and nothing else."""


class ExportDamaged(CliError):
    """The folder's manifest says what is in it; without it nothing in it can be trusted."""


class ExportRuns(CliError):
    """One process writes to a folder."""


class NotInstalled(CliError):
    """Typed columns and SQL need libraries that nothing else does."""

    def __init__(self, what: str, otherwise: str = "") -> None:
        super().__init__(f"{what} needs duckdb and pyarrow: pip install duckdb pyarrow{otherwise}")


class QueryFailed(CliError):
    """The query, or what it needs, is wrong."""
