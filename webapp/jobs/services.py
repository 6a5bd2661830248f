"""What may be done to jobs. Each change of status is one conditional UPDATE, told to whoever follows the job."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable
from typing import Any
from uuid import UUID

from celery import current_app
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import F
from django.utils import timezone
from kombu.exceptions import OperationalError

from webapp.jobs import events, files, halves, journal
from webapp.jobs.models import UNDER_WAY, Batch, Feedback, File, Job, JobContent, Remembered, Status
from webapp.jobs.owners import Owner

logger = logging.getLogger(__name__)
_UNBEGUN: dict[str, Any] = {
    **dict.fromkeys(("started_at", "finished_at", "progress_done", "progress_total", "model_time_s", "batch_rows")),
    "progress_unit": "",
}


def wake(queue: str) -> None:
    """Tell a worker of this queue that there is work. Without Redis nothing is lost: the sweep finds the row."""
    try:
        current_app.send_task("jobs.serve", args=[queue], queue=queue, retry=False, expires=60)
    except (OperationalError, OSError) as error:
        logger.warning("no wake-up for %s: Redis does not answer (%s)", queue, type(error).__name__)


def fail(job: Job, message: str, *, field: str = "") -> bool:
    """Store why there is no answer; False when the job is no longer this worker's."""
    return finish(job, Status.FAILED, content={"error_field": field[:120], "error_message": message})


def finish(job: Job, status: Status, *, content: dict[str, Any], columns: dict[str, Any] | None = None) -> bool:
    """End a running job; False when it is no longer this worker's."""
    with transaction.atomic():
        mine = Job.objects.filter(pk=job.pk, status=Status.RUNNING, lease_token=job.lease_token).update(
            status=status, finished_at=timezone.now(), lease_token=None, lease_until=None, **(columns or {})
        )
        if mine:
            JobContent.objects.filter(pk=job.pk).update(**content)
    return bool(mine)


def cancel(job: Job) -> bool:
    """Stop a job that is queued or running; False when it was already over. The worker drops its row."""
    return bool(cancel_all([job]))


def cancel_all(jobs: Iterable[Job]) -> list[Job]:
    """As `cancel`; returns those that were stopped. Redis is asked once for all of them: it may hang."""
    over = {"status": Status.CANCELLED, "finished_at": timezone.now(), "lease_token": None, "lease_until": None}
    stopped: list[Job] = []
    for job in jobs:
        row = Job.objects.filter(pk=job.pk)
        if row.filter(status=Status.QUEUED).update(**over):
            halves.keep_stored(job)  # of an earlier attempt; who holds a running job brings more
            stopped.append(job)
        elif row.filter(status__in=UNDER_WAY).update(**over):
            stopped.append(job)
    if stopped:
        events.publish_many([(job.pk, "done", {"status": Status.CANCELLED}, job.attempts or 1) for job in stopped])
        for job in stopped:
            journal.note(job, Status.CANCELLED)
        for task, number in Counter(job.task for job in stopped).items():
            journal.count(task, Status.CANCELLED, number)
    return stopped


def cancel_batch(batch: Batch) -> int:
    """Stop what is left of a batch."""
    stopped = Job.objects.filter(batch=batch, status__in=UNDER_WAY).update(
        status=Status.CANCELLED, finished_at=timezone.now(), lease_token=None, lease_until=None
    )
    if stopped:
        journal.note_batch(batch, stopped)
        journal.count(batch.task, Status.CANCELLED, stopped)
    return stopped


def erase(row: Job | Batch) -> None:
    """Delete a job or a whole batch with its inputs and outputs; what still runs loses its row.

    Jobs are locked first, in the order of their ids: their workers, too, take a job before its content.
    """
    mine = Job.objects.filter(pk=row.pk) if isinstance(row, Job) else Job.objects.filter(batch=row)
    with transaction.atomic():
        jobs = list(mine.select_for_update().order_by("pk").values_list("pk", flat=True))
        if isinstance(row, Job) and not jobs:
            return  # somebody else was quicker
        named = list(File.objects.filter(jobs__in=jobs).distinct())
        Feedback.objects.filter(job__in=jobs).delete()
        if isinstance(row, Job) and row.batch_id is not None:
            Batch.objects.filter(pk=row.batch_id).update(total=F("total") - 1)
        row.delete()
    files.erase(named)
    events.forget(jobs)


def erase_everything(owner: Owner) -> None:
    """Delete an owner's jobs, batches, files, proposals and what is remembered; an account itself stays."""
    for batch in Batch.objects.filter(owner.query):
        erase(batch)
    for job in Job.objects.filter(owner.query):
        erase(job)
    files.erase(File.objects.filter(owner.query))
    Feedback.objects.filter(owner.query).delete()
    Remembered.objects.filter(owner.query).delete()


def erase_account(person: User) -> None:
    """Delete an account with all that is its person's: the rows at once, the bytes when these are gone for good.

    The account is locked first, so that nothing new of it comes between; then its jobs, as `erase` locks them.
    """
    with transaction.atomic():
        User.objects.select_for_update().get(pk=person.pk)
        jobs = list(Job.objects.filter(user=person).select_for_update().order_by("pk").values_list("pk", flat=True))
        kept = list(File.objects.filter(user=person))
        person.delete()
        transaction.on_commit(lambda: _forget_all(jobs, kept))


def _forget_all(jobs: list[UUID], kept: list[File]) -> None:
    for file in kept:
        files.erase_bytes(file)
    events.forget(jobs)


def requeue(job: Job) -> bool:
    """Run a finished job again, from the admin, as if it were new; False while it is under way."""
    with transaction.atomic():  # a worker sees all of it, or nothing
        again = (
            Job.objects.filter(pk=job.pk)
            .exclude(status__in=UNDER_WAY)
            .update(status=Status.QUEUED, attempts=0, answer="", lease_token=None, worker="", **_UNBEGUN)
        )
        if not again:
            return False
        JobContent.objects.filter(pk=job.pk).update(output=None, partial=None, error_field="", error_message="")
        made = list(job.files.filter(kind=File.Kind.OUTPUT))
        job.files.remove(*made)
        events.forget([job.pk])  # a first attempt's events would come before those that are there
        transaction.on_commit(lambda: wake(job.queue))
    files.erase(made)
    return True
