"""How a request becomes a job or a batch: checked, within its limits, stored, a worker woken."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import F, Max, Min
from django.utils import timezone

from mlcore import task as tasks
from mlcore.errors import InvalidInput, MLCoreError
from webapp.jobs import files, queries, services
from webapp.jobs.models import Batch, File, IdempotencyKey, Job, JobContent, Sent, Status
from webapp.jobs.owners import Owner
from webapp.registry import services as registry
from webapp.registry.models import ModelVersion


class QueueFull(MLCoreError):
    """Too much is waiting; `retry_after_s` says when to come back."""

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


@dataclass(frozen=True)
class Request:
    """A checked request, ready to be stored."""

    task: tasks.Task
    version: ModelVersion
    inputs: dict[str, Any]
    options: dict[str, Any]
    files: tuple[File, ...] = ()
    made: tuple[File, ...] = ()  # those of them that the request itself brought


Charge = Callable[[int], None]  # counts so many jobs against a limit, within the transaction that stores them


def check(task: Any, inputs: Any, options: Any = None, variant: Any = None, *, owner: Owner) -> Request:
    """Look up task, variant and active version, clean the inputs, open their files; InvalidInput, ModelUnavailable."""
    spec = tasks.get(task)
    return _checked(spec, _version(spec, variant), inputs, options, owner)


def _checked(spec: tasks.Task, version: ModelVersion, inputs: Any, options: Any, owner: Owner) -> Request:
    made: list[File] = []
    try:
        named, found = files.take(spec, inputs, made, owner=owner)
        return Request(spec, version, *spec.clean(named, options), tuple(found), tuple(made))
    except Exception:
        files.erase(made)
        raise


def _version(spec: tasks.Task, variant: Any) -> ModelVersion:
    if variant is not None and not isinstance(variant, str):
        raise InvalidInput("variant", "“variant” must be text in quotes.")
    return registry.active(spec.name, variant or spec.default_variant)


def submit(request: Request, *, owner: Owner, charge: Charge | None = None) -> Job:
    """Store a job and, once it is stored, wake a worker; QueueFull when too much waits already."""
    try:
        return _submit(request, owner, charge)
    finally:
        files.erase(request.made)  # but those that the job names now


def _submit(request: Request, owner: Owner, charge: Charge | None) -> Job:
    _refuse_when_full(owner, 1)
    with transaction.atomic():
        _count(request.task, owner, 1)
        if charge:
            charge(1)
        job = _row(request, owner, registry.setting(request.task.name).queue)
        job.save(force_insert=True)
        JobContent.objects.create(job=job, inputs=request.inputs, options=request.options)
        job.files.set(request.files)
        transaction.on_commit(lambda: services.wake(job.queue))
    return job


def submit_once(request: Request, *, owner: Owner, key: str, body: Any, charge: Charge | None = None) -> Job:
    """As submit, but the same owner and key give the same job; InvalidInput when the body is another."""
    try:
        return _submit_once(request, owner, key, body, charge)
    finally:
        files.erase(request.made)


def _submit_once(request: Request, owner: Owner, key: str, body: Any, charge: Charge | None) -> Job:
    if (known := repeated(owner, key, body)) is not None:
        return known
    try:
        with transaction.atomic():
            job = _submit(request, owner, charge)
            IdempotencyKey.objects.create(owner=owner.name, key=key, body_digest=_digest(body), job=job)
    except IntegrityError:  # the same key came twice at once: the other one won
        if (known := repeated(owner, key, body)) is None:
            raise
        return known
    return job


def repeated(owner: Owner, key: str, body: Any) -> Job | None:
    """The job that this owner made with this key, so that a repeat needs no room of its own; InvalidInput when its
    body was another."""
    earlier = IdempotencyKey.objects.filter(owner=owner.name, key=key).select_related("job").first()
    if earlier is not None and earlier.body_digest != _digest(body):
        raise InvalidInput("Idempotency-Key", "This key was used for another request. Take a fresh one.")
    return earlier.job if earlier else None


def _digest(body: Any) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True, default=str).encode("utf-8", "replace")).hexdigest()


def submit_batch(
    task: Any,
    items: Sequence[Any],
    *,
    owner: Owner,
    options: Any = None,
    variant: Any = None,
    charge: Charge | None = None,
) -> tuple[Batch, list[Job | InvalidInput]]:
    """Store many jobs of one task as one batch; a bad item is told at its place and refuses no other.

    An item is `{"inputs", "options"?}`. InvalidInput when the batch itself is wrong.
    """
    spec = tasks.get(task)
    version = _version(spec, variant)
    if not 1 <= len(items) <= settings.MAX_BATCH_ITEMS:
        raise InvalidInput("items", f"A batch has from 1 to {settings.MAX_BATCH_ITEMS:,} items, not {len(items):,}.")
    checked: list[Request | InvalidInput] = []
    try:
        checked += (_check_item(spec, version, item, options, owner) for item in items)
        return _store_batch(spec, version, checked, owner, charge)
    finally:
        files.erase(file for request in checked if isinstance(request, Request) for file in request.made)


def _store_batch(
    spec: tasks.Task,
    version: ModelVersion,
    checked: Sequence[Request | InvalidInput],
    owner: Owner,
    charge: Charge | None,
) -> tuple[Batch, list[Job | InvalidInput]]:
    good = [request for request in checked if isinstance(request, Request)]
    _refuse_when_full(owner, len(good))
    batch = Batch(task=spec.name, variant=version.variant, total=len(checked), **owner.columns())
    batch.refused = [
        [place, error.field, error.message] for place, error in enumerate(checked) if isinstance(error, InvalidInput)
    ]
    results: list[Job | InvalidInput] = []
    with transaction.atomic():
        _count(spec, owner, len(good))
        if charge and good:
            charge(len(good))
        batch.save(force_insert=True)
        queue, turns = registry.setting(spec.name).queue, dict[str, int]()
        for place, request in enumerate(checked):
            if isinstance(request, InvalidInput):
                results.append(request)
                continue
            job = _row(request, owner, queue)
            if job.queue not in turns:  # an item's own may be another than the task's: documents are slow
                turns[job.queue] = _next_turn(job.queue, owner)
            job.batch, job.place, job.bulk, job.turn = batch, place, True, turns[job.queue]
            turns[job.queue] += 1
            results.append(job)
        jobs = [job for job in results if isinstance(job, Job)]
        Job.objects.bulk_create(jobs, batch_size=500)
        JobContent.objects.bulk_create(
            (JobContent(job=job, inputs=r.inputs, options=r.options) for job, r in zip(jobs, good, strict=True)),
            batch_size=500,
        )
        named = Job.files.through
        named.objects.bulk_create(
            (named(job_id=job.pk, file_id=file.pk) for job, r in zip(jobs, good, strict=True) for file in r.files),
            batch_size=500,
            ignore_conflicts=True,
        )
        for name in {job.queue for job in jobs}:
            transaction.on_commit(partial(services.wake, name))
    return batch, results


def _check_item(
    spec: tasks.Task, version: ModelVersion, item: Any, options: Any, owner: Owner
) -> Request | InvalidInput:
    try:
        if not isinstance(item, dict) or set(item) - {"inputs", "options"}:
            raise InvalidInput("items", "An item is an object with “inputs” and, if wanted, “options”.")
        return _checked(spec, version, item.get("inputs"), item.get("options", options), owner)
    except InvalidInput as error:
        return error


def _next_turn(queue: str, owner: Owner) -> int:
    """Where an owner's next bulk job stands: behind its own, level with the others' first (round robin)."""
    waiting = Job.objects.filter(status=Status.QUEUED, queue=queue, bulk=True)
    first = waiting.aggregate(first=Min("turn"))["first"] or 0
    own = waiting.filter(owner.quota_query).aggregate(last=Max("turn"))["last"]
    return max(first, own + 1 if own is not None else 0)


def _row(request: Request, owner: Owner, queue: str) -> Job:
    """A job for a queue, or where that is empty for the task's own."""
    spec, version = request.task, request.version
    shared = json.dumps(
        [version.pk, spec.batch_options(request.options), spec.length_bucket(request.inputs)], sort_keys=True
    )
    return Job(
        task=spec.name,
        variant=version.variant,
        version=version,
        queue=queue or spec.queue_of(request.inputs),
        batch_key=hashlib.sha256(shared.encode()).hexdigest(),
        cost=spec.estimate(request.inputs),
        summary=next((file.name for file in request.files if file.name), "")[:120] or spec.headline(request.inputs),
        **owner.columns(),
    )


def _count(spec: tasks.Task, owner: Owner, more: int) -> None:
    """Count jobs against an operator's limit a person and day, where there is one; QueueFull when it is reached."""
    limit = registry.setting(spec.name).daily_limit
    if limit is None or not more:
        return
    now = timezone.now()
    row, _ = Sent.objects.get_or_create(sender=owner.sender, task=spec.name, day=now.date())
    if Sent.objects.filter(pk=row.pk, number__lte=limit - more).update(number=F("number") + more):
        return
    row.refresh_from_db()
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    raise QueueFull(
        f"{spec.title}: at most {limit:,} jobs a person and day; {row.number:,} of yours are in. "
        "The day ends at midnight UTC.",
        int((midnight - now).total_seconds()) + 1,
    )


def _refuse_when_full(owner: Owner, more: int) -> None:
    waiting = Job.objects.filter(status=Status.QUEUED)
    total = waiting.count()
    wait = queries.seconds_to_clear(total)
    if total + more > settings.MAX_QUEUED:
        raise QueueFull(
            f"{total:,} jobs are waiting and the queue holds {settings.MAX_QUEUED:,}. Try again in about {wait} s.",
            wait,
        )
    own = waiting.filter(owner.quota_query).count() if total else 0
    if own + more > settings.MAX_QUEUED_PER_OWNER:
        raise QueueFull(
            f"{own:,} of your jobs are waiting; at most {settings.MAX_QUEUED_PER_OWNER:,} may. "
            f"Try again in about {wait} s.",
            wait,
        )
