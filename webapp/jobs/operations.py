"""What may be done to operations: start, claim, progress, end. Each change is one conditional UPDATE."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from mlcore.errors import InvalidInput
from webapp.jobs.models import UNDER_WAY, File, Operation, Status
from webapp.jobs.services import wake
from webapp.registry import quarantine
from webapp.registry import services as registry
from webapp.registry.models import ModelVersion

QUEUE = "slow"
MOST_REPLAYED = 1_000


def start(
    kind: Operation.Kind,
    version: ModelVersion,
    *,
    by: Any = None,
    other: ModelVersion | None = None,
    file: File | None = None,
    number: int = 0,
) -> Operation:
    """Queue an operation and wake a worker; InvalidInput says what it lacks."""
    if other is not None and (other.task, other.pk == version.pk) != (version.task, False):
        raise InvalidInput("other", f"Choose another version of {version.task} to compare {version} with.")
    if kind == Operation.Kind.COMPARE and other is None:
        raise InvalidInput("other", "A comparison needs a second version.")
    if kind == Operation.Kind.EVALUATE and file is None:
        raise InvalidInput("file", "An evaluation needs a labelled file.")
    if kind in (Operation.Kind.REPLAY, Operation.Kind.COMPARE) and file is None and not 1 <= number <= MOST_REPLAYED:
        raise InvalidInput("number", f"Choose from 1 to {MOST_REPLAYED:,} jobs to replay.")
    with transaction.atomic():
        operation = Operation.objects.create(
            kind=kind, version=version, label=str(version), other=other, by=by, file=file, number=number, queue=QUEUE
        )
        transaction.on_commit(lambda: wake(QUEUE))
    return operation


def claim(*, queues: list[str], worker: str) -> Operation | None:
    """Take the oldest queued operation under a fresh lease."""
    for pk in (
        Operation.objects.filter(status=Status.QUEUED, queue__in=queues)
        .order_by("created_at")
        .values_list("pk", flat=True)[:3]
    ):
        token, now = uuid.uuid4(), timezone.now()
        taken = Operation.objects.filter(pk=pk, status=Status.QUEUED).update(
            status=Status.RUNNING,
            lease_token=token,
            lease_until=now + timedelta(seconds=settings.LEASE_S),
            worker=worker,
            started_at=now,
        )
        if taken:
            return Operation.objects.select_related("version", "other", "file").get(pk=pk)
    return None


def note_progress(operation: Operation, *, done: int, total: int) -> bool:
    """Store how far it is and keep the lease; False when it was cancelled or taken over."""
    return bool(
        Operation.objects.filter(pk=operation.pk, status=Status.RUNNING, lease_token=operation.lease_token).update(
            progress_done=done,
            progress_total=total,
            progress_unit="items",
            lease_until=timezone.now() + timedelta(seconds=settings.LEASE_S),
        )
    )


def _end(operation: Operation, status: Status, **columns: Any) -> bool:
    return bool(
        Operation.objects.filter(pk=operation.pk, status=Status.RUNNING, lease_token=operation.lease_token).update(
            status=status, finished_at=timezone.now(), lease_token=None, lease_until=None, **columns
        )
    )


def succeed(operation: Operation, result: dict[str, Any]) -> bool:
    """Store the result; metrics of an evaluation land on the version."""
    with transaction.atomic():
        ended = _end(operation, Status.SUCCEEDED, result=result, progress_done=F("progress_total"))
        if ended and operation.kind == Operation.Kind.EVALUATE:
            version = ModelVersion.objects.select_for_update().get(operations=operation)
            name = operation.file.name if operation.file else "file"
            own = {**version.metrics.get("evaluated_here", {}), name: result["scores"]}
            ModelVersion.objects.filter(pk=version.pk).update(metrics={**version.metrics, "evaluated_here": own})
    return ended


def fail(operation: Operation, message: str, *, faulty: bool = False) -> bool:
    """Store why there is no result; a `faulty` version that never worked is uninstalled: nothing half stays."""
    ended = _end(operation, Status.FAILED, error=message[:2_000])
    version = operation.version
    if ended and faulty and operation.kind == Operation.Kind.CHECK and version is not None:
        worked = version.operations.filter(status=Status.SUCCEEDED).exists() or version.jobs.exists()
        if not worked:
            registry.uninstall(version)
    return ended


def install_upload(chunks: Iterable[bytes], *, by: Any = None) -> Operation:
    """Install an uploaded archive, staged, and queue its self-test; BundleError says what is wrong with it."""
    with quarantine.unpacked(chunks) as folder:
        version = registry.install(folder)
    return start(Operation.Kind.CHECK, version, by=by)


def give_back(operation: Operation) -> bool:
    """A worker told to stop returns it to the queue."""
    return bool(
        Operation.objects.filter(pk=operation.pk, status=Status.RUNNING, lease_token=operation.lease_token).update(
            status=Status.QUEUED, lease_token=None, lease_until=None, worker=""
        )
    )


def cancel(operation: Operation) -> bool:
    """Stop an operation that is queued or running; the worker notices at its next step."""
    return bool(
        Operation.objects.filter(pk=operation.pk, status__in=UNDER_WAY).update(
            status=Status.CANCELLED, finished_at=timezone.now(), lease_token=None, lease_until=None
        )
    )


def requeue_lost() -> int:
    """Put back operations of silent workers; those that were lost three times fail in words."""
    found = 0
    for operation in Operation.objects.filter(status=Status.RUNNING, lease_until__lt=timezone.now()):
        if operation.attempts + 1 >= settings.MAX_ATTEMPTS:
            fail(operation, "The worker stopped each time this was tried. It will not be tried again.")
            continue
        found += Operation.objects.filter(
            pk=operation.pk, status=Status.RUNNING, lease_token=operation.lease_token
        ).update(status=Status.QUEUED, lease_token=None, lease_until=None, worker="", attempts=operation.attempts + 1)
    if found:
        wake(QUEUE)
    return found
