"""Rows as pages find them: only those that the visitor may open."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.http import Http404, HttpRequest, HttpResponseRedirect
from django.urls import reverse

from webapp.jobs.models import Job
from webapp.jobs.owners import may_open


def find(request: HttpRequest, model: type[Any], pk: UUID) -> Any:
    """A job or batch of the visitor's, or one whose token the address carries; 404 otherwise."""
    related = ("content", "version", "batch") if model is Job else ()
    row = model.objects.select_related(*related).filter(pk=pk).first()
    if row is None or not may_open(request, row):
        raise Http404
    return row


def token_query(request: HttpRequest) -> str:
    """The address's token as a query, or nothing."""
    token = request.GET.get("token", "")
    return f"?token={token}" if token else ""


def back(request: HttpRequest, name: str, pk: UUID) -> HttpResponseRedirect | None:
    """Without htmx, go back to the row's own page."""
    if request.htmx:  # type: ignore[attr-defined]
        return None
    return HttpResponseRedirect(reverse(name, args=[pk]) + token_query(request))
