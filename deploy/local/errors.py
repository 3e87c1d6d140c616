"""What can go wrong with a platform on this machine, each in one sentence that tells the way out."""

from pathlib import Path


class LocalError(Exception):
    """Something that the person at the keyboard can put right; the message is shown as it is."""


class StartFailed(LocalError):
    """A process of the platform must answer its health probe before the next one is started."""

    def __init__(self, name: str, what: str, log: Path) -> None:
        tail = last_lines(log)
        # For where there is room for one line only.
        self.sentence = f"it did not start: {what}; see {log}"
        says = "its log is empty" if not tail else "its log ends with:\n  " + "\n  ".join(tail)
        super().__init__(f"{name} did not start: {what}; see {log}; {says}")


def last_lines(log: Path, count: int = 8) -> list[str]:
    """The last `count` lines of a log, read from its last 16 KiB; none when there is no such file."""
    try:
        with log.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - 16384))
            return file.read().decode("utf-8", "replace").splitlines()[-count:]
    except FileNotFoundError:
        return []
