"""Server-sent events: a job's own stream, several jobs in one stream, and a batch's progress."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import UUID

from asgiref.sync import sync_to_async
from django.core.serializers.json import DjangoJSONEncoder
from django.http import StreamingHttpResponse

from webapp.jobs import queries
from webapp.jobs.events import Listener
from webapp.jobs.models import TERMINAL, Batch, Job

LONGEST_S = 600.0  # then the browser connects again, with Last-Event-ID
LOOK_S = 2.0  # the same for who waits for the end only: looking costs the database a connection
BEAT_S = 1.0  # how often the row is looked at: a place in the queue moves, or Redis is silent


def sse(event: str, data: Any, *, event_id: str = "") -> str:
    """One event in the text/event-stream format."""
    head = f"id: {event_id}\n" if event_id else ""
    return f"{head}event: {event}\ndata: {json.dumps(data, cls=DjangoJSONEncoder)}\n\n"


def stream(parts: AsyncIterator[str]) -> StreamingHttpResponse:
    """An answer that proxies neither cache nor hold back."""
    response = StreamingHttpResponse(parts, content_type="text/event-stream")
    response["Cache-Control"] = "no-store"
    response["X-Accel-Buffering"] = "no"
    return response


def _snapshot(jobs: list[UUID]) -> dict[str, dict[str, Any]]:
    rows = Job.objects.filter(pk__in=jobs).select_related("version")
    found: dict[str, dict[str, Any]] = {}
    for job in rows:
        wait = queries.waiting(job)
        found[str(job.pk)] = {
            "job": str(job.pk),
            "status": job.status,
            "waiting": wait.sentence if wait else None,
            "position": wait.position if wait else None,
            "eta_s": wait.eta_s if wait else None,
        }
    return found


async def follow_jobs(
    jobs: list[UUID], *, last: str = "", known: dict[str, dict[str, Any]] | None = None
) -> AsyncIterator[str]:
    """Events of some jobs until all are over: `state` as it changes, `delta` and `progress` as they come, `done`.

    `known` are parts of answers, by job and place, that are told first.
    """
    end = time.monotonic() + LONGEST_S
    open_jobs = {str(pk) for pk in jobs}
    told: dict[str, dict[str, Any]] = {}
    yield "retry: 1000\n\n"
    for job, parts in (known or {}).items():
        for place, part in parts.items():
            yield sse("delta", {"job": job, "index": int(place), "part": part})
    async with Listener(sorted(open_jobs), last=last.replace(".", "-")) as listener:
        while open_jobs and time.monotonic() < end:
            now = await sync_to_async(_snapshot)([UUID(pk) for pk in open_jobs])
            for pk in sorted(open_jobs):
                state = now.get(pk)
                if state is None or state["status"] in TERMINAL:
                    open_jobs.discard(pk)
                    yield sse("done", state or {"job": pk, "status": "erased"})
                elif told.get(pk) != state:
                    told[pk] = state
                    yield sse("state", state)
            if not open_jobs:
                break
            for job, event_id, event, data in await listener.wait(BEAT_S):
                if event in ("delta", "progress", "rewind"):
                    yield sse(event, {"job": job, **data}, event_id=event_id)


async def follow_batch(batch: Batch) -> AsyncIterator[str]:
    """`progress` of a batch as it changes, then `done`."""
    end = time.monotonic() + LONGEST_S
    progress: Callable[..., Any] = sync_to_async(queries.batch_progress)
    told: dict[str, Any] = {}
    yield "retry: 1000\n\n"
    while time.monotonic() < end:
        now = await progress(batch)
        if now != told:
            told = now
            yield sse("progress", {**now, "unit": "items"})
        if now["done"] >= now["total"]:
            yield sse("done", now)
            return
        await asyncio.sleep(BEAT_S / 2)


async def wait_for(job: UUID, seconds: float) -> None:
    """Come back when a job is over or the time is."""
    end = time.monotonic() + seconds
    # from the first event on: what was written before this began to listen is not missed
    async with Listener([str(job)], last="0-0") as listener:
        while (left := end - time.monotonic()) > 0:
            look = time.monotonic() + min(left, LOOK_S)
            while (left := look - time.monotonic()) > 0 and (told := await listener.wait(left)):
                if any(event == "done" for _, _, event, _ in told):
                    return
            if await Job.objects.filter(pk=job, status__in=TERMINAL).aexists():
                return
