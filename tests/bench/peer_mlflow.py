"""MLflow's tracking server with its own SQLite, driven over HTTP by its own client. Prints its figures as JSON."""

import json
import socket
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Metric

# As many as its server takes in one request.
BATCH, BATCHES, STREAMS, SERIES = 1000, 5, 4, 10
QUERIES = 5


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def server(port: int) -> "subprocess.Popen[bytes]":
    command = [str(Path(sys.executable).with_name("mlflow")), "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--backend-store-uri", "sqlite:///mlflow.db", "--artifacts-destination", "artifacts", "--workers", "2"]
    with Path("server.log").open("wb") as log:
        return subprocess.Popen(command, stdout=log, stderr=log)


def wait(port: int) -> None:
    give_up_at = time.monotonic() + 90
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health").close()
        except OSError:
            if time.monotonic() > give_up_at:
                raise
            time.sleep(0.2)
        else:
            return


def main() -> None:
    port = free_port()
    process = server(port)
    try:
        wait(port)
        client = MlflowClient(f"http://127.0.0.1:{port}")
        experiment = client.create_experiment("bench")
        runs = [client.create_run(experiment).info.run_id for _ in range(STREAMS)]

        def ship(run: str) -> None:
            for number in range(BATCHES):
                steps = range(number * BATCH // SERIES, (number + 1) * BATCH // SERIES)
                metrics = [Metric(f"series_{one}", step / 7, step, step) for step in steps for one in range(SERIES)]
                client.log_batch(run, metrics)

        began = time.perf_counter()
        with ThreadPoolExecutor(STREAMS) as pool:
            list(pool.map(ship, runs))
        per_s = STREAMS * BATCHES * BATCH / (time.perf_counter() - began)
        times = []
        for _ in range(QUERIES):
            began = time.perf_counter()
            history = client.get_metric_history(runs[0], "series_1")
            times.append(time.perf_counter() - began)
        alone = []
        for step in range(50):
            began = time.perf_counter()
            client.log_metric(runs[0], "alone", 1.0, step=step)
            alone.append(time.perf_counter() - began)
    finally:
        process.terminate()
        process.wait()
    figures = {
        "mlflow_points_per_s": per_s,
        "mlflow_log_metric_ms": sorted(alone)[len(alone) // 2] * 1000,
        "mlflow_query_points": len(history),
        "mlflow_query_ms": sorted(times)[len(times) // 2] * 1000,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
