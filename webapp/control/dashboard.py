"""The admin's first page: what the last hour was like, what waits, who works, which versions answer."""

from __future__ import annotations

import math
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db.models import Count, Max, Min, Sum
from django.http import HttpRequest
from django.utils import timezone

from mlcore import task as tasks
from webapp.jobs import queries
from webapp.jobs.models import File, Job, Queue, Status, Worker
from webapp.registry.models import ModelVersion

MINUTES = 60
_MOST_ROWS = 20_000  # of the last hour; a busier one is judged by its newest jobs
_CHART_HEIGHT = 100


@dataclass
class _Task:
    """The jobs of one task that ended lately, in seconds."""

    jobs: int = 0
    failed: int = 0
    waits: list[float] = field(default_factory=list)
    runs: list[float] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)


def add(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Put the board beside Django's context, for those who may see jobs."""
    if request.user.has_perm("jobs.view_job"):
        context["board"] = board()
    return context


def percentile(values: Sequence[float], share: float) -> float | None:
    """The value that a share of the values does not exceed (nearest rank)."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)] if values else None


def board() -> dict[str, Any]:
    """All figures of the page; one bounded query a table."""
    now = timezone.now()
    ended: list[tuple[Any, ...]] = list(
        Job.objects.filter(finished_at__gte=now - timedelta(minutes=MINUTES))
        .order_by("-finished_at")
        .values_list("task", "status", "created_at", "started_at", "finished_at", "batch_rows")[:_MOST_ROWS]
    )
    minutes = MINUTES if len(ended) < _MOST_ROWS else max(1.0, (now - ended[-1][4]).total_seconds() / 60)
    found = _by_task(ended)
    jobs, failed = sum(task.jobs for task in found.values()), sum(task.failed for task in found.values())
    rows = [count for task in found.values() for count in task.rows]
    workers = queries.live_workers()
    uploads = File.objects.aggregate(size=Sum("size"), number=Count("pk"))
    free = shutil.disk_usage(settings.STATE_DIR).free
    return {
        "cards": [
            ("Jobs a minute", f"{jobs / minutes:.1f}", f"{jobs:,} ended in the last {minutes:.0f} minutes"),
            ("Failed", f"{failed / jobs:.1%}" if jobs else "none", f"{failed:,} of {jobs:,}"),
            ("Mean batch", _mean_batch(rows) or "none", "jobs that shared a model's step"),
            ("Workers", f"{len(workers)}", _memory(workers)),
            ("Uploads", _size(uploads["size"] or 0), f"{uploads['number']:,} files; {_size(free)} of the disk free"),
        ],
        "chart": chart([(status, finished) for _, status, _, _, finished, _ in ended], now),
        "tasks": [_task_row(name, task) for name, task in sorted(found.items())],
        "queues": _queues(workers, now),
        "versions": _versions(workers),
        "at": now,
    }


def _by_task(ended: list[tuple[Any, ...]]) -> dict[str, _Task]:
    found: dict[str, _Task] = {}
    for name, status, created, started, finished, rows in ended:
        task = found.setdefault(name, _Task())
        task.jobs += 1
        task.failed += status == Status.FAILED
        if started is not None and status != Status.CANCELLED:
            task.waits.append((started - created).total_seconds())
            task.runs.append((finished - started).total_seconds())
        if rows:
            task.rows.append(rows)
    return found


def _mean_batch(rows: Sequence[int]) -> str:
    """Over steps: a job that shared its step with seven others stands for an eighth of it."""
    return f"{len(rows) / sum(1 / count for count in rows):.1f}" if rows else ""


def _task_row(name: str, task: _Task) -> dict[str, Any]:
    return {
        "title": tasks.get(name).title if name in tasks.names() else name,
        "jobs": f"{task.jobs:,}",
        "failed": f"{task.failed / task.jobs:.1%}",
        "times": [_seconds(percentile(values, share)) for values in (task.waits, task.runs) for share in (0.5, 0.95)],
        "batch": _mean_batch(task.rows),
    }


def chart(ended: Sequence[tuple[str, datetime]], now: datetime) -> dict[str, Any]:
    """Bars of jobs that ended in each of the last minutes, in units of an SVG of MINUTES x 100."""
    good: Counter[int] = Counter()
    bad: Counter[int] = Counter()
    for status, finished in ended:
        minute = MINUTES - 1 - int((now - finished).total_seconds() // 60)
        (bad if status == Status.FAILED else good)[minute] += 1
    top = max((good[minute] + bad[minute] for minute in range(MINUTES)), default=0)
    scale = _CHART_HEIGHT / top if top else 0.0
    bars = []
    for minute in range(MINUTES):
        done, failed = good[minute] * scale, bad[minute] * scale
        if done or failed:
            bars.append(
                {
                    "x": minute,
                    "done": (round(_CHART_HEIGHT - done, 2), round(done, 2)),
                    "failed": (round(_CHART_HEIGHT - done - failed, 2), round(failed, 2)),
                    "said": f"{MINUTES - minute} min ago: {good[minute]:,} ended well or were cancelled, "
                    f"{bad[minute]:,} failed",
                }
            )
    return {"bars": bars, "top": top, "width": MINUTES, "height": _CHART_HEIGHT}


def _queues(workers: Sequence[Worker], now: datetime) -> list[dict[str, Any]]:
    waiting = {
        row["queue"]: row
        for row in Job.objects.filter(status=Status.QUEUED)
        .values("queue")
        .annotate(number=Count("pk"), oldest=Min("created_at"))
        .order_by()
    }
    paused = set(Queue.objects.filter(paused=True).values_list("name", flat=True))
    rows = []
    for name in dict.fromkeys([*settings.QUEUES, *waiting]):
        here = waiting.get(name)
        serving = sum(name in worker.queues for worker in workers)
        rows.append(
            {
                "name": name,
                "waiting": f"{here['number']:,}" if here else "0",
                "age": _seconds((now - here["oldest"]).total_seconds()) if here else "",
                "workers": serving,
                "state": "paused" if name in paused else "served" if serving else "no worker runs",
            }
        )
    return rows


def _versions(workers: Sequence[Worker]) -> list[dict[str, Any]]:
    active = ModelVersion.objects.filter(status=ModelVersion.Status.ACTIVE).annotate(since=Max("activations__at"))
    return [
        {
            "version": version,
            "since": version.since,
            "loaded": sum(str(version) in worker.loaded for worker in workers),
        }
        for version in active
    ]


def _memory(workers: Sequence[Worker]) -> str:
    return f"{sum(worker.memory_mb for worker in workers):,} MB of memory" if workers else "none is running"


def _size(number: int) -> str:
    return f"{number / 1e9:.1f} GB" if number >= 1e9 else f"{number / 1e6:.1f} MB"


def _seconds(value: float | None) -> str:
    if value is None:
        return ""
    if value >= 120:
        return f"{value / 60:.0f} min" if value < 7_200 else f"{value / 3_600:.0f} h"
    return f"{value:.0f} s" if value >= 10 else f"{value:.2f} s"
