"""How long a piece of work takes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any


def median(work: Callable[[], Any], budget_s: float) -> float:
    """Seconds a call, the median of as many as fit into the budget after a first one."""
    work()
    taken: list[float] = []
    end = time.monotonic() + budget_s
    while time.monotonic() < end or len(taken) < 3:
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)
