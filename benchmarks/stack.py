"""The whole product as `make run` starts it: latency, throughput, overhead, batches, memory, start-up."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks import generation, photos, translation

ROOT = Path(__file__).resolve().parent.parent
TASK = "sentiment-analysis"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/healthz/ready", timeout=2) as answer:
            return bool(answer.status == 200)
    except (OSError, http.client.HTTPException):
        return False


class Product:
    """One running product with a state folder of its own."""

    def __init__(self, state: Path, **environment: str) -> None:
        self.state, self.port = state, _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        passed_on = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
        started = time.monotonic()
        with (state.parent / f"{state.name}.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "webapp.launch"],
                cwd=ROOT,
                env=passed_on | {"UNROLL_STATE": str(state), "PORT": str(self.port)} | environment,
                stdout=log,
                stderr=log,
            )
        while not _ready(self.url):
            if self.process.poll() is not None or time.monotonic() - started > 120:
                raise SystemExit(f"The product did not start; see {state.parent / state.name}.log.")
            time.sleep(0.05)
        self.start_s = time.monotonic() - started

    def stop(self) -> None:
        """As Ctrl-C does."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(timeout=60)

    def load(self, users: int, seconds: int, words: int) -> dict[str, Any]:
        """Run the load generator; p50 and p95 in ms."""
        command = [sys.executable, "-m", "benchmarks.load", self.url, TASK, str(users), str(seconds), str(words)]
        before = self.cpu_s()
        found = json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)
        latencies, overheads = sorted(found["latencies"]), sorted(found["overheads"])
        return {
            "jobs": len(latencies),
            "failed": found["failed"],
            "per_s": round(found["per_s"], 1),
            "latency_ms": {"p50": _ms(latencies, 50), "p95": _ms(latencies, 95)},
            "overhead_ms": {"p50": _ms(overheads, 50), "p95": _ms(overheads, 95)},
            "mean_batch": self.mean_batch(len(latencies)),
            "cores": {
                **{name: round((used - before[name]) / found["seconds"], 2) for name, used in self.cpu_s().items()},
                "load generator": round(found["cpu_s"] / found["seconds"], 2),
            },
        }

    def mean_batch(self, jobs: int) -> float:
        """Mean rows of the forward passes of the last `jobs` jobs: each pass counts once."""
        with sqlite3.connect(f"file:{self.state / 'db.sqlite3'}?mode=ro", uri=True) as database:
            rows = database.execute(
                "SELECT batch_rows FROM jobs_job WHERE batch_rows IS NOT NULL ORDER BY finished_at DESC LIMIT ?", [jobs]
            ).fetchall()
        return round(len(rows) / sum(1 / row[0] for row in rows), 1)

    def processes(self) -> dict[str, int]:
        """Pids of what the supervisor runs, by program."""
        found = {}
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
                words = (entry / "cmdline").read_bytes().decode().split("\0")
            except (OSError, ValueError, IndexError):
                continue
            if parent != self.process.pid:
                continue
            name = "web" if "uvicorn" in words else "beat" if "beat" in words else "redis"
            if "worker" in words:
                name = next(word for word in words if "@" in word).split("@")[0]
            found[name] = int(entry.name)
        return found

    def cpu_s(self) -> dict[str, float]:
        """CPU seconds used so far, by program (Linux only)."""
        tick = os.sysconf("SC_CLK_TCK")
        found = {}
        for name, pid in self.processes().items():
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            found[name] = (int(fields[11]) + int(fields[12])) / tick  # utime, stime
        return found

    def memory_mb(self) -> dict[str, int]:
        """Resident memory by program (Linux only)."""
        page = os.sysconf("SC_PAGE_SIZE")
        return {
            name: int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * page >> 20
            for name, pid in self.processes().items()
        }

    def web_has_torch(self) -> bool:
        """Whether any torch library is mapped into the web process."""
        return "libtorch" in Path(f"/proc/{self.processes()['web']}/maps").read_text()


def _ms(values: list[float], percent: int) -> float:
    if len(values) < 2:
        return float("nan")
    return round(1000 * statistics.quantiles(values, n=100, method="inclusive")[percent - 1], 1)


@contextmanager
def running(state: Path, **environment: str) -> Iterator[Product]:
    """A product that is stopped at the end."""
    product = Product(state, **environment)
    try:
        yield product
    finally:
        product.stop()


def measure(seconds: int = 20) -> dict[str, Any]:
    """Every figure of the stack, batched and held to batches of one."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="unroll-bench-") as folder:
        state = Path(folder) / "state"
        with running(state) as product:
            found["first_start_s"] = round(product.start_s, 1)
        with running(state) as product:
            found["second_start_s"] = round(product.start_s, 1)
            for users, words in ((1, 20), (1, 200), (64, 20), (64, 200)):
                found[f"{users} users, {words} words"] = product.load(users, seconds, words)
            found["photo_ms"] = photos.through(product.url)
            found["generation"] = generation.through(product.url)
            found["translation_ms"] = translation.through(product.url)
            found["memory_mb"] = product.memory_mb()
            time.sleep(8)
            found["memory_quiet_mb"] = product.memory_mb()
            found["web_has_torch"] = product.web_has_torch()
        with running(state, MAX_BATCH_SIZE="1") as product:
            found["64 users, 200 words, batches of 1"] = product.load(64, seconds, 200)
    one, many = found["64 users, 200 words, batches of 1"]["per_s"], found["64 users, 200 words"]["per_s"]
    found["gain_of_batching"] = round(many / one, 2)
    return found
