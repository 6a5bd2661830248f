"""What a worker counts of its own work since it started: outcomes, waits, runs, rows a batch.

Histograms are Prometheus's: how many values are at most each bound, not cumulated, and their sum.
"""

from __future__ import annotations

import copy
import threading
from bisect import bisect_left
from typing import Any

SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
ROWS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0)


class Stats:
    """Counts by task; written by the thread that works, read by the heartbeat's."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tasks: dict[str, dict[str, Any]] = {}

    def _task(self, task: str) -> dict[str, Any]:
        return self._tasks.setdefault(
            task, {"outcomes": {}, "wait": _empty(SECONDS), "run": _empty(SECONDS), "rows": _empty(ROWS)}
        )

    def job(self, task: str, outcome: str, *, wait_s: float, run_s: float) -> None:
        """One job ended so; it waited and ran for so many seconds."""
        with self._lock:
            found = self._task(task)
            found["outcomes"][outcome] = found["outcomes"].get(outcome, 0) + 1
            _add(found["wait"], SECONDS, wait_s)
            _add(found["run"], SECONDS, run_s)

    def batch(self, task: str, rows: int) -> None:
        """One step of an engine had so many rows."""
        with self._lock:
            _add(self._task(task)["rows"], ROWS, float(rows))

    def snapshot(self) -> dict[str, Any]:
        """A copy for the worker's row."""
        with self._lock:
            return copy.deepcopy(self._tasks)


def _empty(bounds: tuple[float, ...]) -> dict[str, Any]:
    return {"counts": [0] * (len(bounds) + 1), "sum": 0.0}


def _add(histogram: dict[str, Any], bounds: tuple[float, ...], value: float) -> None:
    histogram["counts"][bisect_left(bounds, value)] += 1
    histogram["sum"] = round(histogram["sum"] + value, 4)
