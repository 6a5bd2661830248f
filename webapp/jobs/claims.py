"""Taking work under a lease, keeping it, giving it back: each step one conditional UPDATE."""

from __future__ import annotations

import os
import socket
import sys
import uuid
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.db.models import F, Q, QuerySet
from django.db.models.functions import Coalesce
from django.utils import timezone

from webapp.jobs import queries
from webapp.jobs.models import Job, Operation, Status, Worker

ORDER = ("bulk", "turn", "created_at")
RETRIED_TOGETHER = 4


def _lease() -> timedelta:
    return timedelta(seconds=settings.LEASE_S)


def claim(
    *,
    queues: Sequence[str],
    worker: str,
    room: Callable[[Job], int],
    max_cost: int,
    fresh: bool = False,
    full: Collection[int] = (),
) -> list[Job]:
    """Take the oldest queued job and others of its batch key, under one fresh lease; none of the versions `full`.

    At most as many as there is `room` for beside the first and, padded to the longest, `max_cost` in all. Jobs whose
    worker died come back four at a time and at last alone, and with `fresh` not at all: a poisonous input cannot burn
    its neighbours' last attempt, and many texts cut off by one kill need not be retried one by one.
    """
    token, now = uuid.uuid4(), timezone.now()
    with transaction.atomic():
        queued = Job.objects.filter(status=Status.QUEUED, queue__in=queues).order_by(*ORDER)
        if full:
            queued = queued.exclude(version__in=full)
        if connection.features.has_select_for_update_skip_locked:
            queued = queued.select_for_update(skip_locked=True)
        head = (queued.filter(attempts=0) if fresh else queued).first()
        if head is None:
            return []
        chosen = _fitting(queued, head, min(room(head), _company(head.attempts)), max_cost)
        Job.objects.filter(pk__in=chosen, status=Status.QUEUED).update(
            status=Status.RUNNING,
            lease_token=token,
            lease_until=now + _lease(),
            worker=worker,
            attempts=F("attempts") + 1,
            started_at=Coalesce("started_at", now),
        )
    return list(
        Job.objects.filter(pk__in=chosen, lease_token=token).select_related("content", "version").order_by(*ORDER)
    )


def _company(attempts: int) -> int:
    """How many jobs that were tried so often may be tried again together."""
    if attempts == 0:
        return sys.maxsize
    return 1 if attempts + 1 >= settings.MAX_ATTEMPTS else RETRIED_TOGETHER


def _fitting(queued: QuerySet[Job], head: Job, limit: int, max_cost: int) -> list[uuid.UUID]:
    rows = queued.filter(batch_key=head.batch_key, attempts=head.attempts)[:limit]
    chosen: list[uuid.UUID] = []
    longest = 0
    for row in rows:
        longest = max(longest, row.cost)
        if chosen and longest * (len(chosen) + 1) > max_cost:
            break
        chosen.append(row.pk)
    return chosen or [head.pk]


def renew(tokens: Iterable[uuid.UUID]) -> None:
    """Keep jobs and operations for another lease; only those still held under these tokens."""
    held = list(tokens)
    for model in (Job, Operation):
        mine = model._default_manager.filter(lease_token__in=held, status=Status.RUNNING)
        if connection.features.has_select_for_update_skip_locked:  # a row that is being written is renewed next time
            free = mine.select_for_update(skip_locked=True).values("pk")
            mine = model._default_manager.filter(pk__in=free)  # type: ignore[misc]
        with transaction.atomic():
            mine.update(lease_until=timezone.now() + _lease())


def give_back(tokens: Iterable[uuid.UUID]) -> int:
    """Return jobs to the queue, the attempt not counted: their worker was told to stop."""
    return Job.objects.filter(lease_token__in=list(tokens), status=Status.RUNNING).update(
        status=Status.QUEUED, lease_token=None, lease_until=None, worker="", attempts=F("attempts") - 1
    )


def release(tokens: Iterable[uuid.UUID]) -> int:
    """Return jobs to the queue, the attempt counted; those tried too often are left to the sweep, which fails them."""
    held = Job.objects.filter(lease_token__in=list(tokens), status=Status.RUNNING)
    held.filter(attempts__gte=settings.MAX_ATTEMPTS).update(lease_until=timezone.now())
    return held.filter(attempts__lt=settings.MAX_ATTEMPTS).update(
        status=Status.QUEUED, lease_token=None, lease_until=None, worker=""
    )


def has_retry(queues: Sequence[str]) -> bool:
    """Whether a job waits that was tried before."""
    return Job.objects.filter(status=Status.QUEUED, queue__in=queues, attempts__gt=0).exists()


def expired(now: Any = None) -> QuerySet[Job]:
    """Running jobs whose worker has gone silent, or is known to be dead on this host."""
    lost = Q(lease_until__lt=now or timezone.now()) | Q(worker__in=_dead_workers())
    return Job.objects.filter(lost, status=Status.RUNNING)  # the status outside of the alternatives: it has the index


def _dead_workers() -> list[str]:
    """Workers of this host that are silent and whose process is gone: their leases need not be waited for.

    One that is heard runs, wherever that is: machines and containers may share a name.
    """
    silent = Worker.objects.filter(seen_at__lt=timezone.now() - timedelta(seconds=queries.ALIVE_S))
    rows = silent.filter(host=socket.gethostname()).values_list("name", "pid")
    return [name for name, pid in rows if not _is_alive(pid)]


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
