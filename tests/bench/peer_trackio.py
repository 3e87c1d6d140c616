"""Trackio with its own local SQLite, driven by its own client. Prints its figures as JSON."""

import contextlib
import json
import sys
import time

import trackio
from trackio.sqlite_storage import SQLiteStorage

STEPS, SERIES = 2000, 10
QUERIES = 5


def main() -> None:
    # It says on standard output what it does.
    with contextlib.redirect_stdout(sys.stderr):
        trackio.init(project="bench", name="run", embed=False)
        began = time.perf_counter()
        for step in range(STEPS):
            trackio.log({f"series_{one}": step / 7 for one in range(SERIES)}, step=step)
        enqueued_s = time.perf_counter() - began
        # All of it is in its database when this returns.
        trackio.finish()
        durable_s = time.perf_counter() - began
        times = []
        for _ in range(QUERIES):
            began = time.perf_counter()
            history = SQLiteStorage.get_metric_values("bench", "run", "series_1")
            times.append(time.perf_counter() - began)
    figures = {
        "trackio_points_per_s": STEPS * SERIES / durable_s,
        "trackio_enqueued_points_per_s": STEPS * SERIES / enqueued_s,
        "trackio_query_points": len(history),
        "trackio_query_ms": sorted(times)[len(times) // 2] * 1000,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
