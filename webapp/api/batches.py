"""Batches over HTTP: many items at once, their progress, their answers as CSV."""

from __future__ import annotations

import csv
import io
import re
from functools import partial
from typing import Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from ninja import Router

from mlcore import task as tasks
from mlcore.errors import InvalidInput
from webapp.api import streams
from webapp.api.access import caller, open_batch, spend
from webapp.api.schemas import REFUSALS, BatchCreated, BatchIn, BatchOut, batch_json, jobs_json
from webapp.jobs import services, submission
from webapp.jobs.models import Batch

router = Router()
_FORMULA = re.compile(r"[\t\r]*(=|[+\-@][^\n]*[(|!])")


@router.post("/batches", response={202: BatchCreated, **REFUSALS}, tags=["batches"], summary="Run a task many times")
def create_batch(request: HttpRequest, payload: BatchIn) -> tuple[int, dict[str, Any]]:
    """Up to 1,000 items; a bad one is told at its place and refuses no other."""
    owner = caller(request)
    batch, results = submission.submit_batch(
        payload.task,
        payload.items,
        owner=owner,
        options=payload.options,
        variant=payload.variant,
        charge=partial(spend, request),
    )
    stored = list(batch.jobs.select_related("content", "version"))
    jobs = dict(zip((job.pk for job in stored), jobs_json(stored), strict=True))
    shown = [
        {"error": {"field": result.field, "message": result.message}}
        if isinstance(result, InvalidInput)
        else jobs[result.pk]
        for result in results
    ]
    return 202, {"batch": batch_json(batch), "jobs": shown}


@router.get("/batches/{uuid:batch_id}", response={200: BatchOut, **REFUSALS}, tags=["batches"], summary="Read a batch")
def get_batch(request: HttpRequest, batch_id: UUID, token: str = "") -> dict[str, Any]:
    """How the jobs of a batch stand."""
    return batch_json(open_batch(request, batch_id))


@router.post(
    "/batches/{uuid:batch_id}/cancel", response={200: BatchOut, **REFUSALS}, tags=["batches"], summary="Cancel a batch"
)
def cancel_batch(request: HttpRequest, batch_id: UUID, token: str = "") -> dict[str, Any]:
    """Stop what is left of a batch."""
    batch = open_batch(request, batch_id)
    services.cancel_batch(batch)
    return batch_json(batch)


@router.delete("/batches/{uuid:batch_id}", response={204: None, **REFUSALS}, tags=["batches"], summary="Erase a batch")
def delete_batch(request: HttpRequest, batch_id: UUID, token: str = "") -> tuple[int, None]:
    """Erase a batch with all its jobs, for good."""
    services.erase(open_batch(request, batch_id))
    return 204, None


@router.get("/batches/{uuid:batch_id}/events", tags=["batches"], summary="Follow a batch", response=REFUSALS)
def batch_events(request: HttpRequest, batch_id: UUID, token: str = "") -> StreamingHttpResponse:
    """Server-sent events: `progress` {done, total, unit}, then `done`."""
    return streams.stream(streams.follow_batch(open_batch(request, batch_id).pk))


@router.get("/batches/{uuid:batch_id}/output.csv", tags=["batches"], summary="Answers as CSV", response=REFUSALS)
def batch_csv(request: HttpRequest, batch_id: UUID, token: str = "") -> HttpResponse:
    """One row an item, in the order they were sent."""
    return csv_response(open_batch(request, batch_id))


def csv_response(batch: Batch) -> HttpResponse:
    """The answers of a batch as a CSV file; cells that a spreadsheet would run as formulas are made harmless."""
    spec = tasks.get(batch.task)
    rows: dict[int, dict[str, Any]] = {
        place: {"status": "refused", "error": message} for place, _, message in batch.refused
    }
    for job in batch.jobs.select_related("content").iterator(chunk_size=500):
        output = job.content.output
        rows[job.place] = {
            **{name: value for name, value in job.content.inputs.items() if isinstance(value, str)},
            "status": job.status,
            **(spec.columns(output) if output else {}),
            "error": job.content.error_message,
        }
    columns = list(dict.fromkeys(["place", *spec.inputs, "status", *(name for row in rows.values() for name in row)]))
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns)
    writer.writeheader()
    for place in sorted(rows):
        writer.writerow({name: _harmless(value) for name, value in {"place": place + 1, **rows[place]}.items()})
    response = HttpResponse(buffer.getvalue(), content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{spec.name}-{batch.created_at:%Y%m%d-%H%M}.csv"'
    return response


def _harmless(value: Any) -> Any:
    """A text that a spreadsheet would run as a formula gets a quote in front; "@user hello" stays as it is."""
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value
