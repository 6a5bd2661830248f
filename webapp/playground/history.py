"""What somebody asked before: filter, read again, delete."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.core.paginator import Paginator
from django.db.models import CharField, Value
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST, require_safe

from mlcore import task as tasks
from webapp.jobs import queries, services
from webapp.jobs.models import Batch, File, Job, Status
from webapp.jobs.owners import owner_of, owner_who_reads
from webapp.playground import forms

_PAGE = 30
_KINDS = {"job": Job, "batch": Batch, "photo": File}


@require_safe
def history(request: HttpRequest) -> HttpResponse:
    """Jobs and batches of the visitor, newest first."""
    owner = owner_who_reads(request)
    task, status = request.GET.get("task", ""), request.GET.get("status", "")
    words = request.GET.get("q", "").replace("\0", "")[:100]
    jobs = Job.objects.filter(owner.query, batch=None)
    batches = Batch.objects.filter(owner.query)
    if task in tasks.names():
        jobs, batches = jobs.filter(task=task), batches.filter(task=task)
    if words:
        jobs = jobs.filter(summary__icontains=words)
    if status in Status.values:
        jobs = jobs.filter(status=status)
    if words or status in Status.values:
        batches = batches.none()
    columns = ("pk", "created_at", "kind")
    rows = _keys(jobs, "job").union(_keys(batches, "batch"), all=True).order_by("-created_at").values_list(*columns)
    page = Paginator(rows, _PAGE).get_page(request.GET.get("page"))
    chosen = {"task": task, "status": status, "q": words}
    context = {
        "page": page,
        "rows": _load(list(page.object_list)),
        "tasks": [tasks.get(name) for name in tasks.names()],
        "statuses": Status.choices,
        "chosen": chosen,
        "query": forms.query_of(chosen),
        "filtered": bool(task or status or words),
    }
    return render(request, "playground/history.html", context)


def _keys(rows, kind: str):  # type: ignore[no-untyped-def]
    return rows.order_by().annotate(kind=Value(kind, output_field=CharField())).values_list("pk", "created_at", "kind")


def _load(keys: list[tuple[UUID, object, str]]) -> list[dict[str, Any]]:
    jobs = Job.objects.prefetch_related("files").in_bulk([pk for pk, _, kind in keys if kind == "job"])
    batches = Batch.objects.in_bulk([pk for pk, _, kind in keys if kind == "batch"])
    progress = queries.progress_of(list(batches.values()))
    rows: list[dict[str, Any]] = []
    for pk, _, kind in keys:
        row = jobs.get(pk) if kind == "job" else batches.get(pk)
        if row is None:  # erased meanwhile
            continue
        shown = {"kind": kind, "row": row, "task": tasks.get(row.task)}
        if isinstance(row, Batch):
            rows.append({**shown, "progress": progress[row.pk]})
        elif photo := next((file for file in row.files.all() if file.media == "image"), None):
            _add_photo(rows, photo, row)
        else:
            rows.append(shown)
    return rows


def _add_photo(rows: list[dict[str, Any]], photo: File, job: Job) -> None:
    """One row a photo, with the answers of all its jobs on this page."""
    answer = job.answer or job.get_status_display()
    for row in rows:
        if row["kind"] == "photo" and row["row"].pk == photo.pk:
            row["answers"].insert(0, answer)
            return
    rows.append({"kind": "photo", "row": photo, "task": tasks.get(job.task), "answers": [answer]})


@require_POST
def delete(request: HttpRequest) -> HttpResponse:
    """Erase the rows that were ticked; what is not the visitor's is passed over."""
    owner = owner_of(request)
    for value in request.POST.getlist("row")[:500]:
        kind, _, pk = value.partition(":")
        try:
            found = _KINDS[kind].objects.filter(owner.query, pk=UUID(pk)).first()  # type: ignore[attr-defined]
        except (KeyError, ValueError):
            continue
        if isinstance(found, File):
            for job in found.jobs.filter(owner.query):
                services.erase(job)
        elif found is not None:
            services.erase(found)
    return redirect("history")
