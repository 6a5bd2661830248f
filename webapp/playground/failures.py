"""Pages for what went wrong; under /api/ the same in JSON."""

from __future__ import annotations

from typing import Any

from django.db import Error
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render

from webapp.body_limit import bare_page
from webapp.database import let_go

_WORDS = {
    400: ("This request cannot be read", "Go back, reload the page and try again."),
    403: ("This is not allowed", "The page may have been open for too long: reload it and try again."),
    404: ("There is nothing here", "The address is wrong, the result was deleted, or it belongs to somebody else."),
    413: ("This is too large", "Send less at once."),
    500: ("Something failed on our side", "It has been logged. Try again in a moment."),
}


def _failure(request: HttpRequest, status: int, said: str = "") -> HttpResponse:
    title, advice = _WORDS[status]
    advice = said or advice
    if request.path.startswith("/api/"):
        return JsonResponse({"error": {"field": None, "message": f"{title}. {advice}"}}, status=status)
    try:
        return render(request, "failure.html", {"title": title, "advice": advice}, status=status)
    except Error:  # the frame has a menu and a name, which a database that is away cannot tell
        return HttpResponse(bare_page(title, advice), status=status)
    finally:
        let_go()  # Django makes these pages in threads of its own, which see no request end


def bad_request(request: HttpRequest, exception: Any = None) -> HttpResponse:
    """400."""
    too_big = type(exception).__name__ == "RequestDataTooBig"
    return _failure(request, 413 if too_big else 400)


def forbidden(request: HttpRequest, exception: Any = None, reason: str = "") -> HttpResponse:
    """403, a failed CSRF check among them; in the words of who refused."""
    return _failure(request, 403, str(exception or ""))


def not_found(request: HttpRequest, exception: Any = None) -> HttpResponse:
    """404."""
    return _failure(request, 404)


def server_error(request: HttpRequest) -> HttpResponse:
    """500."""
    return _failure(request, 500)
