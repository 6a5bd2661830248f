"""Who calls the API, and which rows the caller may open."""

from __future__ import annotations

from uuid import UUID

from django.conf import settings
from django.http import Http404, HttpRequest
from ninja.utils import check_csrf

from webapp.api.errors import NotPermitted
from webapp.jobs import keys
from webapp.jobs.models import Batch, Job
from webapp.jobs.owners import Owner, may_open, owner_of

_SAFE = ("GET", "HEAD", "OPTIONS")


def caller(request: HttpRequest) -> Owner:
    """The owner that a call acts for. Cookie-borne calls that change something are checked for CSRF."""
    if hasattr(request, "api_key"):
        return owner_of(request)
    by_cookie = settings.SESSION_COOKIE_NAME in request.COOKIES
    if by_cookie and request.method not in _SAFE and check_csrf(request):
        raise NotPermitted("This call carries a session cookie but no valid X-CSRFToken header.", 403)
    return owner_of(request)


def spend(request: HttpRequest, jobs: int) -> None:
    """Count jobs against the key that a call shows, where it shows one; QueueFull when its day is over."""
    if key := getattr(request, "api_key", None):
        keys.spend(key, jobs)


def open_job(request: HttpRequest, pk: UUID) -> Job:
    """A job that the caller may open, with its content; 404 for all others."""
    caller(request)
    job = Job.objects.select_related("content", "version", "batch").filter(pk=pk).first()
    if job is None or not may_open(request, job):
        raise Http404
    return job


def open_batch(request: HttpRequest, pk: UUID) -> Batch:
    """A batch that the caller may open; 404 for all others."""
    caller(request)
    batch = Batch.objects.filter(pk=pk).first()
    if batch is None or not may_open(request, batch):
        raise Http404
    return batch
