"""The page of photos: caption and tags of each, twenty at once; a photo's own page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.csrf import ensure_csrf_cookie
from django.views.decorators.http import require_POST, require_safe

from mlcore import task as tasks
from mlcore.errors import InvalidInput
from mlcore.media.photo_task import PhotoTask
from webapp.jobs import files, intake, queries, services, submission
from webapp.jobs.models import UNDER_WAY, File, Job, Status
from webapp.jobs.owners import Owner, owner_for_page, owner_of
from webapp.playground import forms, panels
from webapp.playground.lookup import posted, token_query
from webapp.registry.services import ModelUnavailable, active, installed_tasks

MOST = 20  # photos of one drop
FIELD = "image"
CAPTIONS, TAGS = "image-captioning", "image-tagging"


def photo_tasks() -> list[tasks.Task]:
    """Installed tasks that look at a photo: each photo goes through all of them."""
    return [spec for spec in installed_tasks() if spec.page == PhotoTask.page]


def _answering() -> tuple[list[tasks.Task], str]:
    """Photo tasks that can answer now, and why the others cannot, in words."""
    specs: list[tasks.Task] = []
    faults: list[str] = []
    for spec in photo_tasks():
        try:
            active(spec.name, spec.default_variant)
            specs.append(spec)
        except (ModelUnavailable, InvalidInput) as error:
            faults.append(str(error))
    if not specs and not faults:
        faults.append("No model for photos is installed. Ask the operator to install one.")
    return specs, " ".join(faults)


def _page(request: HttpRequest, status: int = 200, **context: Any) -> HttpResponse:
    specs = photo_tasks()
    blank = [forms.bound(spec) for spec in specs]
    shared = {
        "unavailable": _answering()[1],
        "most": MOST,
        "spec": PhotoTask.inputs[FIELD],
        "specs": specs,
        "options": [(spec, form.options) for spec, form in zip(specs, blank, strict=True)],
        "examples": PhotoTask.examples if PhotoTask.offers_examples else [],
        "cards": [],
    }
    return render(request, "playground/photos.html", {**shared, **context}, status=status)


@require_safe
@ensure_csrf_cookie
def page(request: HttpRequest) -> HttpResponse:
    """A place to drop photos."""
    return _page(request)


@posted("drop-photos")
def run(request: HttpRequest) -> HttpResponse:
    """Take photos in and ask every task that can answer about each.

    A script sends one photo a request and gets its card, or a sentence with 422; a plain form may send twenty.
    """
    sent = request.FILES.getlist(FIELD)
    try:
        if len(sent) > MOST:
            raise InvalidInput(FIELD, f"These are {len(sent)} photos; at most {MOST} are read at once.")
        sources: list[Iterable[bytes]] = [upload.chunks() for upload in sent] or list(_example(request))
        if not sources:
            raise InvalidInput(FIELD, "A photo is missing. Choose one, or drop it here.")
        owner = owner_for_page(request)
        taken = [_submit(request, source, owner) for source in sources]
    except (InvalidInput, ModelUnavailable, submission.QueueFull) as error:
        message = error.message if isinstance(error, InvalidInput) else str(error)
        if request.htmx:  # type: ignore[attr-defined]
            return HttpResponse(message, status=422, content_type="text/plain; charset=utf-8")
        return _page(request, 422, error=message)
    if request.htmx:  # type: ignore[attr-defined]
        return render(request, "playground/_photo.html", card(taken[0]))
    return redirect("photo-page", pk=taken[0].pk) if len(taken) == 1 else redirect("photos")


def _example(request: HttpRequest) -> Iterator[Iterable[bytes]]:
    """The example that was clicked, if one was."""
    number = request.POST.get("example", "")
    if number.isdecimal() and len(number) <= 2 and int(number) < len(PhotoTask.examples):
        yield iter([Path(PhotoTask.examples[int(number)].inputs[FIELD]).read_bytes()])


def _submit(request: HttpRequest, source: Iterable[bytes], owner: Owner) -> File:
    """Store one photo and its jobs, all or none: one for each task that can answer."""
    specs, faults = _answering()
    if not specs:
        raise ModelUnavailable(faults)
    file = intake.store(source, owner=owner, field=FIELD, wanted="image")
    try:
        with transaction.atomic():
            for spec in specs:
                options = forms.read(spec, request.POST)[1]
                submission.submit(submission.check(spec.name, {FIELD: str(file.pk)}, options, owner=owner), owner=owner)
    except Exception:
        files.erase([file])
        raise
    return file


def _find(request: HttpRequest, pk: UUID) -> File:
    file = File.objects.filter(pk=pk).first()
    if file is None or not files.may_open(file, owner=owner_of(request), token=request.GET.get("token", "")):
        raise Http404
    return file


def newest_jobs(file: File) -> list[Job]:
    """The newest job of each task on a photo."""
    rows = file.jobs.select_related("content", "version").order_by("created_at")
    return list({job.task: job for job in rows}.values())


def card(file: File, jobs: Sequence[Job] | None = None, **urls: str) -> dict[str, Any]:
    """What `_photo.html` shows of a photo: its image, its answers, and what its jobs wait for."""
    jobs = newest_jobs(file) if jobs is None else jobs
    live = [job for job in jobs if job.status in UNDER_WAY]
    done = {job.task: job for job in jobs if job.status == Status.SUCCEEDED}
    addresses = {
        "page": reverse("photo-page", args=[file.pk]),
        "panel": reverse("photo-panel", args=[file.pk]),
        "cancel": reverse("photo-cancel", args=[file.pk]),
        "events": reverse("api:events") + "?" + "&".join(f"job={job.pk}" for job in live),
    }
    return {
        "photo": file,
        "image": panels.file_url(str(file.pk)),
        "caption": _caption(done.get(CAPTIONS)),
        "tags": done.get(TAGS),
        "done": list(done.values()),
        "live": live,
        "waiting": queries.waiting(live[0]) if live else None,
        "failed": [job for job in jobs if job.status == Status.FAILED],
        "cancelled": not done and any(job.status == Status.CANCELLED for job in jobs),
        "urls": addresses | urls,
    }


def _caption(job: Job | None) -> dict[str, Any] | None:
    if job is None:
        return None
    spec = tasks.get(job.task)
    output: Any = job.content.output
    strip = spec.strip(job.content.inputs, output)
    maps = [
        {"word": word["text"], "detail": cell.detail, "cells": list(_cells(word["attention"]))}
        for word, cell in zip(output["words"], strip.cells, strict=True)
    ]
    side = len(output["words"][0]["attention"]) if output["words"] else 1
    return {"job": job, "output": output, "strip": panels.strip_parts(strip), "maps": maps, "side": side}


def _cells(grid: Sequence[Sequence[float]]) -> Iterator[dict[str, Any]]:
    """Squares of a small map, the strongest opaque."""
    peak = max(max(row) for row in grid) or 1.0
    for y, row in enumerate(grid):
        for x, value in enumerate(row):
            if value >= 0.05 * peak:
                yield {"x": x, "y": y, "opacity": f"{value / peak:.2f}"}


def of_job(request: HttpRequest, job: Job) -> dict[str, Any]:
    """The card of one job alone, for those who came by the job's own address."""
    file = job.files.first()
    if file is None:
        raise Http404
    query = token_query(request)
    urls = {
        name: reverse(view, args=[job.pk]) + query
        for name, view in (("page", "job"), ("panel", "job-panel"), ("cancel", "cancel-job"))
    }
    shown = card(file, [job], **urls, events=reverse("api:job_events", args=[job.pk]) + query)
    return {**shown, "token": request.GET.get("token", "")}


def show_job(request: HttpRequest, job: Job, status: int = 200, **context: Any) -> HttpResponse:
    """The page with one job's card."""
    return _page(request, status, cards=[of_job(request, job)], **context)


@require_safe
@ensure_csrf_cookie
def photo_page(request: HttpRequest, pk: UUID) -> HttpResponse:
    """A photo and its answers; survives reload and restart."""
    return _page(request, cards=[card(_find(request, pk))])


@require_safe
def panel(request: HttpRequest, pk: UUID) -> HttpResponse:
    """The card as it stands now."""
    return render(request, "playground/_photo.html", card(_find(request, pk)))


@require_POST
def cancel(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Stop what is under way on a photo."""
    file = _find(request, pk)
    for job in newest_jobs(file):
        services.cancel(job)
    if request.htmx:  # type: ignore[attr-defined]
        return render(request, "playground/_photo.html", card(file))
    return redirect("photo-page", pk=pk)


@require_safe
def image(request: HttpRequest, pk: UUID, size: str = "large") -> HttpResponse:
    """An uploaded photo, encoded anew: nothing of the file that was sent reaches a browser."""
    try:
        data = files.shown(_find(request, pk), small=size == "small")
    except InvalidInput as error:
        raise Http404 from error
    response = HttpResponse(data, content_type="image/webp")
    response["Cache-Control"] = "private, max-age=86400, immutable"
    response["Content-Security-Policy"] = "default-src 'none'; sandbox"
    response["Content-Disposition"] = f'inline; filename="{pk}.webp"'
    return response
