"""What holds for every answer: static files, a content security policy, and who may come in at all.

Each of these runs on the event loop: one that could not would hold a thread for as long as an answer takes, and
answers that wait for a job take long.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.decorators import sync_and_async_middleware
from whitenoise.middleware import WhiteNoiseMiddleware

from webapp.shaping import Handler, shaping

POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)
# the admin's own scripts (Alpine, htmx) build functions of attributes, and its theme stands in a style element
ADMIN_POLICY = f"{POLICY}; script-src 'self' 'unsafe-eval'; style-src 'self' 'unsafe-inline'"
_API_PAGE = "/api/v1/docs"  # for people, like the site's own
_OPEN_TO_ALL = ("/accounts/", "/static/", "/healthz/", "/metrics", "/setup/", "/shared/")


class StaticFiles(WhiteNoiseMiddleware):  # type: ignore[misc]
    """WhiteNoise, which knows threads only, on the event loop."""

    async_capable = True

    def __init__(self, get_response: Handler) -> None:
        super().__init__(get_response)
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        """The file of this path, else what the views answer."""
        path = request.path_info
        file = self.find_file(path) if self.autorefresh else self.files.get(path)
        if not iscoroutinefunction(self):
            return self.get_response(request) if file is None else self.serve(file, request)
        return self.get_response(request) if file is None else self._serve(file, request)

    async def _serve(self, file: Any, request: HttpRequest) -> HttpResponseBase:
        return self.serve(file, request)  # type: ignore[no-any-return]


@shaping
def content_security_policy(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    """Nothing from elsewhere, no inline script; inline style in the admin only."""
    policy = ADMIN_POLICY if request.path_info.startswith("/admin/") else POLICY
    response.headers.setdefault("Content-Security-Policy", policy)
    response.headers.setdefault("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
    return response


@sync_and_async_middleware
def signed_in_only(get_response: Handler) -> Handler:
    """With ACCESS=signed-in everybody signs in first; programs get 401 in the API's shape."""

    def private(request: HttpRequest) -> bool:
        return settings.ACCESS == "signed-in" and not request.path.startswith(_OPEN_TO_ALL)

    if not iscoroutinefunction(get_response):
        return lambda request: (
            _refuse(request) if private(request) and not request.user.is_authenticated else get_response(request)
        )

    async def middleware(request: HttpRequest) -> HttpResponseBase:
        if private(request) and not (await request.auser()).is_authenticated:
            return _refuse(request)
        return await get_response(request)  # type: ignore[no-any-return]

    return middleware


def _refuse(request: HttpRequest) -> HttpResponse:
    if request.path.startswith("/api/") and request.path != _API_PAGE:
        message = "This server asks everybody to sign in."
        return JsonResponse({"error": {"field": None, "message": message}}, status=401)
    if request.headers.get("HX-Request"):  # a part of a page, which the sign-in page is not
        return HttpResponse("You are signed out. Reload the page and sign in.", "text/plain; charset=utf-8", 401)
    after = request.get_full_path() if request.method in ("GET", "HEAD") else reverse("home")
    return redirect(f"{reverse('login')}?{urlencode({'next': after})}")
