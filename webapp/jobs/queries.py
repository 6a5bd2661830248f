"""What may be asked about jobs: why one waits, how long, how a batch stands."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.core.cache import cache
from django.db.models import Avg, Count, Q
from django.utils import timezone

from webapp.jobs.models import Batch, Job, Queue, Status, Worker

ALIVE_S = 5.0  # a worker writes its row every second; silent for longer than this, it counts as gone
_DEFAULT_S = 0.3  # guess of a job's time before anything was measured


@dataclass(frozen=True)
class Waiting:
    """Why a job is not answered yet, in words, with its place and a guess of the seconds."""

    reason: str  # "no-worker", "loading", "queued", "running"
    sentence: str
    position: int | None = None
    eta_s: int | None = None


def live_workers(queue: str | None = None) -> list[Worker]:
    """Workers seen within the last seconds."""
    rows = Worker.objects.filter(seen_at__gte=timezone.now() - timedelta(seconds=ALIVE_S))
    return [row for row in rows if queue is None or queue in row.queues]


def seconds_a_job() -> float:
    """Mean model time of a job among the last hundred, its share of the batch; cached for ten seconds."""
    found = cache.get("seconds-a-job")
    if found is None:
        last = Job.objects.filter(status=Status.SUCCEEDED, model_time_s__isnull=False).order_by("-created_at")[:100]
        rows = [(seconds or 0) / max(1, rows or 1) for seconds, rows in last.values_list("model_time_s", "batch_rows")]
        found = sum(rows) / len(rows) if rows else _DEFAULT_S
        cache.set("seconds-a-job", found, 10)
    return float(found)


def seconds_to_clear(jobs: int) -> int:
    """A guess of the seconds until so many jobs are done, at least one."""
    return max(1, math.ceil(jobs * seconds_a_job()))


def position(job: Job) -> int:
    """1 for the next in line. Interactive jobs only: those come before bulk ones, oldest first."""
    ahead = Job.objects.filter(status=Status.QUEUED, queue=job.queue, bulk=False, created_at__lt=job.created_at)
    return ahead.count() + 1


def waiting(job: Job) -> Waiting | None:
    """Why a job waits; None when it is over."""
    if job.is_terminal:
        return None
    if Queue.objects.filter(name=job.queue, paused=True).exists() and job.status == Status.QUEUED:
        return Waiting("no-worker", "The operator paused this queue. The job is kept and runs when it goes on.")
    workers = live_workers(job.queue)
    label = str(job.version)
    loading = any(worker.loading == label for worker in workers)
    if not workers:
        return Waiting("no-worker", "No worker is running. Ask the operator to start one; the job is kept.")
    if loading:
        return Waiting("loading", "The model is loading.")
    if job.status == Status.RUNNING:
        return Waiting("running", "The model is reading.")
    if job.bulk:
        return Waiting("queued", "Waiting for its turn in the batch.")
    place = position(job)
    eta = seconds_to_clear(place)
    return Waiting("queued", f"{_ordinal(place)} in the queue, about {eta} s.", place, eta)


def _ordinal(number: int) -> str:
    suffix = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number:,}{suffix}"


def counts(batch: Batch) -> dict[str, int]:
    """How many jobs of a batch stand where; refused items count as failed."""
    found = dict(Job.objects.filter(batch=batch).order_by().values_list("status").annotate(Count("pk")))
    rows = {str(status): int(found.get(status, 0)) for status in Status.values}
    rows["failed"] += len(batch.refused)
    return rows


def batch_progress(batch: Batch) -> dict[str, Any]:
    """Counts with what is done of the total."""
    found = counts(batch)
    done = found["succeeded"] + found["failed"] + found["cancelled"]
    return {"counts": found, "done": done, "total": batch.total}


def health() -> dict[str, Any]:
    """Live workers by queue, and mean rows a batch of the last jobs (for the ready check)."""
    workers = live_workers()
    recent = Job.objects.filter(created_at__gte=timezone.now() - timedelta(minutes=10))
    return {
        "workers": {queue: sum(queue in w.queues for w in workers) for queue in settings.QUEUES},
        "queued": Job.objects.filter(status=Status.QUEUED).count(),
        "mean_batch": recent.filter(~Q(batch_rows=None)).aggregate(mean=Avg("batch_rows"))["mean"],
    }
