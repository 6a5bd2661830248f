"""What may be asked about jobs: why one waits, how long, how a batch stands."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

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


def waiting(job: Job) -> Waiting | None:
    """Why a job waits; None when it is over."""
    return waiting_all([job])[job.pk]


def waiting_all(jobs: Sequence[Job]) -> dict[UUID, Waiting | None]:
    """As `waiting`, of many in a few queries."""
    under_way = [job for job in jobs if not job.is_terminal]
    found: dict[UUID, Waiting | None] = dict.fromkeys(job.pk for job in jobs)
    if not under_way:
        return found
    paused = set(Queue.objects.filter(paused=True).values_list("name", flat=True))
    workers = live_workers()
    in_line: list[Job] = []
    for job in under_way:
        found[job.pk] = state = _state(job, paused, [worker for worker in workers if job.queue in worker.queues])
        if state is None:
            in_line.append(job)
    for job, place in _positions(in_line):
        eta = seconds_to_clear(place)
        found[job.pk] = Waiting("queued", f"{_ordinal(place)} in the queue, about {eta} s.", place, eta)
    return found


def _state(job: Job, paused: set[str], workers: list[Worker]) -> Waiting | None:
    """Why a job waits that is not over; None where its place in the line is all there is to say."""
    if job.queue in paused and job.status == Status.QUEUED:
        return Waiting("no-worker", "The operator paused this queue. The job is kept and runs when it goes on.")
    if not workers:
        return Waiting("no-worker", "No worker is running. Ask the operator to start one; the job is kept.")
    if any(worker.loading == str(job.version) for worker in workers):
        return Waiting("loading", "The model is loading.")
    if job.status == Status.RUNNING:
        return Waiting("running", "The model is reading.")
    if job.bulk:
        return Waiting("queued", "Waiting for its turn in the batch.")
    return None


def _positions(jobs: Sequence[Job]) -> Iterator[tuple[Job, int]]:
    """Places in line, 1 for the next one: interactive jobs come before bulk ones, the oldest first."""
    line = Job.objects.filter(status=Status.QUEUED, bulk=False)
    if len(jobs) == 1:
        (job,) = jobs
        yield job, line.filter(queue=job.queue, created_at__lt=job.created_at).count() + 1
        return
    for queue in {job.queue for job in jobs}:
        times = list(line.filter(queue=queue).order_by("created_at").values_list("created_at", flat=True))
        yield from ((job, bisect_left(times, job.created_at) + 1) for job in jobs if job.queue == queue)


def _ordinal(number: int) -> str:
    suffix = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number:,}{suffix}"


def counts(batch: Batch) -> dict[str, int]:
    """How many jobs of a batch stand where; refused items count as failed."""
    return _counts([batch])[batch.pk]


def _counts(batches: Sequence[Batch]) -> dict[UUID, dict[str, int]]:
    found = {batch.pk: dict.fromkeys(map(str, Status.values), 0) for batch in batches}
    rows = Job.objects.filter(batch__in=found).order_by().values_list("batch", "status").annotate(Count("pk"))
    for pk, status, number in rows:
        found[pk][status] = number
    for batch in batches:
        found[batch.pk]["failed"] += len(batch.refused)
    return found


def batch_progress(batch: Batch) -> dict[str, Any]:
    """Counts with what is done of the total."""
    return progress_of([batch])[batch.pk]


def progress_of(batches: Sequence[Batch]) -> dict[UUID, dict[str, Any]]:
    """As `batch_progress`, of many in one query."""
    found = _counts(batches)
    over = ("succeeded", "failed", "cancelled")
    return {
        batch.pk: {
            "counts": found[batch.pk],
            "done": sum(found[batch.pk][name] for name in over),
            "total": batch.total,
        }
        for batch in batches
    }


def health() -> dict[str, Any]:
    """Live workers by queue, and mean rows a batch of the last jobs (for the ready check)."""
    workers = live_workers()
    recent = Job.objects.filter(created_at__gte=timezone.now() - timedelta(minutes=10))
    return {
        "workers": {queue: sum(queue in w.queues for w in workers) for queue in settings.QUEUES},
        "queued": Job.objects.filter(status=Status.QUEUED).count(),
        "mean_batch": recent.filter(~Q(batch_rows=None)).aggregate(mean=Avg("batch_rows"))["mean"],
    }
