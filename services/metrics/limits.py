"""What one training may report. A record beyond a limit is skipped and told; it never stops the rest."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    series_per_job: int = 1000
    name_length: int = 200
    values_per_record: int = 1000
    # By the stamps of the records, so that what was held back by an outage is not taken for a flood.
    points_per_s: int = 20_000
    log_line_bytes: int = 16 << 10
    batch_records: int = 10_000


# The spools that there are, with the kinds of record that each may hold.
SPOOLS: dict[str, frozenset[str]] = {
    "trainer": frozenset({"points", "evaluation", "preview_image", "facts"}),
    "log": frozenset({"log_line"}),
    "system": frozenset({"points"}),
}
