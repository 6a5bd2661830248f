"""A line for each job that ended, where logs are JSON, and counts of what ended in no worker's hands.

Nothing of what people sent is written: ids, versions, outcomes, durations.
"""

from __future__ import annotations

import logging
from collections import Counter
from datetime import datetime
from typing import Any

import redis
from django.utils import timezone

from webapp.jobs import events
from webapp.jobs.models import Batch, Job

_log = logging.getLogger("unroll.journal")
_KEY = "unroll:ended"  # a hash "task outcome" -> count, for as long as Redis runs


def durations(job: Job, now: datetime | None = None) -> tuple[float, float]:
    """Seconds from submit to start and from start to now; a job that never started only waited."""
    now = now or timezone.now()
    started = job.started_at or now
    return (started - job.created_at).total_seconds(), (now - started).total_seconds()


def note(job: Job, outcome: str, **more: Any) -> None:
    """One job ended so."""
    wait_s, run_s = durations(job)
    said = {
        "job": str(job.pk),
        "task": job.task,
        "version": str(job.version),
        "status": str(outcome),
        "attempt": job.attempts,
        "wait_s": round(wait_s, 3),
        "run_s": round(run_s, 3),
    }
    _log.info("job ended", extra=said | more)


def note_batch(batch: Batch, number: int) -> None:
    """So many jobs of a batch were cancelled at once."""
    said = {"batch": str(batch.pk), "task": batch.task, "status": "cancelled", "jobs": number}
    _log.info("jobs of a batch ended", extra=said)


def count(task: str, outcome: str, number: int = 1) -> None:
    """Jobs that no worker ended: cancelled ones, and those that the sweep gave up."""
    try:
        events.connection().hincrby(_KEY, f"{task} {outcome}", number)
    except redis.RedisError as error:
        _log.warning("%d %s jobs are not counted: Redis does not answer (%s)", number, outcome, type(error).__name__)


def counted() -> Counter[tuple[str, str]]:
    """{(task, outcome): number} of `count` since Redis started; nothing while it does not answer."""
    try:
        found: dict[str, str] = events.connection().hgetall(_KEY)  # type: ignore[assignment]
    except redis.RedisError:
        return Counter()
    pairs = ((*name.partition(" ")[::2], int(number)) for name, number in found.items())
    return Counter({(task, outcome): number for task, outcome, number in pairs})
