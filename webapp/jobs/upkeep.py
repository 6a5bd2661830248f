"""What runs by the clock: nothing is lost; jobs, operations and sessions are kept no longer than they may be."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.core.management import call_command
from django.utils import timezone

from webapp.jobs import claims, events, files, halves, journal, operations, queries, services
from webapp.jobs.models import Batch, Job, Operation, Remembered, Sent, Status, Worker


def put_back() -> int:
    """Put jobs of silent workers back, end those tried too often, keep what was written of stopped ones, forget the
    workers; returns how many jobs are queued again."""
    found = 0
    for job in claims.expired().select_related("version"):
        held = Job.objects.filter(pk=job.pk, status=Status.RUNNING, lease_token=job.lease_token)
        if job.attempts >= settings.MAX_ATTEMPTS:
            _give_up(job)
        else:
            found += held.update(status=Status.QUEUED, lease_token=None, lease_until=None, worker="")
    operations.requeue_lost()
    halves.keep_forgotten()
    Worker.objects.filter(seen_at__lt=timezone.now() - timedelta(minutes=2)).delete()
    return found


def sweep() -> int:
    """As `put_back`, and wake workers for what waits."""
    found = put_back()
    waiting = {
        queue
        for model in (Job, Operation)
        for queue in model.objects.filter(status=Status.QUEUED).order_by().values_list("queue", flat=True).distinct()
    }
    served = {queue for worker in queries.live_workers() for queue in worker.queues}
    for queue in waiting & served:  # a worker that starts wakes its own; for nobody they would pile up in Redis
        services.wake(queue)
    return found


def _give_up(job: Job) -> None:
    said = f"This was tried {job.attempts} times and the worker stopped each time. It will not be tried again."
    if services.fail(job, said):
        events.publish(job.pk, "done", {"status": Status.FAILED}, attempt=job.attempts)
        journal.note(job, Status.FAILED)
        journal.count(job.task, Status.FAILED)


def delete_old() -> int:
    """Erase what is older than RETENTION_DAYS; returns the number of jobs.

    Operations go too: their results quote what people sent. What people said of answers (`Feedback`) stays, and so
    does what accounts used last; of sessions, which end, that goes.
    """
    limit = timezone.now() - timedelta(days=settings.RETENTION_DAYS)
    total = 0
    while ids := list(Job.objects.filter(created_at__lt=limit).values_list("pk", flat=True)[:500]):
        total += len(ids)
        Job.objects.filter(pk__in=ids).delete()
        events.forget(ids)
    Batch.objects.filter(created_at__lt=limit).delete()
    Operation.objects.filter(finished_at__lt=limit).delete()
    Remembered.objects.filter(user=None, used_at__lt=limit).delete()
    Sent.objects.filter(day__lt=timezone.now().date()).delete()
    call_command("clearsessions", verbosity=0)
    while found := list(files.orphans(limit)):
        files.erase(found)
    return total
