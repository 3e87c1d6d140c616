"""The log spool: what a training prints, one record a line, and what had no room, told in it. Standard library only."""

import contextlib
import json
from collections import deque
from pathlib import Path
from typing import Any

from runner_agent import clock, files, spool_budget
from runner_agent.line_file import LineFile
from runner_agent.losses import DISK_FULL, LOG_LINES, SPOOL_FULL, Loss, Losses

# What a warm trainer printed before there was a log to write it to.
KEPT_WARM_LINES = 100
DROPPED_FILE = "dropped.json"


class LogSpool:
    """`spool/log.jsonl`. Lines that have no room are dropped and counted, never waited for.

    Counts the losses of the attempt's other spools as well. All of them are told in one line of the log: when lines
    have room again, at the latest at the end.
    """

    def __init__(self) -> None:
        self._file: LineFile | None = None
        self._folder = Path()
        self._budget: spool_budget.Budget | None = None
        self._gate = spool_budget.first_to_go()
        self._untold = Losses()
        self._total = Losses()
        self._warm: deque[tuple[int, bytes, bool]] = deque(maxlen=KEPT_WARM_LINES)
        self.last_error_line = ""

    def open(self, folder: Path) -> None:
        """Write to the attempt's folder of spools from now on. Raises OSError where there cannot be one."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._budget = spool_budget.Budget(folder)
        self._file = LineFile(folder / "log.jsonl")
        self._write(list(self._warm))
        self._warm.clear()

    def add(self, lines: list[bytes], *, error: bool) -> None:
        at_ms = clock.wall_ms()
        records = [(at_ms, line, error) for line in lines]
        if error:
            for line in lines:
                if line.strip():
                    self.last_error_line = line.decode(errors="replace").strip()[:500]
        if self._file is None:
            self._warm.extend(records)
        else:
            self._write(records)

    def lost(self, loss: Loss) -> None:
        """Something of any spool of the attempt was dropped."""
        self._untold.add(loss)
        self._total.add(loss)

    def tell_losses(self, *, at_the_end: bool = False) -> None:
        """Write the one line about them, where there is something to tell and room for it, or at the end."""
        if self._file is not None and self._untold and (at_the_end or self._has_room()):
            self._append([])

    @property
    def dropped(self) -> dict[str, int]:
        """What was dropped since the beginning, by kind."""
        return self._total.total()

    def _has_room(self) -> bool:
        return self._budget is not None and self._gate.is_open(self._budget.share(clock.boottime_ns()))

    def _write(self, records: list[tuple[int, bytes, bool]]) -> None:
        if not records:
            return
        if self._has_room():
            self._append(records)
        else:
            self.lost(Loss(LOG_LINES, len(records), records[0][0], records[-1][0], SPOOL_FULL))

    def _append(self, records: list[tuple[int, bytes, bool]]) -> None:
        """Write the line about losses, if there are any, and the records; what the disk does not take is lost."""
        assert self._file is not None
        assert self._budget is not None
        lines = [_record(*record) for record in records]
        notice = 0
        if self._untold:
            sentence = self._untold.sentence(self._budget.limit_bytes).encode()
            lines.insert(0, _record(clock.wall_ms(), sentence, True))
            notice = 1
        taken = self._file.append(lines)
        self._budget.wrote(sum(len(line) for line in lines[:taken]))
        if notice and taken:
            self._untold.take()
            self._save()
        left = records[max(0, taken - notice) :]
        if left:
            self.lost(Loss(LOG_LINES, len(left), left[0][0], left[-1][0], DISK_FULL))

    def _save(self) -> None:
        """For `tether-runner disk`, which comes when the keeper is gone."""
        content: dict[str, Any] = {"dropped": self.dropped}
        with contextlib.suppress(OSError):
            files.replace(self._folder / DROPPED_FILE, json.dumps(content).encode(), durable=False)


def _record(at_ms: int, line: bytes, error: bool) -> bytes:
    record = {"at_ms": at_ms, "log_line": {"text": line.decode(errors="replace").rstrip("\r"), "error": error}}
    return json.dumps(record, ensure_ascii=False).encode() + b"\n"
