"""Rows as pages find them: only those that the visitor may open."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any
from uuid import UUID

from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.urls import reverse

from webapp.jobs.models import Job
from webapp.jobs.owners import may_open

View = Callable[..., HttpResponse]


def posted(page: str, *arguments: str) -> Callable[[View], View]:
    """POST only; who opens such an address (after signing in, or with Enter in the address bar) is led to its page."""

    def decorate(view: View) -> View:
        @wraps(view)
        def answer(request: HttpRequest, **named: Any) -> HttpResponse:
            if request.method == "POST":
                return view(request, **named)
            if request.method not in ("GET", "HEAD"):
                return HttpResponseNotAllowed(["GET", "HEAD", "POST"])
            return HttpResponseRedirect(reverse(page, kwargs={name: named[name] for name in arguments}))

        return answer

    return decorate


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


def to_page(request: HttpRequest, name: str, pk: UUID) -> HttpResponseRedirect:
    """To the row's own page, its token kept."""
    return HttpResponseRedirect(reverse(name, args=[pk]) + token_query(request))


def back(request: HttpRequest, name: str, pk: UUID) -> HttpResponseRedirect | None:
    """Without htmx, go back to the row's own page."""
    return None if request.htmx else to_page(request, name, pk)  # type: ignore[attr-defined]
