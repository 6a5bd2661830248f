"""Server-sent events: a job's own stream, several jobs in one stream, and a batch's progress."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

from django.core.serializers.json import DjangoJSONEncoder
from django.http import StreamingHttpResponse

from mlcore import task as tasks
from webapp.database import asked
from webapp.jobs import queries
from webapp.jobs.events import Listener
from webapp.jobs.models import TERMINAL, Batch, Job, JobContent

LONGEST_S = 600.0  # then the browser connects again, with Last-Event-ID
LOOK_S = 2.0  # the same for who waits for the end only: looking costs the database a connection
_TOLD = ("delta", "progress", "rewind")
PING_S = 15.0  # between comments, which nobody reads: proxies cut what says nothing
_PING = ": still here\n\n"
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
    rows = list(Job.objects.filter(pk__in=jobs).select_related("version"))
    waits = queries.waiting_all(rows)
    found: dict[str, dict[str, Any]] = {}
    for job in rows:
        wait = waits[job.pk]
        found[str(job.pk)] = {
            "job": str(job.pk),
            "status": job.status,
            "waiting": wait.sentence if wait else None,
            "position": wait.position if wait else None,
            "eta_s": wait.eta_s if wait else None,
        }
    return found


def _stored(jobs: list[UUID]) -> dict[str, dict[str, Any]]:
    """The parts of their answers that the rows hold, of tasks whose text grows."""
    rows = JobContent.objects.filter(job__in=jobs, partial__isnull=False).values_list("job", "job__task", "partial")
    return {str(pk): (partial or {}).get("parts", {}) for pk, task, partial in rows if tasks.get(task).streams}


def _deltas(known: dict[str, dict[str, Any]]) -> list[str]:
    """Parts of answers, by job and place, as events."""
    return [
        sse("delta", {"job": job, "index": int(place), "part": part})
        for job, parts in known.items()
        for place, part in parts.items()
    ]


async def follow_jobs(
    jobs: list[UUID],
    *,
    last: str = "",
    known: dict[str, dict[str, Any]] | None = None,
    longest_s: float | None = None,
) -> AsyncIterator[str]:
    """Events of some jobs until all are over: `state` as it changes, `delta` and `progress` as they come, `done`.

    `known` are parts of answers, by job and place, that are told first. The rows are looked at once a second and when
    an event says that they changed; where Redis is silent, what grows is told from the rows.
    """
    end, look, ping = time.monotonic() + (LONGEST_S if longest_s is None else longest_s), 0.0, time.monotonic() + PING_S
    open_jobs = {str(pk) for pk in jobs}
    told: dict[str, dict[str, Any]] = {}
    parts = dict(known or {})
    yield "retry: 1000\n\n"
    for event in _deltas(parts):
        yield event
    async with Listener(sorted(open_jobs), last=last.replace(".", "-")) as listener:
        while open_jobs and time.monotonic() < end:
            if time.monotonic() >= look:
                look = time.monotonic() + BEAT_S
                if look > ping:
                    ping = look + PING_S
                    yield _PING
                now = await asked(_snapshot)([UUID(pk) for pk in open_jobs])
                over = {pk for pk in open_jobs if pk not in now or now[pk]["status"] in TERMINAL}
                while over and (rest := await listener.wait(0.001)):  # what came before the end is told before it
                    for event in _heard(rest):
                        yield event
                for pk in sorted(over):
                    yield sse("done", now.get(pk) or {"job": pk, "status": "erased"})
                open_jobs -= over
                for pk in sorted(open_jobs):
                    if told.get(pk) != now[pk]:
                        told[pk] = now[pk]
                        yield sse("state", now[pk])
                if not listener.is_deaf:
                    await listener.begin_anew()
                else:
                    stored = await asked(_stored)([UUID(pk) for pk in open_jobs])
                    for event in _deltas({pk: found for pk, found in stored.items() if parts.get(pk) != found}):
                        yield event
                    parts |= stored
            elif found := await listener.wait(look - time.monotonic()):
                for event in _heard(found):
                    yield event
                if any(kind not in _TOLD for _, _, kind, _ in found):
                    look = 0.0  # `state`, `done`: the row says more


def _heard(found: list[tuple[str, str, str, Any]]) -> list[str]:
    """What a listener found, as events."""
    return [sse(kind, {"job": job, **data}, event_id=event_id) for job, event_id, kind, data in found if kind in _TOLD]


def _progress(pk: UUID) -> dict[str, Any] | None:
    """How far a batch is; None once it is erased. Its items may be erased one by one, too."""
    batch = Batch.objects.filter(pk=pk).first()
    return queries.batch_progress(batch) if batch else None


def _is_over(job: UUID) -> bool:
    return not Job.objects.filter(pk=job).exclude(status__in=TERMINAL).exists()


async def follow_batch(batch: UUID) -> AsyncIterator[str]:
    """`progress` of a batch as it changes, then `done`."""
    end, ping = time.monotonic() + LONGEST_S, time.monotonic() + PING_S
    told: dict[str, Any] = {}
    yield "retry: 1000\n\n"
    while time.monotonic() < end:
        now = await asked(_progress)(batch)
        if now is None:
            yield sse("done", {"status": "erased"})
            return
        if now != told:
            told = now
            yield sse("progress", {**now, "unit": "items"})
        if now["done"] >= now["total"]:
            yield sse("done", now)
            return
        if time.monotonic() > ping:
            ping = time.monotonic() + PING_S
            yield _PING
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
            if await asked(_is_over)(job):
                return
