"""A result shown to others: only when its owner asks for it, only to read, until the owner ends it."""

from __future__ import annotations

import secrets
from uuid import UUID

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_POST, require_safe

from webapp.jobs.models import Job, Share
from webapp.playground import lookup, panels


@require_POST
def share(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Give the result an address; the same one when it has one already."""
    job: Job = lookup.find(request, Job, pk)
    if job.content.output is None:
        raise Http404
    found = job.shares.first() or Share.objects.create(job=job, token=secrets.token_urlsafe(32))
    return _answer(request, job, found)


@require_POST
def unshare(request: HttpRequest, pk: UUID) -> HttpResponse:
    """End all addresses of the result."""
    job: Job = lookup.find(request, Job, pk)
    job.shares.all().delete()
    return _answer(request, job, None)


def _answer(request: HttpRequest, job: Job, found: Share | None) -> HttpResponse:
    context = {"job": job, "shared": found, "token": request.GET.get("token", "")}
    return lookup.back(request, "job", job.pk) or render(request, "playground/_share.html", context)


@require_safe
def shared(request: HttpRequest, token: str) -> HttpResponse:
    """The result, without anything that acts on it; photos are not shown, their files are their owner's."""
    if "\0" in token:  # PostgreSQL takes none in a question
        raise Http404
    found = Share.objects.select_related("job__content", "job__version", "job__batch").filter(token=token).first()
    if found is None or found.job.content.output is None:
        raise Http404
    job = found.job
    asked = "\n".join(
        value for value in job.content.inputs.values() if isinstance(value, str) and not job.files.exists()
    )
    response = render(request, "playground/shared.html", {**panels.context(job), "asked": asked})
    response["Cache-Control"] = "no-store"
    response["Referrer-Policy"] = "no-referrer"
    return response
