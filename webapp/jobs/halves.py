"""What was made of an answer until it was stopped: worth keeping where a text grows token by token."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone

from mlcore import task as tasks
from webapp.jobs.models import Job, JobContent, Status

_WORKERS_TURN_S = 5.0  # a worker that holds a stopped job knows more than the row does, and brings it
_GIVEN_UP_S = 3600.0


def keep(job: Job, output: dict[str, Any]) -> bool:
    """Keep what was made of an answer; False where the job was not cancelled, or is erased."""
    with transaction.atomic():
        words = tasks.get(job.task).headline_of_output(output)[:120]
        mine = Job.objects.filter(pk=job.pk, status=Status.CANCELLED).update(answer=words)
        if mine:
            JobContent.objects.filter(pk=job.pk).update(output=output, partial=None)
    return bool(mine)


def keep_stored(job: Job) -> bool:
    """The same of a job that no worker holds: what it stored last, a second before it ended or so."""
    content = JobContent.objects.filter(pk=job.pk, output__isnull=True, partial__isnull=False).first()
    if content is None or content.partial is None:
        return False
    output = tasks.get(job.task).output_of_partial(content.options, content.partial)
    return output is not None and keep(job, output)


def keep_forgotten() -> int:
    """Of stopped jobs whose worker did not come back; returns how many."""
    now = timezone.now()
    growing = [name for name in tasks.names() if tasks.get(name).streams]
    stopped = Job.objects.filter(
        task__in=growing,
        status=Status.CANCELLED,
        finished_at__range=(now - timedelta(seconds=_GIVEN_UP_S), now - timedelta(seconds=_WORKERS_TURN_S)),
        content__output__isnull=True,
        content__partial__isnull=False,
    )
    return sum(keep_stored(job) for job in stopped)
