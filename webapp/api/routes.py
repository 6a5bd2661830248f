"""The API's addresses. Views are thin: services decide, schemas shape."""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections.abc import AsyncIterator
from functools import partial
from typing import Any
from uuid import UUID

from django.core import signing
from django.db.models import Q
from django.http import Http404, HttpRequest, StreamingHttpResponse
from ninja import Header, NinjaAPI, Query

from mlcore import task as tasks
from mlcore.errors import InvalidInput
from mlcore.fields import readable
from webapp.api import batches, errors, streams, uploads
from webapp.api.access import caller, open_job, spend
from webapp.api.schemas import (
    REFUSALS,
    JobIn,
    JobOut,
    JobPage,
    TaskOut,
    job_json,
    jobs_json,
)
from webapp.database import asked
from webapp.jobs import events as event_log
from webapp.jobs import services, submission
from webapp.jobs.models import Job, Status
from webapp.registry.models import ModelVersion
from webapp.registry.services import ModelUnavailable, active

api = NinjaAPI(
    title="Unroll",
    version="1",
    urls_namespace="api",
    parser=errors.JSONParser(),
    description="Run recurrent-network models: create a job, then wait for it, follow its events or fetch it.",
)
errors.install(api)
api.add_router("", batches.router)
api.add_router("", uploads.router)

_LONGEST_WAIT_S = 30
_WORKER_BRINGS_S = 2.0  # what was written of a job that is stopped comes at the worker's next step
_PAGE = 50
_REPEATS = "repeats give the same job; for an API key, an account or a browser session, at most 200 characters"
_IGNORED_KEY = "Idempotency-Key was ignored: it needs a signed-in user, an API key or a browser session."


def _wait_seconds(prefer: str | None) -> int:
    found = re.search(r"\bwait\s*=\s*(\d{1,6})", prefer or "")
    return min(int(found[1]), _LONGEST_WAIT_S) if found else 0


def _create(request: HttpRequest, payload: JobIn, key: str | None) -> tuple[UUID, list[str]]:
    owner = caller(request)
    if key and (len(key) > 200 or "\0" in key):
        raise InvalidInput("Idempotency-Key", "A key has at most 200 characters, none of them NUL.")
    if key and not owner.is_nobody and (earlier := submission.repeated(owner, key, payload.dict())):
        return earlier.pk, []
    checked = submission.check(payload.task, payload.inputs, payload.options, payload.variant, owner=owner)
    charge = partial(spend, request)
    if key and not owner.is_nobody:
        return submission.submit_once(checked, owner=owner, key=key, body=payload.dict(), charge=charge).pk, []
    return submission.submit(checked, owner=owner, charge=charge).pk, [_IGNORED_KEY] if key else []


def _read(pk: UUID, notices: list[str]) -> tuple[Job, dict[str, Any]]:
    """A job as it stands now; Http404 where it was erased meanwhile."""
    job = Job.objects.select_related("content", "version").filter(pk=pk).first()
    if job is None:
        raise Http404
    return job, job_json(job, notices=notices)


@api.post("/jobs", response={200: JobOut, 202: JobOut, **REFUSALS}, tags=["jobs"], summary="Run a task")
async def create_job(
    request: HttpRequest,
    payload: JobIn,
    prefer: str | None = Header(None, description="`wait=N`: answer when done, after N seconds (30) at most"),
    idempotency_key: str | None = Header(None, alias="Idempotency-Key", description=_REPEATS),
) -> tuple[int, Any]:
    """202 with the queued job; 200 where it was done within the time that was waited; with `stream` its events."""
    pk, notices = await asked(_create)(request, payload, idempotency_key)
    if payload.stream:
        return streams.stream(_told(pk, notices))  # type: ignore[return-value]
    if seconds := _wait_seconds(prefer):
        await streams.wait_for(pk, seconds)
    job, shown = await asked(_read)(pk, notices)
    return (200 if job.is_terminal else 202), shown


async def _told(pk: UUID, notices: list[str]) -> AsyncIterator[str]:
    """`job` first, then its events from the first one on, at last `result`: the job with its output."""
    yield streams.sse("job", (await asked(_read)(pk, notices))[1])
    async for event in streams.follow_jobs([pk], last="0.0", longest_s=math.inf):  # nobody connects to a POST again
        yield event
    result = await _result(pk)
    if result is not None:
        yield streams.sse("result", result)


async def _result(pk: UUID) -> dict[str, Any] | None:
    """A job that is over, with what its worker brings a moment after it was stopped; None where it is not, or gone."""
    end = time.monotonic() + _WORKER_BRINGS_S
    while True:
        try:
            job, shown = await asked(_read)(pk, [])
        except Http404:
            return None
        brought = job.status != Status.CANCELLED or job.started_at is None or shown["output"] is not None
        if brought or not tasks.get(job.task).streams or time.monotonic() > end:
            return shown if job.is_terminal else None
        await asyncio.sleep(0.05)


@api.get("/jobs", response={200: JobPage, **REFUSALS}, tags=["jobs"], summary="List your jobs")
def list_jobs(request: HttpRequest, cursor: str = "", task: str = "", status: str = "") -> dict[str, Any]:
    """Your jobs, newest first, 50 a page; jobs of batches are listed under their batch."""
    rows = Job.objects.filter(caller(request).query, batch=None).select_related("content", "version")
    if task:
        rows = rows.filter(task=tasks.get(task).name)
    if status:
        if status not in Status.values:
            raise InvalidInput("status", f"There is no status {readable(status)!r}. Known: {', '.join(Status.values)}.")
        rows = rows.filter(status=status)
    if cursor:
        created, pk = _open_cursor(cursor)
        older = Q(created_at__lt=created) | Q(created_at=created, pk__lt=pk)
        rows = rows.filter(older, created_at__lte=created)  # said twice: the index knows this one only
    found = list(rows.order_by("-created_at", "-pk")[: _PAGE + 1])
    more = found[_PAGE - 1] if len(found) > _PAGE else None
    return {
        "jobs": jobs_json(found[:_PAGE]),
        "next": signing.dumps([more.created_at.isoformat(), more.pk.hex], salt="cursor") if more else None,
    }


def _open_cursor(cursor: str) -> list[str]:
    try:
        return signing.loads(cursor, salt="cursor")  # type: ignore[no-any-return]
    except signing.BadSignature as error:
        raise InvalidInput("cursor", "This cursor was not given by this server. Start without one.") from error


@api.get("/jobs/{uuid:job_id}", response={200: JobOut, **REFUSALS}, tags=["jobs"], summary="Read a job")
def get_job(request: HttpRequest, job_id: UUID, token: str = "") -> dict[str, Any]:
    """A job as it stands now."""
    return job_json(open_job(request, job_id))


@api.post("/jobs/{uuid:job_id}/cancel", response={200: JobOut, **REFUSALS}, tags=["jobs"], summary="Cancel a job")
def cancel_job(request: HttpRequest, job_id: UUID, token: str = "") -> dict[str, Any]:
    """Stop a job; one that is over stays as it is."""
    job = open_job(request, job_id)
    services.cancel(job)
    return _read(job.pk, [])[1]


@api.delete("/jobs/{uuid:job_id}", response={204: None, **REFUSALS}, tags=["jobs"], summary="Erase a job")
def delete_job(request: HttpRequest, job_id: UUID, token: str = "") -> tuple[int, None]:
    """Erase a job with its inputs and output, for good."""
    services.erase(open_job(request, job_id))
    return 204, None


@api.get("/jobs/{uuid:job_id}/events", tags=["jobs"], summary="Follow a job", response=REFUSALS)
def job_events(
    request: HttpRequest,
    job_id: UUID,
    token: str = "",
    last_event_id: str | None = Header(None, alias="Last-Event-ID"),
) -> StreamingHttpResponse:
    """Server-sent events: `state`, `delta`, `progress`, `rewind`, `done`; of a growing text from its beginning.

    A delta's `part` says with `start` how many tokens of this `index` come before its own: put each at its place, for
    what came already may come again. `rewind` says that another worker took the text up; its deltas go on at their
    `start`. A reader that comes back sends the last id as Last-Event-ID.
    """
    job = open_job(request, job_id)
    last = last_event_id if last_event_id and re.fullmatch(r"\d{1,9}\.\d{1,18}", last_event_id) else ""
    if not tasks.get(job.task).streams or (last and event_log.holds(job.pk, last)):
        return streams.stream(streams.follow_jobs([job.pk], last=last))
    # the row's own partial first: the events may have been lost with Redis
    known = (job.content.partial or {}).get("parts", {})
    return streams.stream(streams.follow_jobs([job.pk], last="0.0", known={str(job.pk): known}))


@api.get("/events", tags=["jobs"], summary="Follow several jobs in one stream", response=REFUSALS)
def events(request: HttpRequest, job: list[UUID] = Query(..., max_length=100)) -> StreamingHttpResponse:  # noqa: B008
    """As for one job; each event names its `job`."""
    return streams.stream(streams.follow_jobs([open_job(request, pk).pk for pk in job]))


@api.get("/tasks", response=list[TaskOut], tags=["tasks"], summary="List the tasks")
def list_tasks(request: HttpRequest) -> list[dict[str, Any]]:
    """What this server can do, with JSON Schemas."""
    return [_task_json(tasks.get(name)) for name in tasks.names()]


def _task_json(spec: tasks.Task) -> dict[str, Any]:
    versions = ModelVersion.objects.filter(task=spec.name, status=ModelVersion.Status.ACTIVE)
    try:
        licence: str | None = active(spec.name, spec.default_variant).licence
    except (ModelUnavailable, InvalidInput):
        licence = None
    return {
        "name": spec.name,
        "aliases": list(spec.aliases),
        "title": spec.title,
        "summary": spec.summary,
        "caution": spec.caution,
        "variants": sorted(version.variant for version in versions),
        "default_variant": spec.default_variant,
        "available": licence is not None,
        "licence": licence,
        "schemas": spec.schemas(),
    }
