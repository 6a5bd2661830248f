"""The page of a batch: its progress, its answers."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.csrf import ensure_csrf_cookie
from django.views.decorators.http import require_POST, require_safe

from mlcore import task as tasks
from webapp.jobs import queries, services
from webapp.jobs.models import Batch
from webapp.playground import lookup
from webapp.registry.services import queue_of


@require_safe
@ensure_csrf_cookie
def batch_page(request: HttpRequest, pk: UUID) -> HttpResponse:
    """A batch, its progress and its answers."""
    return render(request, "playground/batch.html", _batch_context(request, pk))


@require_safe
def batch_panel(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Progress and answers as they stand now."""
    return render(request, "playground/_batch.html", _batch_context(request, pk))


@require_POST
def cancel_batch(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Stop what is left of a batch."""
    services.cancel_batch(lookup.find(request, Batch, pk))
    return lookup.back(request, "batch", pk) or render(request, "playground/_batch.html", _batch_context(request, pk))


def _batch_context(request: HttpRequest, pk: UUID) -> dict[str, Any]:
    batch: Batch = lookup.find(request, Batch, pk)
    jobs = batch.jobs.order_by("place").only("pk", "batch", "place", "status", "summary", "answer")
    rows: list[dict[str, Any]] = [{"place": job.place, "job": job} for job in jobs]
    rows += [{"place": place, "refused": message} for place, _, message in batch.refused]
    return {
        "batch": batch,
        "task": tasks.get(batch.task),
        "progress": queries.batch_progress(batch),
        "rows": sorted(rows, key=lambda row: row["place"]),
        "token": request.GET.get("token", ""),
        "no_worker": not queries.live_workers(queue_of(batch.task)),
    }
