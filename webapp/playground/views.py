"""Home, task pages, results, batches. Each view finds, asks a service, shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.csrf import ensure_csrf_cookie
from django.views.decorators.http import require_GET, require_POST

from mlcore import task as tasks
from mlcore.errors import InvalidInput
from webapp.jobs import files, queries, services
from webapp.jobs.models import Batch, File, Job
from webapp.jobs.owners import Owner, may_open, owner_for_page, owner_of
from webapp.playground import forms, panels, uploads
from webapp.registry.services import ModelUnavailable, active, installed_tasks


def _task(page: str) -> tasks.Task:
    for spec in map(tasks.get, tasks.names()):
        if page in (spec.page, spec.name, *spec.aliases):
            return spec
    raise Http404


def _unavailable(spec: tasks.Task) -> str:
    try:
        active(spec.name, spec.default_variant)
    except (ModelUnavailable, InvalidInput) as error:
        return str(error)
    return ""


def _page(request: HttpRequest, spec: tasks.Task, status: int = 200, **context: Any) -> HttpResponse:
    shared = {"task": spec, "unavailable": _unavailable(spec), "max_lines": settings.MAX_BATCH_ITEMS}
    return render(request, "playground/task.html", {**shared, **context}, status=status)


@require_GET
def home(request: HttpRequest) -> HttpResponse:
    """What Unroll can do."""
    shown = [(spec, _unavailable(spec)) for spec in installed_tasks()]
    return render(request, "playground/home.html", {"tasks": shown})


@require_GET
@ensure_csrf_cookie
def task_page(request: HttpRequest, page: str) -> HttpResponse:
    """An empty form, an empty result."""
    spec = _task(page)
    return _page(request, spec, form=forms.bound(spec))


@require_POST
def run(request: HttpRequest, page: str) -> HttpResponse:
    """Submit the form: the result panel for htmx, the result's address for everybody else."""
    spec = _task(page)
    inputs, options = forms.read(spec, request.POST)
    try:
        owner = owner_for_page(request)
        for name in spec.file_inputs:
            inputs[name] = _store(request, spec, name, owner)
        job = services.submit(services.check(spec.name, inputs, options, owner=owner), owner=owner)
    except (InvalidInput, ModelUnavailable, services.QueueFull) as error:
        return _refused(request, spec, inputs, options, error)
    if not request.htmx:  # type: ignore[attr-defined]
        return redirect("job", pk=job.pk)
    response = render(request, "playground/_panel.html", panels.context(_find(request, Job, job.pk)))
    response["HX-Push-Url"] = reverse("job", args=[job.pk])
    return response


def _store(request: HttpRequest, spec: tasks.Task, name: str, owner: Owner) -> str | None:
    """The id of the file that the form sent, or of the example's own where a chip was clicked."""
    upload, example = request.FILES.get(name), request.POST.get("example", "")
    if upload is not None:
        chunks = upload.chunks()
    elif example.isdecimal() and int(example) < len(spec.examples):
        chunks = iter([Path(spec.examples[int(example)].inputs[name]).read_bytes()])
    else:
        return None
    return str(files.store(chunks, owner=owner, field=name).pk)


def _refused(
    request: HttpRequest, spec: tasks.Task, inputs: dict[str, Any], options: dict[str, Any], error: Exception
) -> HttpResponse:
    field = error.field if isinstance(error, InvalidInput) else ""
    message = error.message if isinstance(error, InvalidInput) else str(error)
    form = forms.bound(spec, inputs, options, errors={field: message})
    if request.htmx:  # type: ignore[attr-defined]
        return render(request, "playground/refused.html", {"task": spec, "form": form})
    return _page(request, spec, 422, form=form)


@require_POST
def run_batch(request: HttpRequest, page: str) -> HttpResponse:
    """Submit a list of texts; the batch has its own page."""
    spec = _task(page)
    try:
        texts = uploads.read_texts(request.POST.get("lines", ""), request.FILES.get("file"), column=spec.many)
        items = [{"inputs": {spec.many: text}} for text in texts]
        batch, _ = services.submit_batch(spec.name, items, owner=owner_for_page(request))
    except (InvalidInput, ModelUnavailable, services.QueueFull) as error:
        message = error.message if isinstance(error, InvalidInput) else str(error)
        lines = request.POST.get("lines", "")
        return _page(request, spec, 422, form=forms.bound(spec), batch_error=message, lines=lines)
    return redirect("batch", pk=batch.pk)


@require_GET
def photo(request: HttpRequest, pk: UUID) -> HttpResponse:
    """An uploaded photo, encoded anew: nothing of the file that was sent reaches a browser."""
    file = File.objects.filter(pk=pk).first()
    if file is None or not files.may_open(file, owner=owner_of(request), token=request.GET.get("token", "")):
        raise Http404
    try:
        data = files.shown(file)
    except InvalidInput as error:
        raise Http404 from error
    response = HttpResponse(data, content_type="image/webp")
    response["Cache-Control"] = "private, max-age=86400, immutable"
    response["Content-Security-Policy"] = "default-src 'none'; sandbox"
    response["Content-Disposition"] = f'inline; filename="{pk}.webp"'
    return response


def _find(request: HttpRequest, model: type[Any], pk: UUID) -> Any:
    related = ("content", "version", "batch") if model is Job else ()
    row = model.objects.select_related(*related).filter(pk=pk).first()
    if row is None or not may_open(request, row):
        raise Http404
    return row


@require_GET
@ensure_csrf_cookie
def job_page(request: HttpRequest, pk: UUID) -> HttpResponse:
    """The task's page with a job's inputs and its result; survives reload and restart."""
    job: Job = _find(request, Job, pk)
    spec = tasks.get(job.task)
    form = forms.bound(spec, job.content.inputs, job.content.options)
    return _page(request, spec, form=form, **panels.context(job, token=request.GET.get("token", "")))


@require_GET
def job_panel(request: HttpRequest, pk: UUID) -> HttpResponse:
    """The result as it stands now."""
    return _show_panel(request, pk)


def _show_panel(request: HttpRequest, pk: UUID) -> HttpResponse:
    context = panels.context(_find(request, Job, pk), token=request.GET.get("token", ""))
    return render(request, "playground/_panel.html", context)


@require_POST
def cancel_job(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Stop a job and show how it stands."""
    services.cancel(_find(request, Job, pk))
    return _back(request, "job", pk) or _show_panel(request, pk)


def _back(request: HttpRequest, name: str, pk: UUID) -> HttpResponseRedirect | None:
    """Without htmx, go back to the row's own page."""
    if request.htmx:  # type: ignore[attr-defined]
        return None
    token = request.GET.get("token", "")
    return HttpResponseRedirect(reverse(name, args=[pk]) + (f"?token={token}" if token else ""))


@require_GET
@ensure_csrf_cookie
def batch_page(request: HttpRequest, pk: UUID) -> HttpResponse:
    """A batch, its progress and its answers."""
    return render(request, "playground/batch.html", _batch_context(request, pk))


@require_GET
def batch_panel(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Progress and answers as they stand now."""
    return render(request, "playground/_batch.html", _batch_context(request, pk))


@require_POST
def cancel_batch(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Stop what is left of a batch."""
    services.cancel_batch(_find(request, Batch, pk))
    return _back(request, "batch", pk) or render(request, "playground/_batch.html", _batch_context(request, pk))


def _batch_context(request: HttpRequest, pk: UUID) -> dict[str, Any]:
    batch: Batch = _find(request, Batch, pk)
    jobs = batch.jobs.order_by("place").only("pk", "place", "status", "summary", "answer")
    rows: list[dict[str, Any]] = [{"place": job.place, "job": job} for job in jobs]
    rows += [{"place": place, "refused": message} for place, _, message in batch.refused]
    return {
        "batch": batch,
        "task": tasks.get(batch.task),
        "progress": queries.batch_progress(batch),
        "rows": sorted(rows, key=lambda row: row["place"]),
        "token": request.GET.get("token", ""),
        "no_worker": not queries.live_workers(tasks.get(batch.task).queue),
    }
